"""Recordings of any rigid set of cameras: what a `rig.yaml` states, and where its files lie.

`panorama.rig_file` documents the format. A recording is one sequence of one vehicle; in a tree it stands at
``{root}/{split}/{sequence}/rig.yaml``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mapanything_opv2v import geometry
from mapanything_opv2v.geometry import FloatArray
from mapanything_opv2v.rawdata.agent_yaml import AgentMeta, CameraMeta, load_yaml, parse_agent
from mapanything_opv2v.rawdata.names import MAX_CAMERAS, YAML, AgentFolder, AgentRecord, SequenceFolder, camera_flags

RIG_FILE = "rig.yaml"
"""What the file is called in a tree."""

AGENT_ID = 1
"""Of a rig, in a tree and as an agent."""

AXES: Mapping[str, FloatArray] = {
    "opencv": np.eye(3),
    "flu": np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]]),
}
"""Rotation of each kind of axes to OpenCV's."""

_KEYS, _CAMERA_KEYS = ("axes", "frames", "cameras"), ("K", "pose", "size", "images", "depth")
_NEEDED = ("K", "pose", "size", "images")


@dataclass(frozen=True, eq=False)
class StatedCamera:
    """What a rig file states of one camera; `images` and `depth` are patterns."""

    name: str
    intrinsic: FloatArray
    """(3, 3), pixel centres at integers."""
    T_rig_cam: FloatArray
    """Camera to rig, OpenCV axes on both sides."""
    size_wh: tuple[int, int]
    images: Any
    depth: Any


@dataclass(frozen=True, eq=False)
class RecordedCamera:
    """A stated camera with its files by frame."""

    stated: StatedCamera
    images: Mapping[str, Path]
    depths: Mapping[str, Path]


@dataclass(frozen=True, eq=False)
class Recording:
    """A rig file with the frames that all of its cameras have."""

    path: Path
    cameras: tuple[RecordedCamera, ...]
    frames: tuple[str, ...]


@dataclass(frozen=True)
class RigSequence(SequenceFolder):
    """A recording as a sequence of a tree: its frames are counted from 0 in the order of their names."""

    recording: Recording

    def record(self, agent_id: int, number: int) -> AgentRecord:
        """Return the files of a frame."""
        name = self.recording.frames[number]
        cameras = tuple(enumerate(self.recording.cameras))
        return AgentRecord(
            agent_id=agent_id,
            yaml_path=self.recording.path,
            camera_paths={k: camera.images[name] for k, camera in cameras},
            pcd_path=None,
            depth_paths={k: camera.depths[name] for k, camera in cameras if name in camera.depths},
        )


def rig_sequence(path: Path) -> RigSequence:
    """Return the recording of a rig file as a sequence; may raise as `load_recording`."""
    recording = load_recording(path)
    flags = []
    for name in recording.frames:
        cameras = range(min(len(recording.cameras), MAX_CAMERAS))
        depths = [k for k in cameras if name in recording.cameras[k].depths]
        flags.append(YAML | camera_flags(cameras, depths))
    numbers = np.arange(len(flags), dtype=np.int32)
    agent = AgentFolder(AGENT_ID, str(AGENT_ID), numbers, np.array(flags, np.int32))
    return RigSequence(path.resolve().parent.name, (agent,), recording)


def is_rig(data: Any) -> bool:
    """Say whether a loaded YAML value is a rig's: its top has `cameras`."""
    return isinstance(data, Mapping) and "cameras" in data


def is_rig_file(path: Path) -> bool:
    """Say whether a file is a rig's."""
    return path.suffix in (".yaml", ".yml") and path.is_file() and is_rig(load_yaml(path))


def rig_meta(data: Any, path: Path) -> AgentMeta:
    """Return a rig's cameras as an agent's YAML states them; the rig stands in the origin of its own world.

    Raises
    ------
    ValueError
        As `load_recording`, but no file is looked for.
    """
    cameras = {}
    for k, camera in enumerate(stated_cameras(data, path)):
        cords = geometry.pose_from_T_world(geometry.opencv_to_carla(camera.T_rig_cam))
        cameras[k] = CameraMeta(cords, None, camera.intrinsic, camera.size_wh)
    return AgentMeta(np.zeros(6), cameras, {}, float("nan"), None)


def load_agent_yaml(path: str | Path) -> AgentMeta:
    """Read and validate one agent's YAML, or a rig file as if it were one (`rig_meta`).

    Raises
    ------
    FileNotFoundError
        If the file is missing.
    ValueError
        If the file is not YAML, holds a tag that is not understood, or lacks a key; names file and key.
    """
    path = Path(path)
    data = load_yaml(path)
    return rig_meta(data, path) if is_rig(data) else parse_agent(data, str(path))


def load_recording(path: str | Path) -> Recording:
    """Read a rig file and find its files.

    Raises
    ------
    ValueError
        If a key is missing, unknown or makes no camera, or no frame is complete; names file, camera and key.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    data = load_yaml(path)
    stated = stated_cameras(data, path)
    by = str(data.get("frames", "name"))
    if by not in ("name", "order"):
        raise ValueError(f"{path}: frames: {by!r}, expected name or order")
    cameras = [_recorded(camera, path, by) for camera in stated]
    common = set.intersection(*(set(camera.images) for camera in cameras))
    if not common:
        first = {camera.stated.name: next(iter(camera.images), "none") for camera in cameras}
        raise ValueError(
            f"{path}: no frame has an image of every camera; the first of each: {first}. Where names differ (time "
            "stamps), say `frames: order`"
        )
    counts = {len(camera.images) for camera in cameras}
    if by == "order" and len(counts) > 1:
        raise ValueError(f"{path}: frames: order, but the cameras have {sorted(counts)} images; some are missing")
    return Recording(path, tuple(cameras), tuple(sorted(common)))


def stated_cameras(data: Any, path: Path) -> tuple[StatedCamera, ...]:
    """Return the cameras that a loaded rig file states; raises ValueError that names file, camera and key."""
    if not is_rig(data) or not isinstance(data["cameras"], Mapping) or not data["cameras"]:
        raise ValueError(f"{path}: expected `cameras`, a mapping of names to K, pose, size and images")
    _known(data, _KEYS, str(path))
    axes = str(data.get("axes", "opencv"))
    if axes not in AXES:
        raise ValueError(f"{path}: axes: {axes!r}, expected one of {', '.join(AXES)}")
    return tuple(_stated(str(name), value, path, AXES[axes]) for name, value in data["cameras"].items())


def _stated(name: str, value: Any, path: Path, R_cv_rig: FloatArray) -> StatedCamera:
    where = f"{path}: camera {name!r}"
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: expected a mapping, got {type(value).__name__}")
    _known(value, _CAMERA_KEYS, where)
    if missing := [key for key in _NEEDED if key not in value]:
        raise ValueError(f"{where}: {', '.join(missing)} missing")
    size = value["size"]
    if not (isinstance(size, list) and len(size) == 2 and all(isinstance(part, int) and part >= 2 for part in size)):
        raise ValueError(f"{where}: size: expected [width, height] in pixels, got {size!r}")
    turn = np.eye(4)
    turn[:3, :3] = R_cv_rig
    try:
        intrinsic, pose = _intrinsic(value["K"]), turn @ _pose(value["pose"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error
    return StatedCamera(name, intrinsic, pose, (size[0], size[1]), value["images"], value.get("depth"))


def _intrinsic(value: Any) -> FloatArray:
    K = np.array(value, dtype=np.float64)
    if (
        K.shape != (3, 3)
        or not np.isfinite(K).all()
        or min(K[0, 0], K[1, 1]) <= 0
        or K[1, 0]
        or K[2].tolist() != [0, 0, 1]
    ):
        raise ValueError(f"K: expected [[fx, s, cx], [0, fy, cy], [0, 0, 1]], got {K.tolist()}")
    return K


def _pose(value: Any) -> FloatArray:
    """Return the 4 x 4 that is written out, or given as translation and quaternion."""
    if not isinstance(value, Mapping):
        return geometry.check_rigid(np.array(value, dtype=np.float64))
    from scipy.spatial.transform import Rotation

    _known(value, ("translation", "quaternion"), "pose")
    T = np.eye(4)
    T[:3, 3] = np.array(value.get("translation", (0, 0, 0)), dtype=np.float64)
    T[:3, :3] = Rotation.from_quat(np.array(value.get("quaternion", (0, 0, 0, 1)), dtype=np.float64)).as_matrix()
    return geometry.check_rigid(T)


def _recorded(camera: StatedCamera, path: Path, by: str) -> RecordedCamera:
    where = f"{path}: camera {camera.name!r}"
    images = _files(path.parent, camera.images, by, f"{where}: images")
    depths = {} if camera.depth is None else _files(path.parent, camera.depth, by, f"{where}: depth")
    return RecordedCamera(camera, images, depths)


def _files(folder: Path, pattern: Any, by: str, where: str) -> dict[str, Path]:
    """Return files by frame."""
    if not isinstance(pattern, str) or pattern.count("*") > 1:
        raise ValueError(f"{where}: {pattern!r}, expected a path with one * for the frame, or with none")
    if "*" not in pattern:
        found = {"000000": folder / pattern} if (folder / pattern).is_file() else {}
    else:
        shape = re.compile(re.escape(pattern).replace(re.escape("*"), "(.*)"))
        paths = sorted(folder.glob(pattern))
        names = (shape.fullmatch(path.relative_to(folder).as_posix()) for path in paths)
        found = {match[1]: path for match, path in zip(names, paths) if match}
    if not found:
        raise ValueError(f"{where}: no file is called {folder / pattern}")
    if by == "order":
        return {f"{number:06d}": path for number, path in enumerate(found.values())}
    return found


def _known(value: Mapping[Any, Any], known: tuple[str, ...], where: str) -> None:
    if unknown := [str(key) for key in value if key not in known]:
        raise ValueError(f"{where}: unknown {', '.join(unknown)}; known: {', '.join(known)}")
