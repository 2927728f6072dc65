"""`mapanything-opv2v demo`: a synthetic town from raw files to panoramas, and a tiny model trained on it."""
