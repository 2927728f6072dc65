"""OPV2V and V2XSet for MapAnything. Importing it has no side effects; the names below are imported on first use.

The last group needs MapAnything on the path.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mapanything_opv2v.checks import CheckOptions, check_tree
    from mapanything_opv2v.depth import DepthOptions, write_depths
    from mapanything_opv2v.evaluation.measure import evaluate_frame
    from mapanything_opv2v.evaluation.options import CloudOptions, EvaluationOptions
    from mapanything_opv2v.geometry import Cylinder
    from mapanything_opv2v.host.datasets import (
        OPV2VCoopCylindricalDataset,
        OPV2VCoopDataset,
        OPV2VCylindricalDataset,
        OPV2VDataset,
    )
    from mapanything_opv2v.host.register import register
    from mapanything_opv2v.panorama import PanoramaBuilder, PanoramaOptions, Rig, RigCamera, load_panorama
    from mapanything_opv2v.predictions import FramePredictions, load_predictions
    from mapanything_opv2v.rawdata import box_corners, index_tree, load_agent_yaml, load_depth, load_image, load_pcd
    from mapanything_opv2v.synthetic import write_town

__version__ = version("mapanything-opv2v")

__all__ = [
    "CheckOptions",
    "CloudOptions",
    "Cylinder",
    "DepthOptions",
    "EvaluationOptions",
    "FramePredictions",
    "OPV2VCoopCylindricalDataset",
    "OPV2VCoopDataset",
    "OPV2VCylindricalDataset",
    "OPV2VDataset",
    "PanoramaBuilder",
    "PanoramaOptions",
    "Rig",
    "RigCamera",
    "__version__",
    "box_corners",
    "check_tree",
    "evaluate_frame",
    "index_tree",
    "load_agent_yaml",
    "load_depth",
    "load_image",
    "load_panorama",
    "load_pcd",
    "load_predictions",
    "register",
    "write_depths",
    "write_town",
]

_HOMES = {
    "checks": ("CheckOptions", "check_tree"),
    "depth": ("DepthOptions", "write_depths"),
    "evaluation.measure": ("evaluate_frame",),
    "evaluation.options": ("CloudOptions", "EvaluationOptions"),
    "geometry": ("Cylinder",),
    "panorama": ("PanoramaBuilder", "PanoramaOptions", "Rig", "RigCamera", "load_panorama"),
    "predictions": ("FramePredictions", "load_predictions"),
    "rawdata": ("box_corners", "index_tree", "load_agent_yaml", "load_depth", "load_image", "load_pcd"),
    "synthetic": ("write_town",),
    "host.datasets": ("OPV2VCoopCylindricalDataset", "OPV2VCoopDataset", "OPV2VCylindricalDataset", "OPV2VDataset"),
    "host.register": ("register",),
}
"""Module below this package to the names that it gives."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names too."""
    return sorted({*globals(), *__all__})
