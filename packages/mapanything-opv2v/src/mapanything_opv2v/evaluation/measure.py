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
        "metric_scale": float(frame.metric_scale),
        **metrics.mask_figures(frame.mask, frame.mask_true, frame.range_m_true),
        "ray_angle_deg": _ray_angle_deg(frame),
    }
    if frame.range_m_true is not None:
        figures |= metrics.range_figures(frame.range_m, frame.range_m_true)
    if frame.pose_world_cam_true is None:
        return figures
    aligned = align(frame.pose_world_cam_pred, frame.pose_world_cam_true, options.alignment)
    poses = aligned.poses(frame.pose_world_cam_pred)
    figures |= metrics.pose_figures(poses, frame.pose_world_cam_true, options.alignment)
    figures |= metrics.vehicle_figures(poses, frame.pose_world_cam_true, frame.meta.agents)
    if frame.range_m_true is not None and frame.rays_true(0) is not None:
        clouds = predicted_cloud(frame, aligned), true_cloud(frame)
        figures |= cloud_figures(*clouds, frame.pose_world_cam_true[0, :3, 3], options.clouds)
    return figures


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
