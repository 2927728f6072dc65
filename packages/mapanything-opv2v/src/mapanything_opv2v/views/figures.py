"""What there is to say about a view in figures, pictures and arrays: `views/LABEL.png`, `.npy`, `summary.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mapanything_opv2v import pictures
from mapanything_opv2v.evaluation.metrics import range_figures
from mapanything_opv2v.files import whole_file, write_bytes, write_json
from mapanything_opv2v.geometry import rotation_angle_deg, transform_points
from mapanything_opv2v.views.frame import Estimate, Frame, View

MEANS = (
    "pred_mask_mean",
    "gt_mask_mean",
    "translation_error_m",
    "rotation_error_deg",
    "metric_scale",
    "depth_scale_ratio",
    "depth_rmse_m",
)
"""Figures of views whose means stand in the summary."""

ERROR_LIMITS_M = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)


def view_figures(view: View, pose_source: str) -> dict[str, Any]:
    """Return a view's pose, scale and errors as JSON values.

    ``depth_rmse_m`` and ``depth_scale_ratio`` are `evaluation.metrics.range_figures` of the distance along the
    ray, over all pixels whose true distance is known. Poses are compared in the frame's world.
    """
    figures: dict[str, Any] = {
        "agent": view.agent_id,
        "view": view.name,
        "size": list(view.size_wh),
        "pose_source": pose_source,
        "pose_world_cam": view.estimate(pose_source).T_world_cam.tolist(),
    }
    for name, estimate in (("pred", view.pred), ("true", view.true)):
        if estimate is not None and estimate.range_m is not None:
            figures[f"depth_share_{name}"] = float(estimate.has_range().mean())
    for name, estimate in (("pred", view.pred), ("gt", view.true)):
        mask = None if estimate is None else _mask(estimate)
        if mask is not None:
            figures[f"{name}_mask_mean"] = float(mask.mean())
    pred, true = view.pred, view.true
    if pred is None:
        return figures
    figures["metric_scale"] = pred.scale
    if true is None:
        return figures
    found, expected = pred.T_world_cam, true.T_world_cam
    figures["pose_world_cam_true"] = expected.tolist()
    figures["translation_error_m"] = float(np.linalg.norm(found[:3, 3] - expected[:3, 3]))
    figures["rotation_error_deg"] = rotation_angle_deg(found[:3, :3] @ expected[:3, :3].T)
    if pred.range_m is not None and true.range_m is not None:
        measured = range_figures(pred.range_m, true.range_m)
        figures |= {"depth_rmse_m": measured["depth_rmse_m"], "depth_scale_ratio": measured["scale_ratio"]}
    return figures


def frame_figures(frame: Frame, per_view: Sequence[Mapping[str, Any]], pose_source: str) -> dict[str, Any]:
    """Return what a summary says of the whole frame: means over its views, and the box that holds its points.

    Means are over the views that have the figure; what none has is left out. ``bounds`` are the smallest and largest
    x, y, z of all points in the frame's world, metres.
    """
    found: dict[str, Any] = {}
    for name in MEANS:
        values = [figures[name] for figures in per_view if figures.get(name) is not None]
        if values:
            found[name] = float(np.mean(values))
    estimates = [(view.estimate(pose_source), view.estimate(frame.range_source)) for view in frame.views]
    points = [
        transform_points(pose.T_world_cam, (seen.range_m[..., None] * seen.rays)[seen.has_range()])
        for pose, seen in estimates
        if seen.range_m is not None and seen.rays is not None and seen.has_range().any()
    ]
    if points:
        low, high = (np.stack([side(xyz, axis=0) for xyz in points]) for side in (np.min, np.max))
        found["bounds"] = {"min": low.min(axis=0).tolist(), "max": high.max(axis=0).tolist()}
    return found


def view_picture(view: View) -> pictures.Picture:
    """Return a view's picture above its distances: predicted, true, and their difference, as far as known."""
    rows, ends_m = [(f"{view.label}: image", view.image)], shown_ends(view)
    ranges = {text: _range(view.known(source)) for source, text in (("pred", "predicted"), ("gt", "true"))}
    for text, range_m in ranges.items():
        if range_m is not None:
            scale = f"red near, blue far, logarithmic from {ends_m[0]:g} to {ends_m[1]:g} m"
            rows.append((f"{text} range: {scale}", pictures.color_ranges(range_m, ends_m=ends_m)))
    shown = range_error(view)
    if shown is not None:
        worst_m = error_limit_m(*shown)
        title = f"difference in range: black 0, white {worst_m:g} m and more, blue unknown"
        rows.append((title, pictures.color_errors(*shown, worst_m)))
    return pictures.sheet(rows)


def shown_ends(view: View) -> tuple[float, float]:
    """Return the ends of the colours of a view's ranges: the true ones decide where they are known."""
    return pictures.range_ends(next((r for r in map(_range, (view.true, view.pred)) if r is not None), None))


def range_error(view: View) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the absolute error of the range (H, W) in metres, and where it is known; None without both ranges."""
    if view.pred is None or view.true is None or view.pred.range_m is None or view.true.range_m is None:
        return None
    return np.abs(view.pred.range_m - view.true.range_m), view.true.has_range()


def error_limit_m(error_m: np.ndarray, known: np.ndarray) -> float:
    """Return the error that is drawn white: the smallest of `ERROR_LIMITS_M` that nine of ten pixels stay under."""
    typical = float(np.percentile(error_m[known], 90)) if known.any() else 0.0
    return next((limit for limit in ERROR_LIMITS_M if typical <= limit), ERROR_LIMITS_M[-1])


def write_figures(folder: Path, frame: Frame, pose_source: str) -> Path:
    """Write a picture and the shown distances of every view, and `summary.json`; return the latter's path."""
    per_view = [view_figures(view, pose_source) for view in frame.views]
    summary: dict[str, Any] = {
        "frame": frame.name,
        **{key.replace(" ", "_"): value for key, value in frame.provenance.items()},
        "point_pose_source": pose_source,
        "depth_source": frame.range_source,
        "depth_kind": "distance along the ray, metres",
        "world": frame.world,
        **frame_figures(frame, per_view, pose_source),
        "views": [],
    }
    for view, own in zip(frame.views, per_view):
        stem = folder / "views" / f"agent{view.agent_id}_{view.name}"
        write_bytes(stem.with_suffix(".png"), pictures.encode_png(view_picture(view)))
        figures = {**own, "picture": f"views/{stem.name}.png"}
        range_m = view.estimate(frame.range_source).range_m
        if range_m is not None:
            with whole_file(stem.with_suffix(".npy")) as stream:
                np.save(stream, range_m, allow_pickle=False)
            figures["depth"] = f"views/{stem.name}.npy"
        summary["views"].append(figures)
    path = folder / "summary.json"
    write_json(path, summary)
    return path


def _mask(estimate: Estimate) -> np.ndarray | None:
    """Return where there is geometry: the model's or the data set's mask; of raw frames, what is no sky but seen."""
    if "mask" in estimate.masks:
        return estimate.masks["mask"]
    if "sky" not in estimate.masks:
        return None
    return ~estimate.masks["sky"] & estimate.masks.get("covered", True)


def _range(estimate: Estimate | None) -> np.ndarray | None:
    return None if estimate is None else estimate.range_m
