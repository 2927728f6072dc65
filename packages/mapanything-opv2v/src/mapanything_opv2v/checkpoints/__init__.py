"""Checkpoints: how they are stored and read, and what they say about the run that wrote them."""
