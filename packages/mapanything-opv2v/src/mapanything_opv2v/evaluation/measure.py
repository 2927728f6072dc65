"""All figures of one frame."""

from __future__ import annotations

import numpy as np

from mapanything_opv2v.evaluation import metrics
from mapanything_opv2v.evaluation.alignment import Alignment, align
from mapanything_opv2v.evaluation.clouds import Cloud, cloud_figures
from mapanything_opv2v.evaluation.metrics import Figures
from mapanything_opv2v.evaluation.options import EvaluationOptions
from mapanything_opv2v.predictions import FramePredictions


def evaluate_frame(frame: FramePredictions, options: EvaluationOptions | None = None) -> Figures:
    """Return a frame's figures; those that need a truth which the file lacks are None or absent.

    Raises
    ------
    ValueError
        If the file has neither true poses nor true ranges, or the alignment cannot be made.
    """
    options = options or EvaluationOptions()
    if frame.pose_world_cam_true is None and frame.range_m_true is None:
        raise ValueError(f"{frame.meta.name}: the predictions hold no truth, there is nothing to compare with")
    figures: Figures = {
        "views": float(frame.views),
        "vehicles": float(len(set(frame.meta.agents))),
        "metric_scale": frame.metric_scale,
        **metrics.mask_figures(frame.mask, frame.mask_true, frame.range_m_true),
        "ray_angle_deg": _ray_angle_deg(frame),
    }
    if frame.range_m_true is not None:
        figures |= metrics.range_figures(frame.range_m, frame.range_m_true)
    if frame.pose_world_cam_true is not None:
        figures |= _pose_figures(frame, options, figures.get("scale_ratio"))
    if frame.metric_scale is None and options.alignment != "similarity":
        figures |= {name: None for name in metrics.NEED_SCALE if name in figures}
    elif frame.metric_scale is None:  # the alignment has brought poses to metres, nothing has the ranges
        figures |= {
            name: None for name in metrics.NEED_SCALE if name in figures and name.startswith(("depth", "scale"))
        }
    return figures


def _pose_figures(frame: FramePredictions, options: EvaluationOptions, scale_ratio: float | None) -> Figures:
    """Return figures of poses and clouds; those that end in `_scaled` after division by the ranges' own scale."""
    assert frame.pose_world_cam_true is not None
    aligned = align(frame.pose_world_cam_pred, frame.pose_world_cam_true, options.alignment)
    poses = aligned.poses(frame.pose_world_cam_pred)
    figures = metrics.pose_figures(poses, frame.pose_world_cam_true, options.alignment)
    figures |= metrics.vehicle_figures(poses, frame.pose_world_cam_true, frame.meta.agents)
    figures |= _scaled_figures(frame, options, scale_ratio)
    is_metric = frame.metric_scale is not None or options.alignment == "similarity"
    if is_metric and frame.range_m_true is not None and frame.rays_true(0) is not None:
        clouds = predicted_cloud(frame, aligned), true_cloud(frame)
        figures |= cloud_figures(*clouds, frame.pose_world_cam_true[0, :3, 3], options.clouds)
    return figures


def _scaled_figures(frame: FramePredictions, options: EvaluationOptions, scale_ratio: float | None) -> Figures:
    """Return translations after one scale for the whole frame: the median of predicted / true range."""
    names = ("pose_translation", "vehicle_translation")
    if scale_ratio is None or scale_ratio <= 0 or options.alignment == "similarity":
        return {f"{name}_scaled_m": None for name in names}
    assert frame.pose_world_cam_true is not None
    scaled = frame.pose_world_cam_pred.copy()
    scaled[:, :3, 3] /= scale_ratio
    poses = align(scaled, frame.pose_world_cam_true, options.alignment).poses(scaled)
    found = metrics.pose_figures(poses, frame.pose_world_cam_true, options.alignment)
    found |= metrics.vehicle_figures(poses, frame.pose_world_cam_true, frame.meta.agents)
    return {f"{name}_scaled_m": found[f"{name}_m"] for name in names}


def predicted_cloud(frame: FramePredictions, aligned: Alignment) -> Cloud:
    """Return the predicted points of all views in the true world."""
    points = [aligned.points(frame.points_world(view)).reshape(-1, 3) for view in range(frame.views)]
    return Cloud(np.concatenate(points), frame.range_m.reshape(-1) * aligned.scale, frame.mask.reshape(-1))


def true_cloud(frame: FramePredictions) -> Cloud:
    """Return the true points of all views, where the range is known."""
    assert frame.range_m_true is not None
    points = []
    for view in range(frame.views):
        world = frame.points_world_true(view)
        assert world is not None
        points.append(world[frame.range_m_true[view] > 0])
    ranges = frame.range_m_true[frame.range_m_true > 0]
    return Cloud(np.concatenate(points), ranges, np.ones(len(ranges), dtype=bool))


def _ray_angle_deg(frame: FramePredictions) -> float | None:
    angles = []
    for view in range(frame.views):
        true = frame.rays_true(view)
        if true is None:
            return None
        angles.append(metrics.ray_angle_deg(frame.rays[view], true))
    return float(np.mean(angles))
