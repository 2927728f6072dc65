"""The mask part of the criterion as fused GPU kernels (Triton), behind the same functions as the plain path.

`choose` decides between the two and imports nothing of Triton; the other modules are imported once it has.
"""
