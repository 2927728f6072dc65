"""How a panorama is made; every option acts and is part of a cached panorama's name."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PanoramaOptions:
    """Options of `PanoramaBuilder`."""

    projection_radius_m: float = 20.0
    """Distance at which colour is looked up along each ray. Things at this distance stand in the right place;
    nearer and farther ones are shifted by parallax, since no camera stands in the centre. `inf` looks up
    directions only: it covers most, but closes the gap between two cameras with what neither of them sees there."""

    ground_height_m: float | None = None
    """Height of the centre above flat ground. If given, rays that meet it before `projection_radius_m` look
    colour up there, which puts the road in the right place (OPV2V's LiDAR: 1.9)."""

    feather_deg: float = 2.0
    """Width of the band in which two cameras are blended across an overlap; 0 cuts hard."""

    antialias: bool = True
    """Shrink the source images before colours are looked up: they are halved until a panorama pixel is narrower than
    two of their pixels. Without it, fine patterns flicker."""

    refine_range: bool = True
    """Intersect each pixel's ray with the surface its depth pixel belongs to, instead of taking the depth
    pixel's own distance; without it, ranges are those of the nearest sample."""

    fill_radius_px: int = 0
    """Fill pixels without range from neighbours within this many pixels; they are marked in `filled`."""

    match_exposure: bool = False
    """Multiply each image by a gain that makes neighbouring cameras equally bright where they overlap. Off, since a
    model meets unmatched cameras in the field as well; a camera without overlap keeps its brightness."""

    def __post_init__(self) -> None:
        """Refuse values without a meaning."""
        if not self.projection_radius_m > 0:
            raise ValueError(f"projection_radius_m={self.projection_radius_m!r}, expected a positive distance or inf")
        if self.ground_height_m is not None and not 0 < self.ground_height_m < math.inf:
            raise ValueError(f"ground_height_m={self.ground_height_m!r}, expected a positive height or None")
        if not 0 <= self.feather_deg <= 90:
            raise ValueError(f"feather_deg={self.feather_deg!r}, expected 0 to 90")
        if not isinstance(self.fill_radius_px, int) or not 0 <= self.fill_radius_px <= 64:
            raise ValueError(f"fill_radius_px={self.fill_radius_px!r}, expected an integer from 0 to 64")
