"""Depth maps from LiDAR sweeps: what OPV2V has instead of dense depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from mapanything_opv2v import geometry, jobs, rawdata
from mapanything_opv2v.files import read_json, remove_stale, write_json
from mapanything_opv2v.geometry import FloatArray
from mapanything_opv2v.rawdata.calibration import fitted_intrinsic

PARAMETERS_FILE = "depth_parameters.json"
HIDDEN_MARGIN = 0.1
"""A sample hides those behind it that are farther by more than this share of its depth."""


@dataclass(frozen=True, kw_only=True)
class DepthOptions:
    """How depth maps are made."""

    sweeps: str = "own"
    """`own`: the agent's own sweep. `all`: those of every agent at the frame, moved by their LiDAR poses."""

    hide_px: int = 3
    """Drop samples that a nearer one within this many pixels hides. A sweep seen from a camera beside the
    LiDAR shows surfaces through the gaps of those in front, another agent's sweep all the more; 0 keeps
    them."""

    suffix: str = ".npy"
    """`.npy` (float32 metres) or `.png` (16 bits, 1/64 m)."""

    def __post_init__(self) -> None:
        """Refuse values without a meaning."""
        if self.sweeps not in ("own", "all"):
            raise ValueError(f"sweeps={self.sweeps!r}, expected 'own' or 'all'")
        if not 0 <= self.hide_px <= 50:
            raise ValueError(f"hide_px={self.hide_px!r}, expected 0 to 50")
        if self.suffix not in (".npy", ".png"):
            raise ValueError(f"suffix={self.suffix!r}, expected '.npy' or '.png'")


def project_points(
    points_cam: npt.NDArray[np.floating[Any]], intrinsic: npt.ArrayLike, size_wh: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """Project points into a depth map; where several fall into a pixel the nearest stays.

    Parameters
    ----------
    points_cam : (N, 3) float
        Camera OpenCV axes, metres.
    intrinsic : (3, 3) array_like
        Pixel centres at integers.
    size_wh : tuple of int
        Width and height of the map.

    Returns
    -------
    (H, W) float32
        z-depth in metres, 0 where no point falls.
    """
    width, height = size_wh
    u, v, z = geometry.project_pinhole(intrinsic, points_cam)
    with np.errstate(invalid="ignore"):
        inside = (u >= -0.5) & (u < width - 0.5) & (v >= -0.5) & (v < height - 0.5)
    pixel = np.rint(v[inside]).astype(np.int64) * width + np.rint(u[inside]).astype(np.int64)
    nearest = np.full(width * height, np.inf, np.float32)
    np.minimum.at(nearest, pixel, z[inside].astype(np.float32))
    nearest[np.isinf(nearest)] = 0
    return nearest.reshape(height, width)


def drop_hidden(depth_z_m: npt.NDArray[np.float32], radius_px: int) -> npt.NDArray[np.float32]:
    """Return a sparse depth map without the samples that a nearer one beside them hides.

    Parameters
    ----------
    depth_z_m : (H, W) float32
        Metres, 0 unknown.
    radius_px : int
        A sample hides others in a square of this half width.
    """
    known = depth_z_m > 0
    far = np.where(known, depth_z_m, np.float32(1e9))
    nearest = cv2.erode(far, np.ones((2 * radius_px + 1, 2 * radius_px + 1), np.uint8))
    return np.where(known & (depth_z_m > nearest * (1 + HIDDEN_MARGIN)), np.float32(0), depth_z_m)


def agent_depths(
    meta: rawdata.AgentMeta,
    sweeps: Sequence[tuple[npt.NDArray[np.float32], npt.ArrayLike]],
    sizes_wh: dict[int, tuple[int, int]],
    hide_px: int = 0,
    files: Mapping[int, Path] | None = None,
) -> dict[int, npt.NDArray[np.float32]]:
    """Project LiDAR sweeps into an agent's cameras.

    Parameters
    ----------
    meta : AgentMeta
        The agent whose cameras are meant.
    sweeps : sequence of ((N, 3) float32, (6,) array_like)
        Points in their LiDAR's CARLA axes, and that LiDAR's pose.
    sizes_wh : dict of int to (int, int)
        Camera index to image size; these cameras are made.
    hide_px : int
        See `DepthOptions`.
    files : mapping of int to Path, optional
        The images, for messages.

    Returns
    -------
    dict of int to (H, W) float32
        z-depth in metres, 0 unknown.
    """
    depths = {}
    for number, size in sizes_wh.items():
        camera = meta.cameras[number]
        T_cam_world = geometry.invert(geometry.T_world_cam_opencv(camera.cords))
        points = [
            geometry.transform_points(
                T_cam_world @ geometry.T_world_cam_opencv(pose), geometry.points_carla_to_opencv(xyz)
            )
            for xyz, pose in sweeps
        ]
        where = f"camera{number}" if files is None else files[number]
        depth = project_points(np.concatenate(points), fitted_intrinsic(camera, size, where), size)
        depths[number] = drop_hidden(depth, hide_px) if hide_px else depth
    return depths


@dataclass(frozen=True)
class DepthSummary:
    """What `write_depths` did: numbers of maps, mean share of known pixels, errors by frame and agent."""

    written: int
    skipped: int
    coverage: float
    failed: dict[str, str]


def write_depths(
    index: rawdata.TreeIndex,
    depth_root: str | Path,
    options: DepthOptions | None = None,
    *,
    overwrite: bool = False,
    workers: int = 1,
    executor: Executor | None = None,
    progress: bool = True,
) -> DepthSummary:
    """Write the depth maps of every agent and frame of an index, where `rawdata.index_tree` looks for them.

    Maps that are there are kept, so a stopped job goes on where it was.

    Parameters
    ----------
    index : TreeIndex
        What to work on.
    depth_root : path
        Tree to write into.
    options : DepthOptions, optional
        How.
    overwrite : bool
        Make maps again that are there.
    workers : int
        Processes; with an executor, how many items it works on at once.
    executor : Executor, optional
        Run there instead of in processes of this machine.
    progress : bool
        Show a bar.

    Raises
    ------
    ValueError
        If the tree was begun with other options.
    """
    options, depth_root = options or DepthOptions(), Path(depth_root)
    _claim(depth_root, options, overwrite)
    remove_stale(depth_root)
    tasks = (
        _Task(frame, agent.agent_id, depth_root, options, overwrite)
        for frames in index.splits.values()
        for frame in frames
        for agent in frame.agents
        if agent.has_yaml and agent.camera_paths
    )
    total = sum(frames.count_agents() for frames in index.splits.values())
    written, skipped, failed = 0, 0, {}
    shares: list[float] = []
    outcomes = jobs.run(
        _write_agent,
        tasks,
        total=total,
        workers=workers,
        description="depth",
        unit="agent",
        executor=executor,
        progress=progress,
    )
    for done in outcomes:
        if done.result is None:
            failed[f"{done.item.frame.name} agent {done.item.agent_id}"] = str(done.error)
        else:
            shares += done.result.shares
            written, skipped = written + len(done.result.shares), skipped + done.result.skipped
    return DepthSummary(written, skipped, float(np.mean(shares)) if shares else 0.0, failed)


@dataclass(frozen=True)
class _Task:
    frame: rawdata.FrameRecord
    agent_id: int
    depth_root: Path
    options: DepthOptions
    overwrite: bool


@dataclass(frozen=True)
class _Written:
    shares: list[float]
    skipped: int


def _write_agent(task: _Task) -> _Written:
    """Write one agent's missing depth maps at one frame."""
    frame, options = task.frame, task.options
    agent = frame.agent(task.agent_id)
    paths = {
        number: rawdata.depth_path(
            task.depth_root, frame.split, frame.sequence, agent.agent_id, frame.frame, number
        ).with_suffix(options.suffix)
        for number in agent.camera_paths
    }
    missing = [number for number, path in paths.items() if task.overwrite or not path.exists()]
    if not missing:
        return _Written([], len(paths))
    meta = rawdata.load_agent_yaml(agent.yaml_path)
    unknown = [number for number in missing if number not in meta.cameras]
    if unknown:
        raise ValueError(f"{agent.yaml_path}: images of cameras {unknown} but no entries for them")
    sizes = {number: rawdata.image_size(agent.camera_paths[number]) for number in missing}
    depths = agent_depths(meta, _sweeps(frame, agent, options), sizes, options.hide_px, agent.camera_paths)
    for number, depth in depths.items():
        rawdata.save_depth(paths[number], depth)
    return _Written([float((depth > 0).mean()) for depth in depths.values()], len(paths) - len(missing))


def _sweeps(
    frame: rawdata.FrameRecord, agent: rawdata.AgentRecord, options: DepthOptions
) -> list[tuple[npt.NDArray[np.float32], FloatArray]]:
    """Return the sweeps to project, each with its LiDAR's pose."""
    givers = [agent] if options.sweeps == "own" else [a for a in frame.agents if a.pcd_path and a.has_yaml]
    sweeps = []
    for giver in givers:
        if giver.pcd_path is None:
            raise ValueError(f"{giver.yaml_path}: agent {giver.agent_id} has no LiDAR sweep (.pcd) at this frame")
        sweeps.append((rawdata.load_pcd(giver.pcd_path).xyz, rawdata.load_agent_yaml(giver.yaml_path).lidar_pose))
    if not sweeps:
        raise ValueError(f"{frame.name}: no agent has a LiDAR sweep (.pcd)")
    return sweeps


def _claim(depth_root: Path, options: DepthOptions, overwrite: bool) -> None:
    """Record the options in the tree; refuse a tree that was begun with others."""
    path, mine = depth_root / PARAMETERS_FILE, asdict(options)
    if path.exists() and not overwrite:
        try:
            theirs = read_json(path)
        except ValueError as error:
            raise ValueError(f"{error}; write to another folder, or overwrite") from error
        if theirs != mine:
            raise ValueError(
                f"{depth_root} was begun with {theirs}, now asked for {mine}; write to another folder, or overwrite"
            )
    write_json(path, mine)
