"""From frames to samples: which vehicles and cameras, in which order, and their views read from files."""
