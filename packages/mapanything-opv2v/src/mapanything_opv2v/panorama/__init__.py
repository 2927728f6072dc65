"""Panoramas from rigs of pinhole cameras: colour by cached tables, range by z-buffered splats.

The names below are imported on first use, so that a command's help can ask for `PanoramaOptions` without compilers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = {
    "agent": ("load_panorama",),
    "builder": ("Panorama", "PanoramaBuilder", "fill_holes"),
    "cache": ("PanoramaCache", "Prebuilt", "prebuild"),
    "options": ("PanoramaOptions",),
    "overlap": ("agent_agreement", "overlap_agreement"),
    "rig": ("Rig", "RigCamera"),
}
"""Module below this package to the names that it gives."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
