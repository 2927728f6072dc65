"""Point clouds against each other: filters, Chamfer distance, occupancy seen from above.

Legend: N, M points. Clouds are (N, 3), metres, true world in OpenCV axes (x right, y down, z forward).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from mapanything_opv2v.evaluation.metrics import Figures
from mapanything_opv2v.evaluation.options import CloudOptions
from mapanything_opv2v.geometry import FloatArray


def voxel_means(points: npt.NDArray[Any], voxel_m: float) -> FloatArray:
    """Return the mean of the points of each occupied cube (M, 3), sorted by cube."""
    points = np.asarray(points, dtype=np.float64)
    if len(points) == 0:
        return points.reshape(0, 3)
    key = np.zeros(len(points), dtype=np.int64)
    for axis in range(3):  # ranks instead of coordinates: no extent overflows the key
        values, rank = np.unique(np.floor(points[:, axis] / voxel_m), return_inverse=True)
        _, key = np.unique(key * len(values) + rank, return_inverse=True)
    counts = np.bincount(key)
    return np.stack([np.bincount(key, weights=points[:, axis]) / counts for axis in range(3)], axis=-1)


def chamfer(pred: FloatArray, true: FloatArray) -> tuple[float, float] | None:
    """Return mean nearest distances (pred to true, true to pred), metres; None if a cloud is empty."""
    if len(pred) == 0 or len(true) == 0:
        return None
    to_true, _ = cKDTree(true).query(pred)
    to_pred, _ = cKDTree(pred).query(true)
    return float(to_true.mean()), float(to_pred.mean())


def occupied(points: FloatArray, center: FloatArray, cell_m: float, extent_m: float) -> npt.NDArray[np.bool_]:
    """Return which cells (rows along z, columns along x) around `center` (3,) hold a point."""
    cells = int(np.ceil(2 * extent_m / cell_m))
    grid = np.zeros((cells, cells), dtype=bool)
    place = np.floor((points[:, [2, 0]] - center[[2, 0]] + extent_m) / cell_m)
    inside = ((place >= 0) & (place < cells)).all(axis=1)
    row, column = place[inside].astype(np.int64).T
    grid[row, column] = True
    return grid


def iou(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float | None:
    """Return intersection over union; None if both are empty."""
    either = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / either if either else None


def ground_y(points_true: FloatArray, center: FloatArray, radius_m: float = 30.0) -> float | None:
    """Return the ground's y (down): the 95 % quantile of true points near `center`; None without any."""
    near = np.linalg.norm(points_true[:, [0, 2]] - center[[0, 2]], axis=1) < radius_m
    return float(np.quantile(points_true[near, 1], 0.95)) if near.any() else None


@dataclass(frozen=True)
class Cloud:
    """Points of all views of a frame.

    Attributes
    ----------
    points : (N, 3) float64
        True world.
    range_m : (N,)
        From the camera that saw them.
    kept : (N,) bool
        What the filter of the own mask lets through; all True for the truth.
    """

    points: FloatArray
    range_m: npt.NDArray[Any]
    kept: npt.NDArray[np.bool_]


def cloud_figures(pred: Cloud, true: Cloud, center: FloatArray, options: CloudOptions) -> Figures:
    """Compare a predicted with a true cloud, raw and filtered.

    Raw takes every predicted pixel. Filtered takes pixels of the predicted mask within `max_range_m`, against
    true points within `max_range_m`; its view from above, besides, only what stands `min_height_m` to
    `max_height_m` over the ground (of the true cloud near view 0).

    Returns
    -------
    dict
        For `raw` and `filtered`: ``chamfer_*_m`` = (accuracy + completeness) / 2, ``accuracy_*_m``
        (predicted to true), ``completeness_*_m`` (true to predicted), ``bev_iou_*``, ``points_*``.
    """
    figures: Figures = {}
    ground = ground_y(true.points, center)
    for name in ("raw", "filtered"):
        clouds = []
        for cloud in (pred, true):
            keep = np.ones(len(cloud.points), dtype=bool)
            if name == "filtered":
                keep = cloud.kept & (cloud.range_m <= options.max_range_m)
            clouds.append(cloud.points[keep])
        distances = chamfer(*(voxel_means(points, options.voxel_m) for points in clouds))
        accuracy, completeness = distances or (None, None)
        if name == "filtered" and ground is not None:
            clouds = [_band(points, ground, options) for points in clouds]
        grids = [occupied(points, center, options.cell_m, options.extent_m) for points in clouds]
        figures |= {
            f"chamfer_{name}_m": None if distances is None else sum(distances) / 2,
            f"accuracy_{name}_m": accuracy,
            f"completeness_{name}_m": completeness,
            f"bev_iou_{name}": iou(*grids),
        }
    return figures


def _band(points: FloatArray, ground: float, options: CloudOptions) -> FloatArray:
    height = ground - points[:, 1]
    return points[(height >= options.min_height_m) & (height <= options.max_height_m)]
