"""Where each panorama pixel's colour comes from: computed once per rig, cylinder and options."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mapanything_opv2v import geometry
from mapanything_opv2v.panorama.options import PanoramaOptions
from mapanything_opv2v.panorama.rig import Rig

MAX_TABLES = 32
"""Tables kept in a process, about 6 MB each at 1008 x 252."""


@dataclass(frozen=True)
class ColorTable:
    """Bilinear taps, grouped by panorama pixel.

    Legend: M panorama pixels (row by row), E taps, C cameras.

    Attributes
    ----------
    first : (M + 1,) int32
        Taps of pixel m are ``first[m]`` to ``first[m + 1]``.
    pixel : (E,) int32
        Upper left source pixel, counted through the (reduced) images of all cameras one after the other.
    stride : (E,) int32
        Pixels in a row of that image.
    fraction : (E, 2) float32
        Horizontal and vertical part of the way to the next pixel, in [0, 1].
    weight : (E,) float32
        Sums to 1 over the taps of a pixel.
    covered : (H, W) bool
        Some camera sees the pixel.
    sky_pixel : (M, C) int32
        Source pixel (full size, within the camera's own image) in the pixel's direction at infinity, or -1.
    shrink : tuple of int
        By how much each camera's images are reduced before they are looked up.
    offsets : tuple of int
        First pixel of each camera in the concatenation, and the total.
    """

    first: npt.NDArray[np.int32]
    pixel: npt.NDArray[np.int32]
    stride: npt.NDArray[np.int32]
    fraction: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    covered: npt.NDArray[np.bool_]
    sky_pixel: npt.NDArray[np.int32]
    shrink: tuple[int, ...]
    offsets: tuple[int, ...]


_tables: OrderedDict[tuple[Any, ...], ColorTable] = OrderedDict()
_lock = threading.Lock()


def color_table(rig: Rig, cylinder: geometry.Cylinder, options: PanoramaOptions) -> ColorTable:
    """Return the table, from this process's cache where a rig with the same `key` has been here.

    Forked loader workers share what their parent has built; build once before starting them.
    """
    key = (
        rig.key,
        cylinder,
        options.projection_radius_m,
        options.ground_height_m,
        options.feather_deg,
        options.antialias,
    )
    with _lock:
        table = _tables.get(key)
        if table is not None:
            _tables.move_to_end(key)
            return table
    table = _build(rig.rounded(), cylinder, options)
    with _lock:
        _tables[key] = table
        while len(_tables) > MAX_TABLES:
            _tables.popitem(last=False)
    return table


def projection_points(
    cylinder: geometry.Cylinder, options: PanoramaOptions
) -> tuple[geometry.FloatArray, geometry.FloatArray]:
    """Return homogeneous points where colour is looked up: rays (H, W, 3) and inverse distances (H, W)."""
    rays = cylinder.rays()
    inverse = np.full(
        rays.shape[:2], 0.0 if math.isinf(options.projection_radius_m) else 1 / options.projection_radius_m
    )
    if options.ground_height_m is not None:
        inverse = np.maximum(inverse, rays[..., 1] / options.ground_height_m)  # y points down
    return rays, inverse


def _build(rig: Rig, cylinder: geometry.Cylinder, options: PanoramaOptions) -> ColorTable:
    rays, inverse = projection_points(cylinder, options)
    shrink = tuple(_shrink(camera.intrinsic, cylinder) if options.antialias else 1 for camera in rig.cameras)
    seen, margins, taps, sky = [], [], [], []
    offset, offsets = 0, [0]
    for camera, reduce in zip(rig.cameras, shrink):
        u, v = _look_up(camera, rays, inverse)
        width, height = camera.size_wh
        with np.errstate(invalid="ignore"):
            inside = (u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1)
            edge = np.minimum(np.minimum(u, width - 1 - u), np.minimum(v, height - 1 - v))
        seen.append(inside)
        margins.append(np.where(inside, edge / camera.intrinsic[0, 0], -np.inf))
        small = (width // reduce, height // reduce)
        taps.append((*_tap(u, v, reduce, small, inside), offset, small[0]))
        sky.append(_sky_pixel(camera, rays))
        offset += small[0] * small[1]
        offsets.append(offset)
    weights = _weights(np.stack(margins), math.radians(options.feather_deg))
    return _group(weights, taps, np.stack(sky, axis=-1), np.any(seen, axis=0), shrink, tuple(offsets))


def _look_up(camera: Any, rays: geometry.FloatArray, inverse: geometry.FloatArray) -> tuple[Any, Any]:
    """Return pixels (u, v) at which a camera sees points ``ray / inverse``; NaN behind it."""
    T_cam_pano = geometry.invert(camera.T_pano_cam)
    scaled = rays @ T_cam_pano[:3, :3].T + inverse[..., None] * T_cam_pano[:3, 3]
    u, v, _ = geometry.project_pinhole(camera.intrinsic, scaled)
    return u, v


def _shrink(intrinsic: geometry.FloatArray, cylinder: geometry.Cylinder) -> int:
    """Return by which power of two images are reduced: source pixels in a panorama pixel, rounded down."""
    spans = min(intrinsic[0, 0] / cylinder.columns_per_radian, intrinsic[1, 1] / cylinder.rows_per_radian)
    return 2 ** max(0, math.floor(math.log2(spans)))


def _tap(u: Any, v: Any, reduce: int, small: tuple[int, int], inside: npt.NDArray[np.bool_]) -> tuple[Any, Any, Any]:
    """Return pixel number and fractions (H, W) of the bilinear taps in the reduced image."""
    columns = np.clip((np.where(inside, u, 0) + 0.5) / reduce - 0.5, 0, small[0] - 1)
    rows = np.clip((np.where(inside, v, 0) + 0.5) / reduce - 0.5, 0, small[1] - 1)
    left = np.minimum(columns.astype(np.int32), small[0] - 2)
    top = np.minimum(rows.astype(np.int32), small[1] - 2)
    return top * small[0] + left, (columns - left).astype(np.float32), (rows - top).astype(np.float32)


def _sky_pixel(camera: Any, rays: geometry.FloatArray) -> npt.NDArray[np.int32]:
    """Return the (H, W) source pixel in each ray's direction, -1 where the camera does not look."""
    u, v = _look_up(camera, rays, np.zeros(rays.shape[:2]))
    width, height = camera.size_wh
    with np.errstate(invalid="ignore"):
        inside = (u >= -0.5) & (u < width - 0.5) & (v >= -0.5) & (v < height - 0.5)
    column, row = np.rint(np.where(inside, u, 0)), np.rint(np.where(inside, v, 0))
    return np.where(inside, row * width + column, -1).astype(np.int32)


def _weights(margins: geometry.FloatArray, feather: float) -> npt.NDArray[np.float32]:
    """Return blending weights (C, H, W) from the angular distance to each camera's image border.

    The camera with the largest margin leads; others fade out over `feather` radians behind it.
    """
    lead = margins.max(axis=0)
    seen = np.isfinite(margins)
    with np.errstate(invalid="ignore"):
        behind = np.where(seen, lead - margins, np.inf)
    if feather > 0:
        weights = np.clip(1 - behind / feather, 0, 1)
        # a camera at the border of its own image adds nothing, so that no step shows where it ends
        others = seen.sum(axis=0) > 1
        weights *= np.where(others & seen, np.clip(margins / (feather / 2), 1e-6, 1), seen)
    else:
        weights = (behind == 0).astype(np.float64)
    total = weights.sum(axis=0)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0).astype(np.float32)


def _group(
    weights: npt.NDArray[np.float32],
    taps: list[Any],
    sky: npt.NDArray[np.int32],
    covered: npt.NDArray[np.bool_],
    shrink: tuple[int, ...],
    offsets: tuple[int, ...],
) -> ColorTable:
    """Sort the cameras' taps by panorama pixel."""
    cameras, pixels = weights.shape[0], covered.size
    used = weights.reshape(cameras, pixels).T > 1 / 512  # less would not change a colour
    first = np.zeros(pixels + 1, np.int32)
    first[1:] = np.cumsum(used.sum(axis=1))
    where, camera = np.nonzero(used)

    def gather(item: int) -> Any:
        return np.stack([tap[item].ravel() for tap in taps], axis=1)[where, camera]

    weight = weights.reshape(cameras, pixels).T[where, camera]
    total = np.bincount(where, weight, pixels)
    base = np.array([tap[3] for tap in taps], np.int32)[camera]
    return ColorTable(
        first=first,
        pixel=(gather(0) + base).astype(np.int32),
        stride=np.array([tap[4] for tap in taps], np.int32)[camera],
        fraction=np.stack([gather(1), gather(2)], axis=1),
        weight=(weight / total[where]).astype(np.float32),
        covered=covered,
        sky_pixel=sky.reshape(pixels, cameras),
        shrink=shrink,
        offsets=offsets,
    )
