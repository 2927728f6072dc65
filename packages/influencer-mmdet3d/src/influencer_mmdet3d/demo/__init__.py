"""A small query segmentor on plain torch, trained with and without Hungarian matching; runs on any machine."""
