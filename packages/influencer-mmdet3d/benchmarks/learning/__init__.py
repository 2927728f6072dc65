"""Learning benchmark: criteria compared on one network, the same rooms, batches and budget. `../learn.py` runs it."""
