"""Checking one agent at one frame: every file is read once, problems are collected, never raised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from mapanything_opv2v import depth, geometry, panorama, rawdata
from mapanything_opv2v.panorama import overlap_yaw
from mapanything_opv2v.rawdata import calibration

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

    min_agreement: float = 0.4
    """Correlation of cameras where they overlap, median over an agent's frames; less means swapped images."""

    min_agreement_untold: float = 0.6
    """As `min_agreement` where, in most of an agent's frames, some overlap fits at no turn of its cameras."""

    max_turn_deg: float = 4.0
    """Turn of a camera against its stated pose as its overlaps tell it, median over an agent's frames. Parallax leaves
    up to 2.3 degrees in a single right frame of real images, whatever their quality."""

    lidar_height_m: float | None = 1.9
    """Of OPV2V's LiDAR above the road, on which cameras are compared; None compares at 20 m only."""

    min_depth_coverage: float = 0.002
    """Smallest share of known pixels of a depth map (sky counts as known)."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    split: str
    sequence: str
    frame: str
    agent: int | None
    key: str
    file: str
    message: str

    def __str__(self) -> str:
        """Return one line for people."""
        agent = "" if self.agent is None else f" agent {self.agent}"
        return f"{self.split}/{self.sequence}/{self.frame}{agent} {self.key}: {self.message}"


@dataclass(frozen=True)
class AgentReport:
    """What was found at one agent and frame."""

    problems: tuple[Problem, ...]
    files: int
    position_error_m: float | None
    angle_error_deg: float | None
    coverage: dict[int, float]
    agreement: dict[tuple[int, int], float]
    scales: dict[int, float] = field(default_factory=dict)
    """By camera: the image's size relative to its calibration's."""
    turns: dict[tuple[int, int], float] = field(default_factory=dict)
    """By pair of cameras: see `overlap_yaw.pair_turns`."""


@dataclass(frozen=True)
class AgentTask:
    """What to check, and its number in the order of the tree."""

    number: int
    frame: rawdata.FrameRecord
    agent_id: int
    options: CheckOptions


class _Checker:
    """Collects the problems of one agent at one frame."""

    def __init__(self, task: AgentTask) -> None:
        self.frame, self.options = task.frame, task.options
        self.agent = task.frame.agent(task.agent_id)
        self.problems: list[Problem] = []
        self.files = 0
        self.position_error_m: float | None = None
        self.angle_error_deg: float | None = None
        self.coverage: dict[int, float] = {}
        self.agreement: dict[tuple[int, int], float] = {}
        self.scales: dict[int, float] = {}
        self.turns: dict[tuple[int, int], float] = {}

    def problem(self, key: str, file: Path, message: str) -> None:
        """Note a problem."""
        f = self.frame
        self.problems.append(Problem(f.split, f.sequence, f.frame, self.agent.agent_id, key, str(file), message))

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
        images = self._images()
        if meta is not None:
            self._poses(meta)
            for number in sorted(set(agent.camera_paths) - set(meta.cameras)):
                self.problem(f"camera{number}", agent.yaml_path, f"an image but no camera{number} in the YAML")
            images = {number: image for number, image in images.items() if self._fits(meta, number, image.shape[1::-1])}
            self._overlaps(meta, {number: image for number, image in images.items() if number in meta.cameras})
            self._odd_sizes()
        self._depths(meta, {number: image.shape[1::-1] for number, image in images.items()}, points)
        return AgentReport(
            tuple(self.problems),
            self.files,
            self.position_error_m,
            self.angle_error_deg,
            self.coverage,
            self.agreement,
            self.scales,
            self.turns,
        )

    def _fits(self, meta: rawdata.AgentMeta, number: int, size_wh: tuple[int, int]) -> bool:
        """Say whether an image is of the size that its calibration is for; note it if not.

        A whole tree that was resized is no problem, its intrinsics are scaled, and the report counts it; a single
        camera of another size is one.
        """
        if number not in meta.cameras:
            return True
        path = self.agent.camera_paths[number]
        try:
            calibration.fitted_intrinsic(meta.cameras[number], size_wh, path)
        except ValueError as error:
            self.problem(f"camera{number}", path, str(error).removeprefix(f"{path}: "))
            return False
        stated = calibration.calibrated_size(meta.cameras[number])
        if stated is not None:
            self.scales[number] = size_wh[0] / stated[0]
        return True

    def _odd_sizes(self) -> None:
        """Note cameras whose images are resized by another factor than most of the agent's."""
        if len(set(self.scales.values())) < 2:
            return
        usual = Counter(self.scales.values()).most_common(1)[0][0]
        for number, factor in self.scales.items():
            if factor != usual:
                self.problem(
                    f"camera{number}",
                    self.agent.camera_paths[number],
                    f"the image is {factor:g} times its calibrated size, the agent's other cameras {usual:g} times",
                )

    def _overlaps(self, meta: rawdata.AgentMeta, images: dict[int, npt.NDArray[np.uint8]]) -> None:
        """Correlate cameras where they overlap."""
        if len(images) < 2:
            return
        ids = list(images)
        sizes = [(image.shape[1], image.shape[0]) for image in images.values()]
        rig = panorama.Rig.from_agent(meta, sizes, ids)
        found = panorama.overlap_agreement(rig, list(images.values()))
        self.agreement = {(ids[i], ids[j]): value for (i, j), value in found.items()}
        turns = overlap_yaw.pair_turns(rig, list(images.values()), self.options.lidar_height_m)
        self.turns = {(ids[i], ids[j]): value for (i, j), value in turns.items()}

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

    def _images(self) -> dict[int, npt.NDArray[np.uint8]]:
        """Return the images that can be read."""
        agent, images = self.agent, {}
        for number in range(self.options.cameras):
            if number not in agent.camera_paths:
                path = agent.yaml_path.with_name(f"{self.frame.frame}_camera{number}.png")
                self.problem(f"camera{number}", path, "missing")
        for number, path in agent.camera_paths.items():
            image = self.read(f"camera{number}", path, rawdata.load_image)
            if image is not None:
                images[number] = image
        return images

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
                self.problem(f"camera{number}_depth", agent.camera_paths[number], "no depth map for this image")
        for number, path in agent.depth_paths.items():
            key = f"camera{number}_depth"
            values = self.read(key, path, rawdata.load_depth)
            if values is None:
                continue
            size = sizes.get(number)
            if size is not None and values.shape != size[::-1]:
                self.problem(key, path, f"{values.shape[1]} x {values.shape[0]}, the image is {size[0]} x {size[1]}")
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


def check_agent(task: AgentTask) -> AgentReport:
    """Check every file of one agent at one frame."""
    return _Checker(task).run()
