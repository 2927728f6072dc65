"""Rendered rooms in the x3 layout."""
