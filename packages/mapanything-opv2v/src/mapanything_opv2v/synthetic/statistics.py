"""What a set of frames is like: distances, headings, and how much one agent sees of what another sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mapanything_opv2v import geometry, jobs, rawdata
from mapanything_opv2v.geometry import FloatArray

POINTS = 1500
"""Surface points of an agent, drawn evenly over its pixels, that are looked up in the others' views."""

FARTHEST_M = 70.0
SAME_SURFACE = 0.05
"""Relative difference of depths up to which a camera sees the point, not something before it."""

PUBLISHED = {"agents": "mean 2.89 (2 to 7)", "vehicles": "mean 20.3", "distance_m": "up to 70"}
"""OPV2V (Xu et al., ICRA 2022, arXiv 2109.07644): agents of a frame (tables II and III: 2.89 +- 1.06; section III.A:
2 to 7), 232,913 boxes in 11,464 frames (abstract), and how far vehicles talk (section V.B: 70 m)."""


@dataclass(frozen=True)
class SetStatistics:
    """Figures of a set; arrays have a value for each frame, or for each ordered pair of agents of a frame.

    Attributes
    ----------
    frames : int
    agents, vehicles : array
        Of each frame: agents, and annotated vehicles that are not agents' own.
    distance_m, heading_deg, overlap : array
        Of each pair: between the LiDARs, between the forward directions (0 to 180), and the share of the first
        one's surface points within 70 m that the second one sees.
    alone : array
        Of each frame with two agents or more: share of surface points that one agent only sees.
    slope_deg : array
        Of each agent: how far its vertical leans.
    """

    frames: int
    agents: npt.NDArray[Any]
    vehicles: npt.NDArray[Any]
    distance_m: FloatArray
    heading_deg: FloatArray
    overlap: FloatArray
    alone: FloatArray
    slope_deg: FloatArray


def of_tree(index: rawdata.TreeIndex, *, workers: int = 1, progress: bool = False) -> SetStatistics:
    """Measure every frame of a tree; `overlap` and `alone` need dense depth.

    Raises
    ------
    ValueError
        If there is no frame, or a file cannot be read.
    """
    frames = [frame for split in index.splits.values() for frame in split]
    if not frames:
        raise ValueError(f"{index.root}: no frame to measure")
    rows = []
    for done in jobs.run(
        partial(of_frame, seed=0), frames, workers=workers, description="statistics", unit="frame", progress=progress
    ):
        if done.error is not None:
            raise ValueError(f"{done.item.name}: {done.error}") from done.error
        assert done.result is not None
        rows.append(done.result)
    return SetStatistics(
        frames=len(rows),
        **{name: np.concatenate([np.atleast_1d(row[name]) for row in rows]) for name in rows[0]},
    )


def of_frame(frame: rawdata.FrameRecord, seed: int) -> Mapping[str, Any]:
    """Return the figures of one frame, as `SetStatistics` names them."""
    metas = {agent.agent_id: rawdata.load_agent_yaml(agent.yaml_path) for agent in frame.agents}
    poses = {agent: geometry.T_world_from_pose(meta.lidar_pose) for agent, meta in metas.items()}
    depths = {agent.agent_id: _depths(agent) for agent in frame.agents}
    rng = np.random.default_rng(seed)
    points = {agent: _surface(metas[agent], depths[agent], rng) for agent in metas}
    distance, heading, overlap, alone, seen_points = [], [], [], 0, 0
    for a in metas:
        elsewhere = np.zeros(len(points[a]), dtype=bool)
        for b in metas:
            if a == b:
                continue
            seen = sees(metas[b], depths[b], points[a])
            elsewhere |= seen
            between = geometry.invert(poses[a]) @ poses[b]
            distance.append(float(np.linalg.norm(between[:3, 3])))
            heading.append(float(np.degrees(np.arccos(np.clip(between[0, 0], -1, 1)))))
            if len(seen):
                overlap.append(float(seen.mean()))
        alone, seen_points = alone + int((~elsewhere).sum()), seen_points + len(elsewhere)
    others = {vehicle for meta in metas.values() for vehicle in meta.vehicles} - set(metas)
    return {
        "agents": len(metas),
        "vehicles": len(others),
        "distance_m": np.array(distance),
        "heading_deg": np.array(heading),
        "overlap": np.array(overlap),
        "alone": np.array([alone / seen_points] if seen_points and len(metas) > 1 else []),
        "slope_deg": np.array([np.degrees(np.arccos(np.clip(pose[2, 2], -1, 1))) for pose in poses.values()]),
    }


def sees(meta: rawdata.AgentMeta, depths: Mapping[int, Any], points: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which points (N, 3), world, OpenCV axes, lie on what an agent's cameras see."""
    seen = np.zeros(len(points), dtype=bool)
    for number, depth in depths.items():
        camera = meta.cameras[number]
        T_cam_world = geometry.invert(geometry.T_world_cam_opencv(camera.cords))
        u, v, z = geometry.project_pinhole(camera.intrinsic, geometry.transform_points(T_cam_world, points))
        height, width = depth.shape
        with np.errstate(invalid="ignore"):
            inside = (z > 0.1) & (u >= -0.5) & (u < width - 0.5) & (v >= -0.5) & (v < height - 0.5)
        there = depth[np.rint(v[inside]).astype(int), np.rint(u[inside]).astype(int)]
        seen[np.flatnonzero(inside)[np.abs(there - z[inside]) <= SAME_SURFACE * z[inside]]] = True
    return seen


def _depths(agent: rawdata.AgentRecord) -> dict[int, npt.NDArray[Any]]:
    return {number: rawdata.load_depth(path) for number, path in agent.depth_paths.items()}


def _surface(meta: rawdata.AgentMeta, depths: Mapping[int, Any], rng: np.random.Generator) -> FloatArray:
    """Return surface points of an agent's views (N, 3), world, OpenCV axes."""
    points = [np.empty((0, 3))]
    for number, depth in depths.items():
        camera = meta.cameras[number]
        height, width = depth.shape
        v, u = rng.integers(0, height, POINTS // 4), rng.integers(0, width, POINTS // 4)
        rays = geometry.pinhole_rays(camera.intrinsic, (width, height))[v, u]
        z = depth[v, u].astype(np.float64)
        good = (z > 0) & (z * np.linalg.norm(rays, axis=-1) <= FARTHEST_M)
        points.append(geometry.transform_points(geometry.T_world_cam_opencv(camera.cords), rays[good] * z[good, None]))
    return np.concatenate(points)


def lines(found: SetStatistics) -> Iterator[str]:
    """Yield the statistics as text, beside what is published of OPV2V."""
    yield f"{found.frames} frames; of each figure 5 %, median, 95 %; OPV2V's as published"
    for name, text in (
        ("agents", "agents of a frame"),
        ("vehicles", "annotated vehicles of a frame"),
        ("distance_m", "distance between agents, m"),
        ("heading_deg", "between their headings, degrees"),
        ("overlap", "share of an agent's surface that another sees"),
        ("alone", "share of surface that one agent only sees"),
        ("slope_deg", "lean of an agent, degrees"),
    ):
        values = getattr(found, name)
        if len(values):
            low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
            known = f"   OPV2V: {PUBLISHED[name]}" if name in PUBLISHED else ""
            yield f"{text:<48} {low:8.2f} {middle:8.2f} {high:8.2f}{known}"
    if len(found.overlap):
        yield f"{'pairs without common view (below 2 %)':<48} {np.mean(found.overlap < 0.02):8.1%}"
