"""From answers to numbers."""
