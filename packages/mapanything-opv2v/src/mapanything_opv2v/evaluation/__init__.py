"""Predictions of a frame against the truth: figures, alignment, clouds, summaries. Knows files, not models."""
