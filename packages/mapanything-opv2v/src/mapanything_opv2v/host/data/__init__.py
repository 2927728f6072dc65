"""MapAnything's dataset classes for OPV2V, and what tells them epoch and number of steps."""
