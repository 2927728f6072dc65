"""The page of one frame's cloud: points, cameras, vehicle boxes, predicted against true poses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mapanything_opv2v.views import stage as stages
from mapanything_opv2v.views.figures import view_figures
from mapanything_opv2v.views.frame import Frame, view_cloud
from mapanything_opv2v.views.html import SCENE_SCRIPTS, write_page
from mapanything_opv2v.views.stage import Stage, ViewPoints

POINTS = ("depth", "lidar", "none")
POINTS_TEXT = {"depth": "Point cloud", "lidar": "LiDAR sweeps", "none": "Cameras"}
POSES_TEXT = {"pred": "predicted poses", "gt": "true poses"}
MAX_POINTS = 200_000
"""What a page holds unless told; it stays smooth with them."""

ERROR_LIMIT_M = 5.0
"""Errors from which on the colour stays red, at most."""


def frame_points(frame: Frame, points: str, pose_source: str, max_points: int, seed: int = 0) -> list[ViewPoints]:
    """Return the points of a frame, view by view.

    Parameters
    ----------
    frame : Frame
        What is shown.
    points : {'depth', 'lidar', 'none'}
        From the depth maps, from the LiDAR sweeps, or no points.
    pose_source : {'pred', 'gt'}
        Whose poses place the depth maps' points.
    max_points : int
        In all; every view gets an equal part.
    seed : int
        Of the drawing where there are more.

    Raises
    ------
    ValueError
        If `points` is unknown, no view has a depth map or no agent a sweep, or `max_points` is not positive.
    """
    if points not in POINTS:
        raise ValueError(f"points={points!r}, expected one of {', '.join(POINTS)}")
    if max_points < 1:
        raise ValueError(f"max_points={max_points}, expected at least 1")
    if points == "none":
        return []
    if points == "lidar":
        if not frame.sweeps:
            raise ValueError(f"{frame.name}: no LiDAR sweep; predictions files and frames without .pcd have none")
        share = max_points // len(frame.sweeps)
        return [
            ViewPoints(agent, "LiDAR", cloud.thinned(share, np.random.default_rng([seed, number])))
            for number, (agent, cloud) in enumerate(frame.sweeps.items())
        ]
    source = frame.range_source
    with_depth = [view for view in frame.views if view.estimate(source).range_m is not None]
    if not with_depth:
        raise ValueError(
            f"{frame.name}: no depth maps; make them with `mapanything-opv2v depth`, say where they are with "
            "--depth-root, or take --points lidar"
        )
    share = max_points // len(with_depth)
    return [
        ViewPoints(
            view.agent_id,
            view.name,
            view_cloud(view, pose_source, source, share, np.random.default_rng([seed, number])),
            view,
        )
        for number, view in enumerate(with_depth)
    ]


def page_title(what: str, frame: Frame, pose_source: str) -> str:
    """Return a page's title: what it shows, of which frame, by whose poses, made by what."""
    return " · ".join([what, frame.name, POSES_TEXT[pose_source], frame.made_by])


def write_pointcloud(
    path: Path,
    frame: Frame,
    *,
    points: str = "depth",
    pose_source: str | None = None,
    max_points: int = MAX_POINTS,
) -> int:
    """Write the page; return the number of points in it."""
    source = frame.pose_source(pose_source)
    parts = frame_points(frame, points, source, max_points)
    data = scene_data(frame, parts, source)
    data["tables"] = [_pose_table(frame, source)] if data["hasTruth"] else []
    write_page(
        path,
        title=page_title(POINTS_TEXT[points], frame, source),
        facts={**page_facts(frame, source, points), "points": f"{data['count']:,}"},
        body="scene.html",
        scripts=(*SCENE_SCRIPTS, "pointcloud.js"),
        data=data,
        kind="scenes",
    )
    return data["count"]


def page_facts(frame: Frame, pose_source: str, points: str) -> dict[str, str]:
    """Return what stands under a page's title."""
    facts = {"frame": frame.name, "poses": "predicted" if pose_source == "pred" else "true"}
    if points == "depth":
        facts["depth"] = "predicted" if frame.range_source == "pred" else "true"
    return {**facts, **frame.provenance}


def scene_data(frame: Frame, parts: Sequence[ViewPoints], pose_source: str) -> dict[str, Any]:
    """Return what a page with a scene draws of a frame."""
    stage = Stage.around(frame.views[0].estimate(pose_source).T_world_cam)
    clouds = [part.cloud for part in parts]
    boxes = stages.boxes_data(stage, frame)
    ground = stages.ground_m(stage, clouds, boxes)
    groups = [_group(stage, frame, parts, agent, pose_source) for agent in frame.agents]
    errors = [cloud.error_m for cloud in clouds if cloud.error_m is not None]
    centres = [view.estimate(pose_source).T_world_cam[:3, 3] for view in frame.views]
    around_m = 28.0 if parts or boxes else 7.0
    if parts and not boxes:  # a room is looked at from nearer than a street
        around_m = min(around_m, max(1.0, 2 * stages.reach_m(clouds, centres)))
    has_truth = any("trueCamera" in view for group in groups for view in group["views"])
    return {
        "groups": groups,
        "boxes": boxes,
        "ground": round(ground, 3),
        "heightEnds": stages.height_ends(stage, clouds, ground),
        "valueName": "error of the distance" if errors else None,
        "valueLimit": _limit(errors),
        "imageText": "height over the LiDAR" if frame.sweeps and any(part.view is None for part in parts) else "image",
        "cameraText": f"{'predicted' if pose_source == 'pred' else 'true'} cameras",
        "hasTruth": has_truth,
        "count": sum(len(cloud) for cloud in clouds),
        "start": stages.start_camera(stage, centres, around_m=around_m),
        "T_page_world": stage.T_page_world.tolist(),
    }


def _group(stage: Stage, frame: Frame, parts: Sequence[ViewPoints], agent_id: int, pose_source: str) -> dict[str, Any]:
    """Return one agent's views, with and without points."""
    views: list[dict[str, Any]] = []
    for view in (view for view in frame.views if view.agent_id == agent_id):
        made: dict[str, Any] = {"name": view.name, "camera": stage.camera(view, view.estimate(pose_source).T_world_cam)}
        if pose_source == "pred" and view.true is not None:
            made["trueCamera"] = stage.camera(view, view.true.T_world_cam)
        for part in parts:
            if part.view is view:
                made |= stages.points_data(stage, part.cloud)
        views.append(made)
    for part in parts:
        if part.view is None and part.agent_id == agent_id:
            views.append({"name": part.name, **stages.points_data(stage, part.cloud)})
    colour = list(stages.colour_of(frame, agent_id))
    return {"name": stages.vehicle_name(agent_id), "colour": colour, "views": views}


def _limit(errors: Sequence[np.ndarray]) -> float:
    """Return the error at which the colours end: the 95th percentile, between 0.1 m and `ERROR_LIMIT_M`."""
    known = np.concatenate([error[np.isfinite(error)] for error in errors]) if errors else np.empty(0)
    return round(float(np.clip(np.percentile(known, 95), 0.1, ERROR_LIMIT_M)), 2) if len(known) else 1.0


def _pose_table(frame: Frame, pose_source: str) -> dict[str, Any]:
    """Return how far predicted poses are from the true ones, and depths, view by view."""
    rows = []
    for view in frame.views:
        figures = view_figures(view, pose_source)
        cells = (figures.get(key) for key in ("translation_error_m", "rotation_error_deg", "depth_rmse_m"))
        rows.append([view.label, *("-" if cell is None else f"{cell:.2f}" for cell in cells)])
    return {"title": "Errors", "head": ["view", "m", "deg", "depth m"], "rows": rows}
