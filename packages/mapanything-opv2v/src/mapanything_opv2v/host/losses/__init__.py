"""The losses that a MapAnything criterion string can name."""
