"""From the images of a rig to one panorama with range and masks."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.panorama import exposure, kernels
from mapanything_opv2v.panorama.options import PanoramaOptions
from mapanything_opv2v.panorama.rig import Rig
from mapanything_opv2v.panorama.tables import ColorTable, color_table
from mapanything_opv2v.rawdata import SKY, SKY_DISTANCE_M

GATHER_PASSES = 4
"""Panorama pixels may lie this far from the next depth sample and still find their surface."""


EXPOSURE_SIZE = (1008, 252)
"""Pixels of the panorama in which the brightness of cameras is compared."""


@dataclass(frozen=True)
class Panorama:
    """One panorama, H x W pixels of its cylinder.

    Attributes
    ----------
    color : (H, W, 3) uint8
        RGB; black where not `covered`.
    range_m : (H, W) float32
        Distance along the ray in metres; 0 where there is none.
    covered : (H, W) bool
        Some camera sees the pixel's point at the projection distance.
    has_range : (H, W) bool
        `range_m` is positive, measured or `filled`.
    sky : (H, W) bool
        No range, and some camera sees sky in this direction. All False without depth maps.
    filled : (H, W) bool
        Range taken from neighbours (`fill_radius_px`), not measured.
    """

    color: npt.NDArray[np.uint8]
    range_m: npt.NDArray[np.float32]
    covered: npt.NDArray[np.bool_]
    has_range: npt.NDArray[np.bool_]
    sky: npt.NDArray[np.bool_]
    filled: npt.NDArray[np.bool_]


class PanoramaBuilder:
    """Builds panoramas of one rig.

    Making one is cheap: what takes time is kept per process and shared by all builders whose rigs agree (see
    `Rig.key`), so a new builder for every frame, with that frame's exact poses, is the way to use it.

    Parameters
    ----------
    rig : Rig
        Cameras; images and depth maps are given in their order.
    cylinder : Cylinder
        Pixels of the panorama.
    options : PanoramaOptions, optional
        Or give its fields as keywords.
    **changes
        Fields of `PanoramaOptions`.

    Raises
    ------
    ValueError
        If an option is unknown or out of bounds.
    """

    def __init__(self, rig: Rig, cylinder: Cylinder, options: PanoramaOptions | None = None, **changes: Any) -> None:
        self.rig, self.cylinder = rig, cylinder
        self.options = make_options(options, changes)
        self.table: ColorTable = color_table(rig, cylinder, self.options)
        self._cameras = _camera_rows(rig, cylinder)

    def build(
        self,
        images: Sequence[npt.NDArray[np.uint8]],
        depths: Sequence[npt.NDArray[np.floating[Any]]] | None = None,
    ) -> Panorama:
        """Build one panorama.

        Parameters
        ----------
        images : sequence of (H, W, 3) uint8
            RGB, at the rig's sizes.
        depths : sequence of (H, W) float, optional
            z-depth in metres: 0 unknown, negative or from `rawdata.SKY_DISTANCE_M` on sky. Dense or sparse.

        Raises
        ------
        ValueError
            If number, shape or type do not fit the rig; says which camera.
        """
        self._check("images", images)
        if self.options.match_exposure:
            gains = exposure.camera_gains(self.brightness_ratios(images), len(images))
            images = [exposure.apply_gain(image, gain) for image, gain in zip(images, gains)]
        shape = (self.cylinder.height, self.cylinder.width)
        color = _blend(self.table, images, self.cylinder)
        covered = self.table.covered.copy()  # the table is shared
        if depths is None:
            nothing = np.zeros(shape, bool)
            return Panorama(
                color,
                np.zeros(shape, np.float32),
                covered,
                nothing,
                nothing.copy(),
                nothing.copy(),
            )
        self._check("depths", depths)
        ranges, sky = self._measure(depths)
        range_m, sky = ranges.reshape(shape), sky.reshape(shape)
        filled = np.zeros(shape, bool)
        if self.options.fill_radius_px:
            range_m, filled = fill_holes(range_m, covered & ~sky, self.options.fill_radius_px)
        return Panorama(color, range_m, covered, range_m > 0, sky, filled)

    def brightness_ratios(self, images: Sequence[npt.NDArray[np.uint8]]) -> exposure.Pairs:
        """Compare the brightness of neighbouring cameras in their overlaps (`exposure.overlap_ratios`)."""
        self._check("images", images)
        coarse = replace(self.cylinder, width=EXPOSURE_SIZE[0], height=EXPOSURE_SIZE[1])
        alone, seen = [], []
        for camera, image in zip(self.rig.cameras, images):
            table = color_table(Rig((camera,)), coarse, self.options)
            alone.append(_blend(table, [image], coarse))
            seen.append(table.covered)
        return exposure.overlap_ratios(alone, seen)

    def _check(self, name: str, arrays: Sequence[npt.NDArray[Any]]) -> None:
        if len(arrays) != len(self.rig.cameras):
            raise ValueError(f"{name}: {len(arrays)} arrays for a rig of {len(self.rig.cameras)} cameras")
        for number, (array, camera) in enumerate(zip(arrays, self.rig.cameras)):
            expected: tuple[int, ...] = camera.size_wh[::-1]
            kind = "float"
            if name == "images":
                expected, kind = (*expected, 3), "uint8"
            fits = array.dtype == np.uint8 if name == "images" else array.dtype.kind == "f"
            if array.shape != expected or not fits:
                raise ValueError(
                    f"{name}[{number}]: expected {kind} of shape {expected}, got {array.dtype} {array.shape}"
                )

    def _measure(
        self, depths: Sequence[npt.NDArray[np.floating[Any]]]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Return range (M,), 0 where there is none, and sky (M,)."""
        flat = np.concatenate([_clean(depth, number) for number, depth in enumerate(depths)])
        count = self.cylinder.width * self.cylinder.height
        ranges, sources = np.full(count, kernels.FAR, np.float32), np.full(count, kernels.NO_SOURCE, np.int32)
        around = _cylinder_row(self.cylinder)
        for camera, row in zip(self.rig.cameras, self._cameras):
            first, (width, height) = int(row[kernels.FIRST_SOURCE]), camera.size_wh
            kernels.splat(flat[first : first + width * height].reshape(height, width), row, around, ranges, sources)
        if self.options.refine_range:
            rays = _rays(self.cylinder)
            kernels.refine(flat, self._cameras, rays, sources, ranges)
            for _ in range(GATHER_PASSES):
                if not kernels.gather(flat, self._cameras, rays, self.cylinder.width, sources, ranges):
                    break
        sky = np.empty(count, bool)
        kernels.find_sky(flat, self._cameras, self.table.sky_pixel, sources, sky)
        ranges[sources == kernels.NO_SOURCE] = 0
        return ranges, sky


def _blend(table: ColorTable, images: Sequence[npt.NDArray[np.uint8]], cylinder: Cylinder) -> npt.NDArray[np.uint8]:
    """Look colours up: (H, W, 3)."""
    pixels = np.empty((table.offsets[-1], 3), np.uint8)
    for image, reduce, first, end in zip(images, table.shrink, table.offsets, table.offsets[1:]):
        small = (image.shape[0] // reduce, image.shape[1] // reduce, 3)
        into = pixels[first:end].reshape(small)
        if reduce == 1:
            into[:] = image
        else:
            whole = image[: small[0] * reduce, : small[1] * reduce]
            cv2.resize(whole, small[1::-1], dst=into, interpolation=cv2.INTER_AREA)
    color = np.empty((cylinder.height, cylinder.width, 3), np.uint8)
    kernels.blend(pixels, table.first, table.pixel, table.stride, table.fraction, table.weight, color.reshape(-1, 3))
    return color


def make_options(options: PanoramaOptions | None, changes: dict[str, Any]) -> PanoramaOptions:
    """Return `options` with `changes`; an unknown name is an error that lists the known ones."""
    known = list(PanoramaOptions.__dataclass_fields__)
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise ValueError(f"unknown panorama option {', '.join(unknown)}; known: {', '.join(known)}")
    values = {name: getattr(options, name) for name in known} if options is not None else {}
    return PanoramaOptions(**{**values, **changes})


def fill_holes(
    range_m: npt.NDArray[np.float32], allowed: npt.NDArray[np.bool_], radius_px: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Fill pixels without range from the nearest that have one.

    Among equally near ones the farthest surface is taken: what a camera beside the centre does not show is
    background hidden behind something in front. The image closes at its sides.

    Parameters
    ----------
    range_m : (H, W) float32
        0 where there is none.
    allowed : (H, W) bool
        Only these are filled.
    radius_px : int
        Largest distance to what is copied (steps to one of eight neighbours).

    Returns
    -------
    range_m, filled : (H, W) float32, (H, W) bool
    """
    result = range_m.copy()
    for _ in range(radius_px):
        padded = np.pad(np.pad(result, ((0, 0), (1, 1)), mode="wrap"), ((1, 1), (0, 0)))
        # the maximum over 3 x 3 pixels is the farthest neighbour, since "none" is 0
        farthest = cv2.dilate(padded, np.ones((3, 3), np.uint8))[1:-1, 1:-1]
        grow = (result == 0) & allowed & (farthest > 0)
        if not grow.any():
            break
        result[grow] = farthest[grow]
    return result, (result > 0) & (range_m == 0)


def _clean(depth: npt.NDArray[np.floating[Any]], number: int) -> npt.NDArray[np.float32]:
    """Return a depth map (S,) float32 in which every sky pixel is `SKY`."""
    flat = np.ascontiguousarray(depth, np.float32).ravel()
    low, high = float(flat.min()), float(flat.max())
    if math.isnan(low) or math.isnan(high):
        raise ValueError(f"depths[{number}]: {int(np.isnan(flat).sum())} pixels are NaN; 0 means unknown")
    if high >= SKY_DISTANCE_M:
        flat = np.where(flat >= SKY_DISTANCE_M, np.float32(SKY), flat)
    return flat


def _camera_rows(rig: Rig, cylinder: Cylinder) -> npt.NDArray[np.float64]:
    """Return the rig as the kernels take it, (C, CAMERA_COLUMNS)."""
    rows = np.empty((len(rig.cameras), kernels.CAMERA_COLUMNS))
    first = 0
    for row, camera in zip(rows, rig.cameras):
        K, (width, height) = camera.intrinsic, camera.size_wh
        # pixels of the image that half a pixel of the panorama spans where the image is finest: in its
        # corners
        spans = max(K[0, 0] / cylinder.columns_per_radian, K[1, 1] / cylinder.rows_per_radian)
        corner = (max(K[0, 2], width - K[0, 2]) / K[0, 0]) ** 2 + (max(K[1, 2], height - K[1, 2]) / K[1, 1]) ** 2
        reach = 1.5 + spans * (1 + corner)
        row[:8] = K[0, 0], K[1, 1], K[0, 1], K[0, 2], K[1, 2], width, height, first
        row[8:17], row[17:20], row[20] = camera.T_pano_cam[:3, :3].ravel(), camera.T_pano_cam[:3, 3], reach
        first += width * height
    return rows


def _cylinder_row(cylinder: Cylinder) -> npt.NDArray[np.float64]:
    """Return the cylinder as the kernels take it."""
    middle = math.radians(cylinder.elevation_center_deg)
    return np.array([cylinder.columns_per_radian, cylinder.rows_per_radian, cylinder.width, cylinder.height, middle])


@functools.lru_cache(maxsize=8)
def _rays(cylinder: Cylinder) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(cylinder.rays().reshape(-1, 3), np.float32)
