"""A small double of RoboRefer, from the facts of its interface: names, signatures, shapes and defects.

It is copied to a temporary folder, where `datasets_mixture.py` is added as published (a SyntaxError) or
corrected.
"""
