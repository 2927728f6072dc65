"""Panoramas from rigs of pinhole cameras: colour by cached tables, range by z-buffered splats."""

from mapanything_opv2v.panorama.agent import load_panorama
from mapanything_opv2v.panorama.builder import Panorama, PanoramaBuilder, fill_holes
from mapanything_opv2v.panorama.cache import PanoramaCache, Prebuilt, prebuild
from mapanything_opv2v.panorama.options import PanoramaOptions
from mapanything_opv2v.panorama.overlap import agent_agreement, overlap_agreement
from mapanything_opv2v.panorama.rig import Rig, RigCamera

__all__ = [
    "Panorama",
    "PanoramaBuilder",
    "PanoramaCache",
    "PanoramaOptions",
    "Prebuilt",
    "Rig",
    "RigCamera",
    "agent_agreement",
    "fill_holes",
    "load_panorama",
    "overlap_agreement",
    "prebuild",
]
