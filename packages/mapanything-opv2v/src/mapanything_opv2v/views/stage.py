"""The axes of pages with a scene: right-handed, x forward (main agent's heading), y left, z up, metres.

The origin is the main agent's first camera. The world's up (OpenCV's -y) stays up, so slopes stay slopes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mapanything_opv2v.geometry import Cylinder, FloatArray, transform_points
from mapanything_opv2v.views.frame import Cloud, Frame, View
from mapanything_opv2v.views.html import PALETTE, encode

FRUSTUM_M = 1.2
"""Length of the cameras that are drawn."""

RING = 12
"""Corners of the ring that stands for a panorama."""

_FLU_FROM_OPENCV = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


@dataclass(frozen=True)
class Stage:
    """Where a page's origin and axes are: (4, 4), world in OpenCV axes to page."""

    T_page_world: FloatArray

    @classmethod
    def around(cls, T_world_cam: FloatArray) -> Stage:
        """Put the origin at a camera and x where it looks, seen from above."""
        ahead = _FLU_FROM_OPENCV @ T_world_cam[:3, 2]
        yaw = math.atan2(ahead[1], ahead[0])
        turn = np.array([[math.cos(yaw), math.sin(yaw), 0], [-math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]])
        T = np.eye(4)
        T[:3, :3] = turn @ _FLU_FROM_OPENCV
        T[:3, 3] = -T[:3, :3] @ T_world_cam[:3, 3]
        return cls(T)

    def points(self, xyz_world: npt.NDArray[Any]) -> FloatArray:
        """Return (..., 3) points of the world in the page's axes."""
        return transform_points(self.T_page_world, xyz_world)

    def camera(self, view: View, T_world_cam: FloatArray) -> dict[str, Any]:
        """Return what a scene draws of a camera."""
        if isinstance(view.camera, Cylinder):
            turns = np.arange(RING) * (2 * math.pi / RING)
            corners = np.stack([np.sin(turns), np.zeros(RING), np.cos(turns)], axis=1)
        else:
            rays = view.camera.rays() if view.camera is not None else _rays(view)
            corners = rays[[0, 0, -1, -1], [0, -1, -1, 0]]
        corners = self.points(transform_points(T_world_cam, FRUSTUM_M * corners))
        forward = self.T_page_world[:3, :3] @ T_world_cam[:3, 2]
        return {
            "centre": listed(self.points(T_world_cam[:3, 3])),
            "corners": listed(corners),
            "forward": listed(forward),
        }


@dataclass(frozen=True)
class ViewPoints:
    """A view's points on a page: its cloud, and which view of the frame it belongs to (None: a sweep or a file)."""

    agent_id: int
    name: str
    cloud: Cloud
    view: View | None = None


def listed(array: npt.NDArray[Any]) -> Any:
    """Return an array as nested lists, rounded to tenths of a millimetre."""
    return np.round(array, 4).tolist()


def vehicle_name(agent_id: int) -> str:
    """Return what an agent is called on pages."""
    return f"infrastructure {agent_id}" if agent_id < 0 else f"vehicle {agent_id}"


def colour_of(frame: Frame, agent_id: int) -> tuple[int, int, int]:
    """Return an agent's colour."""
    return PALETTE[frame.agents.index(agent_id) % len(PALETTE)]


def points_data(stage: Stage, cloud: Cloud) -> dict[str, Any]:
    """Return a cloud as typed arrays for the page, shuffled: a page in a hurry draws the first part of them."""
    order = np.random.default_rng(0).permutation(len(cloud))
    made = {"xyz": encode(stage.points(cloud.xyz[order]).astype(np.float32)), "rgb": encode(cloud.rgb[order])}
    return made if cloud.error_m is None else {**made, "value": encode(cloud.error_m[order].astype(np.float32))}


def boxes_data(stage: Stage, frame: Frame) -> list[dict[str, Any]]:
    """Return the annotated vehicles for the page; agents have no name here, their cameras bear it."""
    return [
        {"name": "" if number in frame.agents else str(number), "corners": listed(stage.points(corners))}
        for number, corners in frame.boxes.items()
    ]


def ground_m(stage: Stage, clouds: Sequence[Cloud], boxes: Sequence[dict[str, Any]]) -> float:
    """Return a height for the grid: under the boxes, else under most points near the origin, else 1.9 m below it."""
    near = [points for points in (stage.points(cloud.xyz) for cloud in clouds) if len(points)]
    close = np.concatenate([points[np.hypot(points[:, 0], points[:, 1]) < 30, 2] for points in near] or [np.empty(0)])
    if len(close):
        return float(np.percentile(close, 5))
    lows = [min(corner[2] for corner in box["corners"]) for box in boxes]
    return float(np.median(lows)) if lows else -1.9


def height_ends(stage: Stage, clouds: Sequence[Cloud], ground: float) -> list[float]:
    """Return the heights at which the colours of heights begin and end."""
    heights = np.concatenate([stage.points(cloud.xyz)[:, 2] for cloud in clouds] or [np.empty(0)])
    top = float(np.percentile(heights, 98)) if len(heights) else ground + 5
    return [round(ground - 0.5, 2), round(max(top, ground + 1), 2)]


def start_camera(stage: Stage, centres: Sequence[FloatArray], around_m: float = 28.0) -> dict[str, Any]:
    """Return the first look: from behind and above, towards the middle of the cameras, `around_m` off them."""
    places = stage.points(np.asarray(centres))
    middle, spread = places.mean(axis=0), float(np.linalg.norm(places - places.mean(axis=0), axis=1).max())
    target = middle + np.array([around_m / 5, 0, 0])
    return {"target": listed(target), "yaw": 0, "pitch": 32, "distance": round(around_m + 1.6 * spread, 2)}


def reach_m(clouds: Sequence[Cloud], centres: Sequence[FloatArray]) -> float:
    """Return how far from the cameras' middle most points lie."""
    points = [cloud.xyz for cloud in clouds if len(cloud)]
    if not points:
        return 0.0
    return float(np.percentile(np.linalg.norm(np.concatenate(points) - np.mean(centres, axis=0), axis=1), 80))


def _rays(view: View) -> npt.NDArray[Any]:
    """Return a view's predicted rays, for cameras without calibration."""
    assert view.pred is not None and view.pred.rays is not None
    return view.pred.rays
