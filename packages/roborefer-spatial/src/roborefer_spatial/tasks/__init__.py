"""Task sets from an x3 tree."""
