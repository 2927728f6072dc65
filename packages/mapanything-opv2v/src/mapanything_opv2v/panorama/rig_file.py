"""`rig.yaml`: any set of rigid cameras, and where their images lie.

```yaml
axes: opencv            # of the rig: opencv (x right, y down, z ahead) or flu (x ahead, y left, z up)
frames: name            # name: what `*` stands for is the frame's name; order: the k-th files belong together
cameras:
  front:
    K: [[335.6, 0, 399.5], [0, 335.6, 299.5], [0, 0, 1]]     # pixels, pixel centres at integers
    pose: {translation: [0, -0.1, 0.5], quaternion: [0, 0, 0, 1]}   # camera to rig, metres; x, y, z, w; or a 4 x 4
    size: [800, 600]
    images: front/*.png                                      # beside rig.yaml; one * stands for the frame
    depth: front_depth/*.npy                                 # may be left out
```

Cameras look along their own z axis (x right, y down) whatever the rig's axes are. A panorama is seen from the rig's
origin.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from mapanything_opv2v import geometry
from mapanything_opv2v.geometry import FloatArray
from mapanything_opv2v.panorama.rig import Rig, RigCamera
from mapanything_opv2v.photographs import read
from mapanything_opv2v.rawdata import load_depth
from mapanything_opv2v.rawdata.agent_yaml import load_yaml

AXES: Mapping[str, FloatArray] = {
    "opencv": np.eye(3),
    "flu": np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]]),
}
"""Rotation of each kind of axes to OpenCV's."""

_KEYS, _CAMERA_KEYS = ("axes", "frames", "cameras"), ("K", "pose", "size", "images", "depth")
_NEEDED = ("K", "pose", "size", "images")


@dataclass(frozen=True, eq=False)
class RigFileCamera:
    """One camera of a rig file, and its files by frame."""

    name: str
    camera: RigCamera
    images: Mapping[str, Path]
    depths: Mapping[str, Path]


@dataclass(frozen=True, eq=False)
class RigFile:
    """A rig file with the frames that all of its cameras have."""

    path: Path
    cameras: tuple[RigFileCamera, ...]
    frames: tuple[str, ...]

    @property
    def rig(self) -> Rig:
        """The cameras around the rig's origin, OpenCV axes."""
        return Rig(tuple(camera.camera for camera in self.cameras))

    @property
    def has_depth(self) -> bool:
        """Whether every camera has a depth map of every frame."""
        return all(set(self.frames) <= set(camera.depths) for camera in self.cameras)

    def frame(self, name: str | None) -> str:
        """Return a frame's name, the first by default.

        Raises
        ------
        ValueError
            If there is no such frame.
        """
        if name is not None and name not in self.frames:
            raise ValueError(
                f"{self.path}: no frame {name!r}; {len(self.frames)} are there, such as {self.frames[0]!r}"
            )
        return self.frames[0] if name is None else name

    def images(self, frame: str) -> list[npt.NDArray[np.uint8]]:
        """Read a frame's images, RGB.

        Raises
        ------
        ValueError
            If one is of another size than the file states; names it.
        """
        return [self._sized(c, np.asarray(read(c.images[frame])), c.images[frame]) for c in self.cameras]

    def depths(self, frame: str) -> list[npt.NDArray[np.float32]]:
        """Read a frame's depth maps, z-depth in metres; they may have errors as `images` has."""
        return [self._sized(c, load_depth(c.depths[frame]), c.depths[frame]) for c in self.cameras]

    def _sized(self, camera: RigFileCamera, array: Any, path: Path) -> Any:
        height, width = array.shape[:2]
        if (width, height) != camera.camera.size_wh:
            raise ValueError(
                f"{path}: {width} x {height}, but {self.path} says {camera.camera.size_wh[0]} x "
                f"{camera.camera.size_wh[1]} for camera {camera.name!r}; change size and K together, or the images"
            )
        return array


def is_rig_file(path: Path) -> bool:
    """Say whether a file is a rig's: YAML whose top has `cameras`."""
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return False
    data = load_yaml(path)
    return isinstance(data, Mapping) and "cameras" in data


def load_rig_file(path: str | Path) -> RigFile:
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
    if not isinstance(data, Mapping) or not isinstance(data.get("cameras"), Mapping) or not data["cameras"]:
        raise ValueError(f"{path}: expected `cameras`, a mapping of names to K, pose, size and images")
    _known(data, _KEYS, str(path))
    axes, by = str(data.get("axes", "opencv")), str(data.get("frames", "name"))
    if axes not in AXES:
        raise ValueError(f"{path}: axes: {axes!r}, expected one of {', '.join(AXES)}")
    if by not in ("name", "order"):
        raise ValueError(f"{path}: frames: {by!r}, expected name or order")
    cameras = [_camera(str(name), value, path, AXES[axes], by) for name, value in data["cameras"].items()]
    common = set.intersection(*(set(camera.images) for camera in cameras))
    if not common:
        first = {camera.name: next(iter(camera.images), "none") for camera in cameras}
        raise ValueError(
            f"{path}: no frame has an image of every camera; the first of each: {first}. Where names differ (time "
            "stamps), say `frames: order`"
        )
    counts = {len(camera.images) for camera in cameras}
    if by == "order" and len(counts) > 1:
        raise ValueError(f"{path}: frames: order, but the cameras have {sorted(counts)} images; some are missing")
    return RigFile(path, tuple(cameras), tuple(sorted(common)))


def _camera(name: str, value: Any, path: Path, R_cv_rig: FloatArray, by: str) -> RigFileCamera:
    where = f"{path}: camera {name!r}"
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: expected a mapping, got {type(value).__name__}")
    _known(value, _CAMERA_KEYS, where)
    if missing := [key for key in _NEEDED if key not in value]:
        raise ValueError(f"{where}: {', '.join(missing)} missing")
    size = value["size"]
    if not (isinstance(size, list) and len(size) == 2 and all(isinstance(part, int) for part in size)):
        raise ValueError(f"{where}: size: expected [width, height] in pixels, got {size!r}")
    turn = np.eye(4)
    turn[:3, :3] = R_cv_rig
    try:
        K = np.array(value["K"], dtype=np.float64)
        camera = RigCamera(K, turn @ _pose(value["pose"]), (size[0], size[1]))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error
    images = _files(path.parent, value["images"], by, f"{where}: images")
    depths = {} if value.get("depth") is None else _files(path.parent, value["depth"], by, f"{where}: depth")
    return RigFileCamera(name, camera, images, depths)


def _pose(value: Any) -> FloatArray:
    """Return the 4 x 4 that is written out, or given as translation and quaternion."""
    if not isinstance(value, Mapping):
        return geometry.check_rigid(np.array(value, dtype=np.float64))
    _known(value, ("translation", "quaternion"), "pose")
    T = np.eye(4)
    T[:3, 3] = np.array(value.get("translation", (0, 0, 0)), dtype=np.float64)
    T[:3, :3] = Rotation.from_quat(np.array(value.get("quaternion", (0, 0, 0, 1)), dtype=np.float64)).as_matrix()
    return geometry.check_rigid(T)


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
