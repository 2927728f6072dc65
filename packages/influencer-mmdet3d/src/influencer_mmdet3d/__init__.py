"""Matching-free instance segmentation for OneFormer3D."""

from importlib.metadata import version

__version__ = version("influencer-mmdet3d")
