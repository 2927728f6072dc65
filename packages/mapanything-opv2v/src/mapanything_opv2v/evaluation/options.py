"""What is compared and how, by name; part of a run's provenance."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

ALIGNMENTS = ("view0", "cameras", "similarity")
"""How poses are brought together.

view0
    Rigid: view 0's predicted pose is put onto its true one. The other views carry all the error. This is what
    a main vehicle that knows itself can do, and what the model's losses do.
cameras
    Rigid, from all views: the rotation that fits the orientations best, then the translation that brings the
    mean camera centres together.
similarity
    As `cameras`, and one scale factor from the camera centres. Hides a wrong metric scale: compare with the
    others.
"""


@dataclass(frozen=True, kw_only=True)
class CloudOptions:
    """How clouds are compared; recorded with the results."""

    voxel_m: float = 0.2
    """Points of one cube of this side become their mean, so that near surfaces do not outweigh far ones."""
    cell_m: float = 0.4
    """Side of a cell of the view from above."""
    extent_m: float = 70.0
    """The view from above reaches so far from view 0, in x and z."""
    max_range_m: float = 70.0
    """Filtered clouds: farther points (from their own camera) are left out."""
    min_height_m: float = 0.5
    """Filtered view from above: lower points (over the ground) are left out."""
    max_height_m: float = 4.0
    """Filtered view from above: higher points (over the ground) are left out."""

    def __post_init__(self) -> None:
        """Refuse sizes that make no grid."""
        for name in ("voxel_m", "cell_m", "extent_m", "max_range_m"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)!r}: expected a positive number of metres")
        if self.cell_m > self.extent_m:
            raise ValueError(f"cell_m={self.cell_m} exceeds extent_m={self.extent_m}")
        if not self.min_height_m < self.max_height_m:
            raise ValueError(f"min_height_m={self.min_height_m} is not below max_height_m={self.max_height_m}")


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """What `measure.evaluate_frame` does."""

    alignment: str = "view0"
    """See `ALIGNMENTS`."""
    clouds: CloudOptions = field(default_factory=CloudOptions)

    def __post_init__(self) -> None:
        """Refuse an unknown alignment."""
        if self.alignment not in ALIGNMENTS:
            raise ValueError(f"alignment={self.alignment!r}: expected one of {', '.join(ALIGNMENTS)}")

    def to_json(self) -> dict[str, Any]:
        """Return the options as plain values."""
        return asdict(self)
