"""The adapter to OneFormer3D: its criterion, and the commands that start, check and repair its runs."""
