"""nuScenes' public info files (`nuscenes_infos_train.pkl` of mmdetection3d and its kin, both layouts, or as JSON).

Nothing of a pickle is run: plain values and numpy arrays are read, everything else is refused. nuScenes' LiDAR has x
right, y ahead, z up; its world has z up.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from mapanything_opv2v import geometry
from mapanything_opv2v.files import read_json
from mapanything_opv2v.geometry import FloatArray

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
"""In the order in which they become camera0, camera1, ...: the front one, then clockwise."""

MAX_INFO_BYTES = 2 << 30

R_CV_UP: FloatArray = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
"""Axes x right, y ahead, z up to OpenCV's."""

_LIDAR_COLUMNS = 5  # x, y, z, intensity, ring


@dataclass(frozen=True, eq=False)
class InfoCamera:
    """One camera of a sample."""

    file: str
    intrinsic: FloatArray
    T_cam_lidar: FloatArray
    """Camera in OpenCV axes, LiDAR in nuScenes' own."""


@dataclass(frozen=True, eq=False)
class Info:
    """One sample."""

    scene: str
    timestamp: float
    cameras: Mapping[str, InfoCamera]
    lidar_file: str | None
    T_world_lidar: FloatArray
    """nuScenes' axes on both sides; identity where the file states no pose."""

    def T_center_cam(self, camera: str) -> FloatArray:
        """Return camera to LiDAR, OpenCV axes on both sides."""
        return _turn() @ geometry.invert(self.cameras[camera].T_cam_lidar)

    @property
    def T_world_center(self) -> FloatArray:
        """LiDAR to world, OpenCV axes on both sides."""
        return _turn() @ self.T_world_lidar @ geometry.invert(_turn())


def load_infos(path: str | Path) -> list[Info]:
    """Read an info file, sorted by scene and time.

    Raises
    ------
    ValueError
        If it is none, or would run code; names file, sample and key.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    data = read_json(path) if path.suffix == ".json" else _unpickled(path)
    samples = data.get("data_list", data.get("infos")) if isinstance(data, Mapping) else data
    if not isinstance(samples, Sequence) or isinstance(samples, str) or not samples:
        raise ValueError(f"{path}: expected samples under `data_list` or `infos`, as mmdetection3d writes them")
    infos = []
    for number, sample in enumerate(samples):
        try:
            infos.append(_new_layout(sample) if "images" in sample else _old_layout(sample))
        except (KeyError, TypeError, IndexError, ValueError) as error:
            text = f"no key {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{path}: sample {number}: not as mmdetection3d writes it: {text}") from error
    return sorted(infos, key=lambda info: (info.scene, info.timestamp))


def find_file(root: Path, name: str, channel: str) -> Path:
    """Return where a sample's file lies: as named, below `samples/CHANNEL`, or in the folder itself.

    Raises
    ------
    ValueError
        If it lies in none of these places; names them.
    """
    base = Path(name.replace("\\", "/"))
    places = [root / base, root / "samples" / channel / base.name, root / base.name]
    if "samples" in base.parts:
        places.append(root / Path(*base.parts[base.parts.index("samples") :]))
    for place in places:
        if place.is_file():
            return place
    raise ValueError(f"{base.name}: in none of {', '.join(str(place.parent) for place in places)}; give --data-root")


def load_sweep(path: Path) -> tuple[Any, Any]:
    """Return points (N, 3) in OpenCV axes and intensity (N,) in [0, 1] of a `.pcd.bin`.

    Raises
    ------
    ValueError
        If its size is none of such a file.
    """
    values = np.fromfile(path, dtype="<f4")
    if values.size % _LIDAR_COLUMNS or not values.size:
        raise ValueError(f"{path}: {values.size} numbers, expected a multiple of {_LIDAR_COLUMNS} (x, y, z, i, ring)")
    table = values.reshape(-1, _LIDAR_COLUMNS)
    table = table[np.isfinite(table).all(axis=1)]
    return (table[:, :3] @ R_CV_UP.T).astype(np.float32), np.clip(table[:, 3] / 255, 0, 1).astype(np.float32)


def _new_layout(sample: Mapping[str, Any]) -> Info:
    cameras = {
        name: InfoCamera(
            str(value["img_path"]),
            np.array(value["cam2img"], dtype=np.float64)[:3, :3],
            geometry.check_rigid(np.array(value["lidar2cam"], dtype=np.float64), 1e-3),
        )
        for name, value in sample["images"].items()
        if value.get("img_path")
    }
    points = sample.get("lidar_points") or {}
    T = np.eye(4)
    if sample.get("ego2global") is not None and points.get("lidar2ego") is not None:
        T = np.array(sample["ego2global"], dtype=np.float64) @ np.array(points["lidar2ego"], dtype=np.float64)
    scene = str(sample.get("scene_token") or "nuscenes")
    return Info(scene, float(sample.get("timestamp", 0)), cameras, points.get("lidar_path"), _orthogonal(T))


def _old_layout(sample: Mapping[str, Any]) -> Info:
    cameras = {}
    for name, value in sample["cams"].items():
        T_lidar_cam = _rigid(value["sensor2lidar_rotation"], value["sensor2lidar_translation"])
        K = np.array(value["cam_intrinsic"], dtype=np.float64)
        cameras[name] = InfoCamera(str(value["data_path"]), K, geometry.invert(T_lidar_cam))
    T_ego_lidar = _rigid(sample["lidar2ego_rotation"], sample["lidar2ego_translation"])
    T_world_ego = _rigid(sample["ego2global_rotation"], sample["ego2global_translation"])
    scene = str(sample.get("scene_token") or "nuscenes")
    file = sample.get("lidar_path")
    return Info(scene, float(sample.get("timestamp", 0)), cameras, file, T_world_ego @ T_ego_lidar)


def _rigid(rotation: Any, translation: Any) -> FloatArray:
    """Return (4, 4) of a matrix or a quaternion (w, x, y, z), and a translation."""
    R = np.array(rotation, dtype=np.float64)
    if R.shape == (4,):
        R = Rotation.from_quat(R[[1, 2, 3, 0]]).as_matrix()
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, np.array(translation, dtype=np.float64)
    return _orthogonal(T)


def _orthogonal(T: FloatArray) -> FloatArray:
    """Return a transform that is rigid up to the files' rounding, exactly so."""
    geometry.check_rigid(T, 1e-3)
    exact = T.copy()
    exact[:3, :3] = Rotation.from_matrix(T[:3, :3]).as_matrix()
    return exact


def _turn() -> FloatArray:
    T = np.eye(4)
    T[:3, :3] = R_CV_UP
    return T


class _Plain(pickle.Unpickler):
    """Reads numbers, texts, containers and numpy arrays; nothing else exists for it."""

    _ALLOWED = frozenset(
        {
            ("numpy", "dtype"),
            ("numpy", "ndarray"),
            ("multiarray", "_reconstruct"),
            ("multiarray", "scalar"),
            ("numeric", "_frombuffer"),
            ("_codecs", "encode"),
            ("collections", "OrderedDict"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the few names that plain data needs."""
        inner = module.removeprefix("numpy.core.").removeprefix("numpy._core.")
        if (inner, name) not in self._ALLOWED:
            raise ValueError(f"it asks for {module}.{name}, which plain data does not need; not loaded")
        if inner in ("multiarray", "numeric"):
            module = f"numpy._core.{inner}" if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else f"numpy.core.{inner}"
        return super().find_class(module, name)


def _unpickled(path: Path) -> Any:
    if path.stat().st_size > MAX_INFO_BYTES:
        raise ValueError(f"{path}: {path.stat().st_size} bytes, expected at most {MAX_INFO_BYTES}")
    try:
        return _Plain(io.BytesIO(path.read_bytes())).load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise ValueError(f"{path}: no info file: {error or type(error).__name__}") from error
