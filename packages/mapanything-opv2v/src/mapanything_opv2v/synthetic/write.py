"""A synthetic town in OPV2V's on-disk format, and the truth about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from mapanything_opv2v import geometry, jobs, rawdata
from mapanything_opv2v.files import write_bytes
from mapanything_opv2v.geometry import FloatArray
from mapanything_opv2v.synthetic import sensors, streets, town, traffic

FRAME_SECONDS = 0.1
FIRST_FRAME, FRAME_STEP = 68, 2  # OPV2V counts simulator ticks and keeps every second one
MOST_AGENTS = 7
VISIBLE_M = 120.0
"""Vehicles within this distance are annotated."""

LAYOUTS = ("streets", "crossing")
"""`streets`: every town is drawn anew. `crossing`: one plan of two streets, vehicles along them, for measurements."""


@dataclass(frozen=True)
class TruePanorama:
    """What a perfect panoramic sensor at the LiDAR would see.

    Attributes
    ----------
    color : (H, W, 3) uint8
    range_m : (H, W) float32
        Metres along the ray; 0 is sky.
    sky : (H, W) bool
    """

    color: npt.NDArray[np.uint8]
    range_m: npt.NDArray[np.float32]
    sky: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TownTruth:
    """A written town: what was asked for, and through its methods all truth about it.

    Attributes
    ----------
    root, depth_root : Path
        Where it was written.
    seed : int
    sequences : tuple of str
        Names; every split has its own of them.
    frames : tuple of str
        Six digits.
    agents : tuple of int
        Ids of the agents; infrastructure is negative.
    splits : tuple of str
    image_size : tuple of int
        Width, height.
    lidar_size : tuple of int
        Channels, columns of one turn.
    layout : str
        One of `LAYOUTS`.
    fewest_agents : int, optional
        Towns have so many vehicles with sensors or more, up to all of `agents`; None gives every town all.
    frame_seconds : float
        Between two frames.
    """

    root: Path
    depth_root: Path
    seed: int
    sequences: tuple[str, ...]
    frames: tuple[str, ...]
    agents: tuple[int, ...]
    splits: tuple[str, ...]
    image_size: tuple[int, int]
    lidar_size: tuple[int, int] = sensors.LIDAR_SIZE
    layout: str = "crossing"
    fewest_agents: int | None = None
    frame_seconds: float = FRAME_SECONDS

    def agents_of(self, split: str, sequence: str) -> tuple[int, ...]:
        """Return the ids of a town's agents."""
        if self.fewest_agents is None:
            return self.agents
        masts = [agent for agent in self.agents if agent < 0]
        vehicles = [agent for agent in self.agents if agent >= 0]
        rng = town.generator(self.seed, f"{split}/{sequence}", "number of agents")
        return (*masts, *vehicles[: int(rng.integers(self.fewest_agents, len(vehicles) + 1))])

    def moment(self, split: str, sequence: str, frame: str) -> town.Moment:
        """Return the town and its vehicles at a frame."""
        name = f"{split}/{sequence}"
        seconds = self.frames.index(frame) * self.frame_seconds
        vehicles = tuple(agent for agent in self.agents_of(split, sequence) if agent >= 0)
        if self.layout == "streets":
            drawn = streets.draw_town(self.seed, name)
            return traffic.draw_moment(drawn, self.seed, name, vehicles, seconds)
        return town.make_moment(town.make_town(self.seed, name), self.seed, name, vehicles, seconds)

    def T_world_agent(self, moment: town.Moment, agent: int) -> FloatArray:
        """Return an agent's pose (4, 4), CARLA axes: its car's, or a mast's at a corner of the crossing."""
        if agent >= 0:
            return moment.car(agent).T_world_vehicle
        if self.layout == "streets":
            return traffic.mast_pose(moment, agent)
        side = 1 if agent % 2 else -1
        return town.place(9.0 * side, 9.0 * side, 45.0 * (1 if side < 0 else -3)) @ geometry.T_world_from_pose(
            [0, 0, 3.0, 0, 0, 0]
        )

    def panorama(self, split: str, sequence: str, frame: str, agent: int, cylinder: geometry.Cylinder) -> TruePanorama:
        """Ray-cast the panorama from an agent's LiDAR, at pixel centres."""
        moment = self.moment(split, sequence, frame)
        T_world_lidar = self.T_world_agent(moment, agent) @ geometry.T_world_from_pose(sensors.LIDAR_POSE)
        return true_panorama(moment, T_world_lidar, cylinder, agent)

    def jobs(self) -> Iterator[tuple[str, str, str]]:
        """Return split, sequence and frame of everything written."""
        return ((s, q, f) for s in self.splits for q in self.sequences for f in self.frames)


def true_panorama(
    moment: town.Moment, T_world_lidar: npt.ArrayLike, cylinder: geometry.Cylinder, own_car: int
) -> TruePanorama:
    """Ray-cast the panorama seen from a LiDAR.

    Parameters
    ----------
    moment : Moment
        The town and its vehicles.
    T_world_lidar : (4, 4) array_like
        CARLA axes.
    cylinder : Cylinder
        The panorama's pixels.
    own_car : int
        The vehicle that carries the LiDAR; it is not seen.
    """
    T = np.asarray(T_world_lidar, dtype=np.float64)
    ranges, rgb = moment.cast(T[:3, 3], sensors.rotate_to_world(T, cylinder.rays()), own_car)
    return TruePanorama(rgb, ranges, ranges == 0)


def write_town(
    root: str | Path,
    *,
    seed: int,
    sequences: int = 1,
    frames: int = 1,
    agents: int = 2,
    infrastructure: int = 0,
    splits: Sequence[str] = ("train",),
    depth_root: str | Path | None = None,
    image_size: tuple[int, int] = (800, 600),
    lidar_size: tuple[int, int] = sensors.LIDAR_SIZE,
    layout: str = "crossing",
    fewest_agents: int | None = None,
    frame_seconds: float = FRAME_SECONDS,
    workers: int = 1,
    progress: bool = False,
) -> TownTruth:
    """Ray-cast towns and write it in OPV2V's format: images, dense depth, LiDAR, YAML.

    Parameters
    ----------
    root : path
        Folder to write into.
    seed : int
        Another seed is another town.
    sequences, frames, agents, infrastructure : int
        Sequences a split, frames a sequence, vehicles with sensors, masts with sensors (negative ids, as
        V2XSet).
    splits : sequence of str
        Each gets its own towns.
    depth_root : path, optional
        Tree for the depth maps; default `root`.
    image_size : tuple of int
        Width and height; the field of view stays the published 100 degrees.
    lidar_size : tuple of int
        Channels, and columns of one turn, of the LiDAR.
    layout : str
        One of `LAYOUTS`.
    fewest_agents : int, optional
        Draw for every town how many vehicles have sensors, from so many to `agents`; needs `streets`.
    frame_seconds : float
        Between two frames of a sequence; OPV2V's are 0.1 s apart.
    workers : int
        Processes; what is written does not depend on it.
    progress : bool
        Show a bar.

    Returns
    -------
    TownTruth
        Knows the true panorama of every agent and frame.
    """
    for name, value, least in (("sequences", sequences, 1), ("frames", frames, 1), ("agents", agents, 1)):
        if value < least:
            raise ValueError(f"write_town: {name}={value}, expected at least {least}")
    _check_layout(layout, agents, fewest_agents, frame_seconds)
    ids = town.generator(seed, "ids").choice(np.arange(200, 5000), agents, replace=False)
    truth = TownTruth(
        root=Path(root),
        depth_root=Path(root if depth_root is None else depth_root),
        seed=seed,
        sequences=tuple(f"2021_08_16_{22 + k // 60:02d}_{k % 60:02d}_00" for k in range(sequences)),
        frames=tuple(f"{FIRST_FRAME + FRAME_STEP * k:06d}" for k in range(frames)),
        agents=(*(-1 - k for k in range(infrastructure)), *sorted(int(number) for number in ids)),
        splits=tuple(splits),
        image_size=image_size,
        lidar_size=lidar_size,
        layout=layout,
        fewest_agents=fewest_agents,
        frame_seconds=frame_seconds,
    )
    for split in truth.splits:
        for sequence in truth.sequences:
            protocol = {"world": {"seed": seed, "fixed_delta_seconds": frame_seconds / FRAME_STEP, "sync_mode": True}}
            text = yaml.safe_dump(protocol).encode()
            write_bytes(truth.root / split / sequence / "data_protocol.yaml", text)
    work = partial(_write_frame, truth)
    written = jobs.run(work, list(truth.jobs()), workers=workers, description="town", unit="frame", progress=progress)
    for done in written:
        if done.error is not None:
            raise done.error
    return truth


def _check_layout(layout: str, agents: int, fewest: int | None, frame_seconds: float) -> None:
    """Refuse what a layout cannot do."""
    if layout not in LAYOUTS:
        raise ValueError(f"write_town: layout={layout!r}, expected one of {', '.join(LAYOUTS)}")
    if layout == "streets" and agents > MOST_AGENTS:
        raise ValueError(f"write_town: agents={agents}, a town of streets has 1 to {MOST_AGENTS}")
    if fewest is not None and (layout != "streets" or not 1 <= fewest <= agents):
        raise ValueError(
            f"write_town: fewest_agents={fewest} with layout={layout!r}, agents={agents}: expected 1 to agents, and "
            "layout='streets'"
        )
    if not frame_seconds > 0:
        raise ValueError(f"write_town: frame_seconds={frame_seconds}, expected more than 0")


def _write_frame(truth: TownTruth, job: tuple[str, str, str]) -> None:
    """Write every agent of one frame."""
    split, sequence, frame = job
    moment = truth.moment(split, sequence, frame)
    for agent in truth.agents_of(split, sequence):
        _write_agent(truth, moment, split, sequence, frame, agent)


def _write_agent(truth: TownTruth, moment: town.Moment, split: str, sequence: str, frame: str, agent: int) -> None:
    """Write every file of one agent at one frame."""
    T_world_agent = truth.T_world_agent(moment, agent)
    here = truth.root / split / sequence / str(agent)
    rays = geometry.pinhole_rays(sensors.opencv_intrinsic(truth.image_size), truth.image_size)
    lengths = np.linalg.norm(rays, axis=-1)
    for number, pose in enumerate(sensors.CAMERA_POSES):
        T_world_cam = T_world_agent @ geometry.T_world_from_pose(pose)
        unit = sensors.rotate_to_world(T_world_cam, rays / lengths[..., None])
        ranges, rgb = moment.cast(T_world_cam[:3, 3], unit, agent)
        depth = np.where(ranges > 0, ranges / lengths, rawdata.SKY)
        _, png = cv2.imencode(".png", rgb[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 3])
        write_bytes(here / f"{frame}_camera{number}.png", png.tobytes())
        rawdata.save_depth(rawdata.depth_path(truth.depth_root, split, sequence, agent, frame, number), depth)
    T_world_lidar = T_world_agent @ geometry.T_world_from_pose(sensors.LIDAR_POSE)
    rawdata.save_pcd(here / f"{frame}.pcd", _sweep(moment, T_world_lidar, agent, truth.lidar_size))
    meta = _agent_yaml(truth, moment, T_world_agent, agent)
    write_bytes(here / f"{frame}.yaml", yaml.dump(meta, Dumper=_dumper()).encode())


def _sweep(moment: town.Moment, T_world_lidar: FloatArray, agent: int, size: tuple[int, int]) -> rawdata.PointCloud:
    """Return one LiDAR sweep in the sensor's axes; intensity falls with range as CARLA's does."""
    rays = sensors.lidar_rays(size)
    ranges, _ = moment.cast(T_world_lidar[:3, 3], rays @ T_world_lidar[:3, :3].T, agent)
    hit = (ranges > 0) & (ranges <= sensors.LIDAR_RANGE_M)
    xyz = (rays[hit] * ranges[hit, None]).astype(np.float32)
    return rawdata.PointCloud(xyz, np.exp(-0.004 * ranges[hit]))


def _agent_yaml(truth: TownTruth, moment: town.Moment, T_world_agent: FloatArray, agent: int) -> dict[str, Any]:
    T_world_lidar = T_world_agent @ geometry.T_world_from_pose(sensors.LIDAR_POSE)
    lidar_pose = geometry.pose_from_T_world(T_world_lidar)
    own_pose = geometry.pose_from_T_world(T_world_agent).tolist()
    intrinsic = sensors.carla_intrinsic(truth.image_size).tolist()
    meta: dict[str, Any] = {"lidar_pose": lidar_pose.tolist()}
    for number, pose in enumerate(sensors.CAMERA_POSES):
        cords = geometry.pose_from_T_world(T_world_agent @ geometry.T_world_from_pose(pose))
        extrinsic = geometry.T_cam_lidar_carla(cords, lidar_pose).tolist()
        meta[f"camera{number}"] = {"cords": cords.tolist(), "extrinsic": extrinsic, "intrinsic": intrinsic}
    meta["true_ego_pos"] = meta["predicted_ego_pos"] = own_pose
    if agent >= 0:
        meta["ego_speed"] = moment.car(agent).speed_kmh
        meta["plan_trajectory"] = []
    near = [
        car
        for car in moment.cars
        if car.actor_id != agent and np.linalg.norm(car.T_world_vehicle[:3, 3] - T_world_lidar[:3, 3]) <= VISIBLE_M
    ]
    meta["vehicles"] = {car.actor_id: _vehicle_yaml(car) for car in near}
    return meta


def _vehicle_yaml(car: town.Car) -> dict[str, Any]:
    pose = geometry.pose_from_T_world(car.T_world_vehicle).tolist()
    return {
        "angle": pose[3:],
        "center": car.center.tolist(),
        "extent": car.half.tolist(),
        "location": pose[:3],
        "speed": car.speed_kmh,
    }


def _dumper() -> Any:
    """Return PyYAML's fastest safe dumper."""
    return getattr(yaml, "CSafeDumper", yaml.SafeDumper)
