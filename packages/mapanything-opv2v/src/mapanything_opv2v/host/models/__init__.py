"""Models: from a checkpoint, with vehicle identity, from samples to predictions."""
