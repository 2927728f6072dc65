"""Figures that need no common world: ranges, scale, masks, rays, and poses between vehicles.

Legend: V views, H rows, W columns. Ranges are metres along the ray, for pinhole views and panoramas alike.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mapanything_opv2v.geometry import FloatArray, invert, rotation_angle_deg

Figures = dict[str, float | None]
"""Name to value; None where a frame has nothing to measure."""

SUSPICIOUS_SCALE = 0.15
"""|ln metric_scale| below which a scale applied twice cannot be told from one applied once."""

_NO_DIRECTION_M = 1e-6
"""Views nearer to each other have no direction."""

_RANGE_FIGURES = (
    "depth_rmse_m",
    "depth_mae_m",
    "depth_relative",
    "depth_within_25pct",
    "scale_ratio",
    "scale_log_error",
    "depth_relative_scaled",
    "depth_within_25pct_scaled",
)

NEED_SCALE = (
    *(name for name in _RANGE_FIGURES if not name.endswith("_scaled")),
    "pose_translation_m",
    "vehicle_translation_m",
)
"""Figures that mean something only where a model predicts metres."""


def range_figures(range_m: npt.NDArray[Any], range_m_true: npt.NDArray[Any]) -> Figures:
    """Compare ranges where the truth is known (> 0).

    Returns
    -------
    dict
        ``depth_pixels``: how many. ``depth_rmse_m``, ``depth_mae_m``. ``depth_relative``: mean of
        |pred - true| / true. ``depth_within_25pct``: share with max(pred/true, true/pred) < 1.25.
        ``scale_ratio``: median of pred / true (1 is right). ``scale_log_error``: |ln scale_ratio|.
        ``depth_relative_scaled``, ``depth_within_25pct_scaled``: the same after pred / scale_ratio.
    """
    known = range_m_true > 0
    pred, true = range_m[known].astype(np.float64), range_m_true[known].astype(np.float64)
    if not known.any():
        return {"depth_pixels": 0.0, **dict.fromkeys(_RANGE_FIGURES)}
    error, ratio = np.abs(pred - true), pred / true
    scale = float(np.median(ratio))
    values = [
        math.sqrt(float(np.mean(error**2))),
        float(error.mean()),
        float(np.mean(error / true)),
        float(np.mean((ratio < 1.25) & (ratio > 1 / 1.25))),
        scale,
        abs(math.log(scale)) if scale > 0 else None,
        float(np.mean(np.abs(ratio / scale - 1))) if scale > 0 else None,
        float(np.mean((ratio / scale < 1.25) & (ratio / scale > 1 / 1.25))) if scale > 0 else None,
    ]
    return {"depth_pixels": float(known.sum()), **dict(zip(_RANGE_FIGURES, values))}


def scale_applied(scale_ratio: float | None, metric_scale: float | None) -> str:
    """Return how often the metric scale seems to stand in the ranges: `once`, `twice`, `never`, `unclear`.

    Good ranges have a ratio to the truth near 1. One near `metric_scale` (or its inverse) is the mark of a
    factor that came in twice (or not at all); a heuristic, worth a warning where most frames agree.
    """
    if (
        scale_ratio is None
        or scale_ratio <= 0
        or metric_scale is None
        or abs(math.log(metric_scale)) < SUSPICIOUS_SCALE
    ):
        return "unclear"
    distances = {
        name: abs(math.log(scale_ratio) - power * math.log(metric_scale))
        for name, power in (("once", 0), ("twice", 1), ("never", -1))
    }
    nearest = min(distances, key=lambda name: distances[name])
    return nearest if distances[nearest] < SUSPICIOUS_SCALE / 2 else "unclear"


def mask_figures(
    mask: npt.NDArray[np.bool_],
    mask_true: npt.NDArray[np.bool_] | None,
    range_m_true: npt.NDArray[Any] | None = None,
) -> Figures:
    """Return shares, precision, recall, IoU and accuracy of the predicted mask.

    True is "there is geometry"; a ratio of nothing is None. With `range_m_true`, pixels count of which the truth is
    known: those with a range, and those known to have none. ``mask_known_share``: how many of all these are.
    """
    if mask_true is not None and range_m_true is not None:
        known = (range_m_true > 0) | ~mask_true
        return {**mask_figures(mask[known], mask_true[known]), "mask_known_share": float(known.mean())}
    figures: Figures = {"mask_pred_share": float(mask.mean()) if mask.size else None}
    if mask_true is None or mask.size == 0:
        names = ("mask_true_share", "mask_precision", "mask_recall", "mask_iou", "mask_accuracy")
        return {**figures, **dict.fromkeys(names)}
    both, either = float((mask & mask_true).sum()), float((mask | mask_true).sum())
    return {
        **figures,
        "mask_true_share": float(mask_true.mean()),
        "mask_precision": both / mask.sum() if mask.any() else None,
        "mask_recall": both / mask_true.sum() if mask_true.any() else None,
        "mask_iou": both / either if either else None,
        "mask_accuracy": float((mask == mask_true).mean()),
    }


def ray_angle_deg(rays: npt.NDArray[Any], rays_true: npt.NDArray[Any]) -> float:
    """Return the mean angle between predicted and true unit rays (..., 3), degrees; exact for small angles."""
    a, b = rays.astype(np.float64), np.asarray(rays_true, dtype=np.float64)
    sine = np.linalg.norm(np.cross(a, b), axis=-1)
    return float(np.degrees(np.arctan2(sine, np.sum(a * b, axis=-1))).mean())


def pose_figures(poses: FloatArray, poses_true: FloatArray, how: str) -> Figures:
    """Compare aligned poses (V, 4, 4) with the true ones.

    Returns
    -------
    dict
        ``pose_translation_m``, ``pose_rotation_deg``: means over the views. Under `view0`, view 0 has no error
        by construction and does not count; None where it is alone.
    """
    first = 1 if how == "view0" else 0
    if len(poses) <= first:
        return {"pose_translation_m": None, "pose_rotation_deg": None}
    away = np.linalg.norm(poses[first:, :3, 3] - poses_true[first:, :3, 3], axis=-1)
    angles = [rotation_angle_deg(a[:3, :3].T @ b[:3, :3]) for a, b in zip(poses[first:], poses_true[first:])]
    return {"pose_translation_m": float(away.mean()), "pose_rotation_deg": float(np.mean(angles))}


def vehicle_figures(poses: FloatArray, poses_true: FloatArray, agents: tuple[int, ...]) -> Figures:
    """Compare poses between vehicles: view j seen from view i, for every pair of views of different agents.

    Needs no alignment: a rigid one would not change a figure.

    Returns
    -------
    dict
        ``vehicle_translation_m``, ``vehicle_rotation_deg``: means over the pairs; None for one vehicle.
        ``vehicle_direction_deg``: between the directions in which the other view stands, which needs no scale.
        ``vehicle_pairs``: how many.
    """
    away, angles, directions = [], [], []
    for i in range(len(agents)):
        for j in range(i + 1, len(agents)):
            if agents[i] != agents[j]:
                pred, true = invert(poses[i]) @ poses[j], invert(poses_true[i]) @ poses_true[j]
                away.append(float(np.linalg.norm(pred[:3, 3] - true[:3, 3])))
                angles.append(rotation_angle_deg(pred[:3, :3].T @ true[:3, :3]))
                a, b = pred[:3, 3], true[:3, 3]
                if min(np.linalg.norm(a), np.linalg.norm(b)) > _NO_DIRECTION_M:
                    directions.append(float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b))))
    return {
        "vehicle_translation_m": float(np.mean(away)) if away else None,
        "vehicle_direction_deg": float(np.mean(directions)) if directions else None,
        "vehicle_rotation_deg": float(np.mean(angles)) if angles else None,
        "vehicle_pairs": float(len(away)),
    }
