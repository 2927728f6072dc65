"""Samples in the formats of other tools."""
