"""MapAnything's own training, started by this package, and how it deviates from it."""
