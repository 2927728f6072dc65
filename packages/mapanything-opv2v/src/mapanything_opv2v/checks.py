"""Reading every file of a tree once, and saying everything that is wrong with it.

Problems are collected, never raised: one run lists them all. A problem names split, sequence, frame, agent,
what is concerned and which file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mapanything_opv2v import depth, geometry, jobs, rawdata

T = TypeVar("T")

CAMERAS_IN_OPV2V = 4


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """What counts as a problem."""

    need_depth: bool = False
    """Every image must have a depth map."""

    need_lidar: bool = True
    """Every agent must have a sweep."""

    cameras: int = CAMERAS_IN_OPV2V
    """Cameras that every agent must have, counted from 0."""

    max_position_error_m: float = 0.05
    """Camera from the poses against camera from the file's own `extrinsic`."""

    max_angle_error_deg: float = 0.1
    """As `max_position_error_m`."""

    max_depth_error: float = 0.05
    """Median relative difference between depth map and own sweep at the pixels that both have."""

    min_depth_coverage: float = 0.002
    """Smallest share of known pixels of a depth map (sky counts as known)."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    split: str
    sequence: str
    frame: str
    agent: int
    key: str
    file: str
    message: str

    def __str__(self) -> str:
        """Return one line for people."""
        return f"{self.split}/{self.sequence}/{self.frame} agent {self.agent} {self.key}: {self.message}"


@dataclass(frozen=True)
class AgentReport:
    """What was found at one agent and frame."""

    problems: tuple[Problem, ...]
    files: int
    position_error_m: float | None
    angle_error_deg: float | None
    coverage: dict[int, float]


@dataclass
class CheckReport:
    """What was found in a tree.

    Attributes
    ----------
    root, depth_root : str
    scenes, agent_frames, files : int
        Frames, agents at frames, files read.
    agents_per_frame, cameras_per_frame : dict of str to (dict of int to int)
        By split: how many frames have so many agents, so many camera views.
    max_position_error_m, max_angle_error_deg : float or None
        Largest difference between poses and `extrinsic`.
    depth_coverage : dict of str to (dict of str to float)
        By split: lowest, mean and highest share of pixels with depth.
    problems : list of Problem
        In the order of the tree.
    """

    root: str
    depth_root: str
    scenes: int = 0
    agent_frames: int = 0
    files: int = 0
    agents_per_frame: dict[str, dict[int, int]] = field(default_factory=dict)
    cameras_per_frame: dict[str, dict[int, int]] = field(default_factory=dict)
    max_position_error_m: float | None = None
    max_angle_error_deg: float | None = None
    depth_coverage: dict[str, dict[str, float]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return asdict(self)


def check_tree(
    index: rawdata.TreeIndex,
    options: CheckOptions | None = None,
    *,
    max_scenes: int | None = None,
    workers: int = 1,
    progress: bool = True,
) -> CheckReport:
    """Read every file of an index and report on it.

    Parameters
    ----------
    index : TreeIndex
        What to check.
    options : CheckOptions, optional
        What counts as a problem.
    max_scenes : int, optional
        Check only so many frames.
    workers : int
        Processes.
    progress : bool
        Show a bar.
    """
    options = options or CheckOptions()
    frames = [frame for split in index.splits.values() for frame in split][:max_scenes]
    report = CheckReport(str(index.root), str(index.depth_root), scenes=len(frames))
    _count(report, frames)
    order = {(f.name, a.agent_id): n for n, (f, a) in enumerate((f, a) for f in frames for a in f.agents)}
    tasks = [_Task(frame, agent.agent_id, options) for frame in frames for agent in frame.agents]
    found: list[tuple[int, str, AgentReport]] = []
    for done in jobs.run(_check_agent, tasks, workers=workers, description="check", progress=progress):
        if done.result is None:
            raise RuntimeError(
                f"{done.item.frame.name}: {done.error}"
            ) from done.error  # a check reports, never raises
        where = order[done.item.frame.name, done.item.agent_id]
        found.append((where, done.item.frame.split, done.result))
    for _, split, result in sorted(found, key=lambda item: item[0]):
        _add(report, split, result)
    return report


@dataclass(frozen=True)
class _Task:
    frame: rawdata.FrameRecord
    agent_id: int
    options: CheckOptions


def _count(report: CheckReport, frames: Sequence[rawdata.FrameRecord]) -> None:
    for split in dict.fromkeys(frame.split for frame in frames):
        mine = [frame for frame in frames if frame.split == split]
        report.agents_per_frame[split] = dict(sorted(Counter(len(frame.agents) for frame in mine).items()))
        views = Counter(sum(len(agent.camera_paths) for agent in frame.agents) for frame in mine)
        report.cameras_per_frame[split] = dict(sorted(views.items()))


def _add(report: CheckReport, split: str, result: AgentReport) -> None:
    report.agent_frames += 1
    report.files += result.files
    report.problems += result.problems
    for name, value in (
        ("max_position_error_m", result.position_error_m),
        ("max_angle_error_deg", result.angle_error_deg),
    ):
        if value is not None:
            setattr(report, name, max(value, getattr(report, name) or 0.0))
    for share in result.coverage.values():
        seen = report.depth_coverage.setdefault(
            split, {"maps": 0, "lowest": share, "mean": 0.0, "highest": share}
        )
        seen["lowest"], seen["highest"] = min(seen["lowest"], share), max(seen["highest"], share)
        seen["mean"] = (seen["mean"] * seen["maps"] + share) / (seen["maps"] + 1)
        seen["maps"] += 1


class _Checker:
    """Collects the problems of one agent at one frame."""

    def __init__(self, task: _Task) -> None:
        self.frame, self.options = task.frame, task.options
        self.agent = task.frame.agent(task.agent_id)
        self.problems: list[Problem] = []
        self.files = 0
        self.position_error_m: float | None = None
        self.angle_error_deg: float | None = None
        self.coverage: dict[int, float] = {}

    def problem(self, key: str, file: Path, message: str) -> None:
        """Note a problem."""
        f = self.frame
        self.problems.append(
            Problem(f.split, f.sequence, f.frame, self.agent.agent_id, key, str(file), message)
        )

    def read(self, key: str, path: Path, load: Callable[[Path], T]) -> T | None:
        """Read a file, or note why it cannot be read."""
        try:
            value = load(path)
        except (OSError, ValueError) as error:
            self.problem(key, path, str(error))
            return None
        self.files += 1
        return value

    def run(self) -> AgentReport:
        """Check everything of this agent."""
        agent = self.agent
        meta = None
        if agent.has_yaml:
            meta = self.read("yaml", agent.yaml_path, rawdata.load_agent_yaml)
        else:
            self.problem("yaml", agent.yaml_path, "missing")
        points = self._lidar()
        sizes = self._images()
        if meta is not None:
            self._poses(meta)
            for number in sorted(set(agent.camera_paths) - set(meta.cameras)):
                self.problem(
                    f"camera{number}", agent.yaml_path, f"an image but no camera{number} in the YAML"
                )
        self._depths(meta, sizes, points)
        return AgentReport(
            tuple(self.problems), self.files, self.position_error_m, self.angle_error_deg, self.coverage
        )

    def _lidar(self) -> npt.NDArray[np.float32] | None:
        agent = self.agent
        if agent.pcd_path is None:
            if self.options.need_lidar:
                self.problem("lidar", agent.yaml_path.with_suffix(".pcd"), "missing")
            return None
        cloud = self.read("lidar", agent.pcd_path, rawdata.load_pcd)
        if cloud is None:
            return None
        if len(cloud.xyz) == 0:
            self.problem("lidar", agent.pcd_path, "no points")
            return None
        return cloud.xyz

    def _images(self) -> dict[int, tuple[int, int]]:
        """Return the sizes of the images that can be read."""
        agent, sizes = self.agent, {}
        for number in range(self.options.cameras):
            if number not in agent.camera_paths:
                path = agent.yaml_path.with_name(f"{self.frame.frame}_camera{number}.png")
                self.problem(f"camera{number}", path, "missing")
        for number, path in agent.camera_paths.items():
            image = self.read(f"camera{number}", path, rawdata.load_image)
            if image is not None:
                sizes[number] = (image.shape[1], image.shape[0])
        return sizes

    def _poses(self, meta: rawdata.AgentMeta) -> None:
        """Compare each camera's place by the poses with the file's own `extrinsic`."""
        for number, camera in meta.cameras.items():
            if camera.extrinsic is None:
                continue
            try:
                stated = geometry.check_rigid(camera.extrinsic)
            except ValueError as error:
                self.problem(f"camera{number}.extrinsic", self.agent.yaml_path, str(error))
                continue
            computed = geometry.T_cam_lidar_carla(camera.cords, meta.lidar_pose)
            between = computed @ geometry.invert(stated)
            position = float(np.linalg.norm(between[:3, 3]))
            angle = geometry.rotation_angle_deg(between[:3, :3])
            self.position_error_m = max(position, self.position_error_m or 0.0)
            self.angle_error_deg = max(angle, self.angle_error_deg or 0.0)
            if position > self.options.max_position_error_m or angle > self.options.max_angle_error_deg:
                self.problem(
                    f"camera{number}.extrinsic",
                    self.agent.yaml_path,
                    f"cords and lidar_pose differ from extrinsic by {position:.3f} m, {angle:.3f} degrees",
                )

    def _depths(
        self,
        meta: rawdata.AgentMeta | None,
        sizes: dict[int, tuple[int, int]],
        points: npt.NDArray[np.float32] | None,
    ) -> None:
        agent = self.agent
        for number in agent.camera_paths:
            if self.options.need_depth and number not in agent.depth_paths:
                self.problem(
                    f"camera{number}_depth", agent.camera_paths[number], "no depth map for this image"
                )
        for number, path in agent.depth_paths.items():
            key = f"camera{number}_depth"
            values = self.read(key, path, rawdata.load_depth)
            if values is None:
                continue
            size = sizes.get(number)
            if size is not None and values.shape != size[::-1]:
                self.problem(
                    key, path, f"{values.shape[1]} x {values.shape[0]}, the image is {size[0]} x {size[1]}"
                )
                continue
            self.coverage[number] = float((values > 0).mean())
            known = float((values != 0).mean())
            if known < self.options.min_depth_coverage:
                self.problem(key, path, f"only {known:.2%} of its pixels are known")
            elif meta is not None and points is not None and number in meta.cameras:
                self._against_lidar(key, path, values, meta, points, number)

    def _against_lidar(
        self,
        key: str,
        path: Path,
        values: npt.NDArray[np.float32],
        meta: rawdata.AgentMeta,
        points: npt.NDArray[np.float32],
        number: int,
    ) -> None:
        """Compare a depth map with the agent's own sweep."""
        size = (values.shape[1], values.shape[0])
        seen = depth.agent_depths(meta, [(points, meta.lidar_pose)], {number: size}, hide_px=3)[number]
        both = (values > 0) & (seen > 0)
        if both.sum() < 50:
            return  # too few to say anything
        error = float(np.median(np.abs(values[both] - seen[both]) / seen[both]))
        if error > self.options.max_depth_error:
            self.problem(
                key,
                path,
                f"differs from the LiDAR sweep by {error:.0%} (median); expected z-depth in metres",
            )


def _check_agent(task: _Task) -> AgentReport:
    return _Checker(task).run()


def summarise(index: rawdata.TreeIndex, max_scenes: int | None = None) -> list[dict[str, Any]]:
    """Count what a tree holds, by names only.

    Returns
    -------
    list of dict
        One entry for each split: ``split, sequences, scenes, agents`` (frames by number of agents),
        ``images``,
        ``sweeps``, ``depth_maps``.
    """
    rows, left = [], max_scenes
    for split, every in index.splits.items():
        frames: Sequence[rawdata.FrameRecord] = every if left is None else every[:left]
        left = None if left is None else left - len(frames)
        row: dict[str, Any] = {"split": split, "sequences": 0, "scenes": len(frames)}
        agents: Counter[int] = Counter()
        sequences, images, sweeps, maps = set(), 0, 0, 0
        for frame in frames:
            sequences.add(frame.sequence)
            agents[len(frame.agents)] += 1
            images += sum(len(agent.camera_paths) for agent in frame.agents)
            sweeps += sum(agent.pcd_path is not None for agent in frame.agents)
            maps += sum(len(agent.depth_paths) for agent in frame.agents)
        row |= {"sequences": len(sequences), "agents": dict(sorted(agents.items()))}
        rows.append(row | {"images": images, "sweeps": sweeps, "depth_maps": maps})
    return rows
