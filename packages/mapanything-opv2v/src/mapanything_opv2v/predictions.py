"""One frame's predictions as a file: what evaluation writes and views read.

Legend: V views, H rows, W columns, N boxes. All views of a file have one size. Metres; OpenCV axes. A file is
one `.npz` of plain arrays (never pickled) and a JSON text under `meta`.

Two worlds
----------
Predicted poses live in the model's own world (near view 0's camera), true poses and boxes in the CARLA map in
OpenCV axes. Nothing here brings one into the other: that takes truth, and whoever does it says so
(`evaluation.alignment`).
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mapanything_opv2v.arrays import load_npz
from mapanything_opv2v.files import whole_file
from mapanything_opv2v.geometry import Cylinder, FloatArray, check_rigid, pinhole_rays, transform_points
from mapanything_opv2v.kinds import INPUTS, LAYOUTS

FORMAT = 1
_NAME = re.compile(r"[^/\\\0]+")


@dataclass(frozen=True, kw_only=True)
class FrameMeta:
    """Where a prediction comes from. Texts are names from disk: escape them before they enter a page."""

    split: str
    sequence: str
    frame: str
    layout: str
    """`pinhole`: a view is a camera; `panorama`: a view is a vehicle."""
    agents: tuple[int, ...]
    """(V,) whose view it is; the first is the main agent."""
    cameras: tuple[int, ...] | None = None
    """(V,) which of the agent's cameras; None for panoramas."""
    cylinder: Cylinder | None = None
    """Of panoramas; None for pinhole views."""
    inputs: tuple[str, ...] = ()
    """Geometry that the model was given, of `INPUTS`; empty is images only."""
    checkpoint: str = ""
    checkpoint_sha256: str = ""
    config: str = ""
    """Name of the run's config."""
    commit: str = ""
    """Of the host's checkout."""
    files: tuple[str, ...] | None = None
    """(V,) names of the photographs, where there is no tree that says which is which."""

    def __post_init__(self) -> None:
        """Refuse what could not be a frame, or would leave the output folder."""
        for name in ("split", "sequence", "frame"):
            text = getattr(self, name)
            if not isinstance(text, str) or not _NAME.fullmatch(text) or text in (".", ".."):
                raise ValueError(f"meta {name}={text!r}: expected a plain name without slashes")
        if self.layout not in LAYOUTS:
            raise ValueError(f"meta layout={self.layout!r}: expected one of {', '.join(LAYOUTS)}")
        panorama = self.layout == "panorama"
        if (self.cylinder is not None) != panorama or (self.cameras is None) != panorama:
            raise ValueError(
                f"meta: layout {self.layout!r} with cylinder={self.cylinder} and cameras={self.cameras}; "
                "panoramas have a cylinder and no cameras, pinhole views the reverse"
            )
        if self.cameras is not None and len(self.cameras) != len(self.agents):
            raise ValueError(f"meta: {len(self.agents)} agents and {len(self.cameras)} cameras, expected one per view")
        if self.files is not None and len(self.files) != len(self.agents):
            raise ValueError(f"meta: {len(self.agents)} agents and {len(self.files)} files, expected one per view")
        if unknown := set(self.inputs) - set(INPUTS):
            raise ValueError(f"meta inputs: unknown {sorted(unknown)}; known: {', '.join(INPUTS)}")

    @property
    def name(self) -> str:
        """`split/sequence/frame_agentID` (the main agent's), unique in a data set."""
        return f"{self.split}/{self.sequence}/{self.frame}_agent{self.agents[0]}"

    def view_name(self, view: int) -> str:
        """Return `agent641_camera0` or `agent641_panorama`."""
        what = "panorama" if self.cameras is None else f"camera{self.cameras[view]}"
        return f"agent{self.agents[view]}_{what}"

    def to_json(self) -> str:
        """Return the metadata as text."""
        values = asdict(self)
        if self.files is None:  # as files have it that are older than the field
            del values["files"]
        return json.dumps({"format": FORMAT, **values}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> FrameMeta:
        """Read `to_json`'s text.

        Raises
        ------
        ValueError
            If it is another format, or keys are missing or unknown.
        """
        values = json.loads(text)
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise ValueError(f"meta: expected format {FORMAT}, got {text[:80]!r}")
        values.setdefault("files", None)
        known = {field.name for field in fields(cls)}
        if set(values) != known:
            raise ValueError(f"meta: keys {sorted(set(values) ^ known)} are missing or unknown")
        for key in ("agents", "cameras", "inputs", "files"):
            values[key] = None if values[key] is None else tuple(values[key])
        if values["cylinder"] is not None:
            values["cylinder"] = Cylinder(**values["cylinder"])
        return cls(**values)


@dataclass(frozen=True, kw_only=True, eq=False)
class FramePredictions:
    """Predictions of one frame, and the truth beside them where it is known.

    Attributes
    ----------
    meta : FrameMeta
        Names and provenance.
    image : (V, H, W, 3) uint8
        RGB, as the model saw it.
    range_m : (V, H, W) float32
        Predicted distance along the ray, `metric_scale` applied; the file has every pixel, masked or not.
    rays : (V, H, W, 3) float32
        Predicted unit directions, camera axes.
    mask : (V, H, W) bool
        Predicted: True where there is geometry (no sky, nothing uncovered).
    pose_world_cam_pred : (V, 4, 4) float64
        Camera to the model's world, metres, `metric_scale` applied.
    metric_scale : float or None
        Predicted factor from the model's unit to metres. **Already applied, once**: for information only. None: the
        model predicts no scale, and ranges and poses have a unit of its own.
    confidence : (V, H, W) float32, optional
        The model's confidence, where it has one.
    range_m_true : (V, H, W) float32, optional
        0 where it is not known.
    mask_true : (V, H, W) bool, optional
        False where there is nothing to predict: sky, uncovered.
    pose_world_cam_true : (V, 4, 4) float64, optional
        Camera to CARLA map in OpenCV axes.
    intrinsics_true : (V, 3, 3) float64, optional
        Of pinhole views, in pixels of `image`.
    boxes_world_true : (N, 8, 3) float64, optional
        Corners of the annotated vehicles (`rawdata.box_corners`), CARLA map in OpenCV axes.
    box_ids : (N,) int64, optional
        Their actor ids.
    """

    meta: FrameMeta
    image: npt.NDArray[np.uint8]
    range_m: npt.NDArray[np.float32]
    rays: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]
    pose_world_cam_pred: FloatArray
    metric_scale: float | None
    confidence: npt.NDArray[np.float32] | None = None
    range_m_true: npt.NDArray[np.float32] | None = None
    mask_true: npt.NDArray[np.bool_] | None = None
    pose_world_cam_true: FloatArray | None = None
    intrinsics_true: FloatArray | None = None
    boxes_world_true: FloatArray | None = None
    box_ids: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        """Check every array's type, shape and values.

        Raises
        ------
        ValueError
            Names the array, what it holds and what was expected.
        """
        views, height, width = np.shape(self.range_m) if np.ndim(self.range_m) == 3 else (0, 0, 0)
        boxes = 0 if self.box_ids is None else len(self.box_ids)
        sizes = {"V": views, "H": height, "W": width, "N": boxes}
        for name, (dtype, shape) in _ARRAYS.items():
            array = getattr(self, name)
            if array is None and name in _OPTIONAL:
                continue
            expected = tuple(sizes[size] if isinstance(size, str) else size for size in shape)
            if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != expected:
                got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
                raise ValueError(f"{name}: got {got}, expected {np.dtype(dtype)} {expected} of V,H,W,N={sizes}")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ValueError(f"{name}: {np.count_nonzero(~np.isfinite(array))} values are not finite")
        self._check_values(views, (width, height))

    def _check_values(self, views: int, size_wh: tuple[int, int]) -> None:
        if len(self.meta.agents) != views or views == 0:
            raise ValueError(f"meta names {len(self.meta.agents)} agents, the arrays have {views} views")
        if self.metric_scale is not None and not (np.isfinite(self.metric_scale) and self.metric_scale > 0):
            raise ValueError(f"metric_scale={self.metric_scale!r}: expected a positive number, or None")
        for name in ("range_m", "range_m_true"):
            array = getattr(self, name)
            if array is not None and (array < 0).any():
                raise ValueError(f"{name}: lowest value {array.min()} m, expected none below 0")
        error = float(np.abs(np.linalg.norm(self.rays, axis=-1) - 1).max())
        if error > 1e-3:
            raise ValueError(f"rays: a length differs from 1 by {error:.3g}")
        for name in ("pose_world_cam_pred", "pose_world_cam_true"):
            for view, pose in enumerate(() if getattr(self, name) is None else getattr(self, name)):
                try:
                    check_rigid(pose)
                except ValueError as problem:
                    raise ValueError(f"{name} of view {view}: {problem}") from problem
        if (self.boxes_world_true is None) != (self.box_ids is None):
            raise ValueError("boxes_world_true and box_ids: expected both or none")
        cylinder = self.meta.cylinder
        if cylinder is not None and (cylinder.width, cylinder.height) != size_wh:
            raise ValueError(f"meta cylinder is {cylinder.width} x {cylinder.height}, the views are {size_wh}")
        if cylinder is not None and self.intrinsics_true is not None:
            raise ValueError("intrinsics_true: panoramas have none")

    @property
    def views(self) -> int:
        """Number of views."""
        return len(self.range_m)

    @property
    def depth_z_m(self) -> npt.NDArray[np.float32]:
        """(V, H, W) predicted z-depth; meaningless (negative behind) in panoramas."""
        return self.range_m * self.rays[..., 2]

    def points_cam(self, view: int) -> FloatArray:
        """Return predicted points (H, W, 3), the view's camera axes."""
        return self.range_m[view, ..., None] * self.rays[view].astype(np.float64)

    def points_world(self, view: int) -> FloatArray:
        """Return predicted points (H, W, 3) in the model's world, by predicted poses only."""
        return transform_points(self.pose_world_cam_pred[view], self.points_cam(view))

    def rays_true(self, view: int) -> FloatArray | None:
        """Return true unit rays (H, W, 3), camera axes; None for pinhole views without `intrinsics_true`."""
        if self.meta.cylinder is not None:
            return self.meta.cylinder.rays()
        if self.intrinsics_true is None:
            return None
        _, height, width = self.range_m.shape
        rays = pinhole_rays(self.intrinsics_true[view], (width, height))
        return rays / np.linalg.norm(rays, axis=-1, keepdims=True)

    def points_world_true(self, view: int) -> FloatArray | None:
        """Return true points (H, W, 3) in the CARLA map, OpenCV axes; None where truth is missing.

        Pixels whose `range_m_true` is 0 have no point: theirs is the camera's centre.
        """
        rays = self.rays_true(view)
        if rays is None or self.range_m_true is None or self.pose_world_cam_true is None:
            return None
        return transform_points(self.pose_world_cam_true[view], self.range_m_true[view, ..., None] * rays)


_ARRAYS: dict[str, tuple[Any, tuple[str | int, ...]]] = {
    "image": (np.uint8, ("V", "H", "W", 3)),
    "range_m": (np.float32, ("V", "H", "W")),
    "rays": (np.float32, ("V", "H", "W", 3)),
    "mask": (np.bool_, ("V", "H", "W")),
    "pose_world_cam_pred": (np.float64, ("V", 4, 4)),
    "confidence": (np.float32, ("V", "H", "W")),
    "range_m_true": (np.float32, ("V", "H", "W")),
    "mask_true": (np.bool_, ("V", "H", "W")),
    "pose_world_cam_true": (np.float64, ("V", 4, 4)),
    "intrinsics_true": (np.float64, ("V", 3, 3)),
    "boxes_world_true": (np.float64, ("N", 8, 3)),
    "box_ids": (np.int64, ("N",)),
}
_OPTIONAL = {field.name for field in fields(FramePredictions) if field.default is None}


def predictions_path(folder: Path, meta: FrameMeta) -> Path:
    """Return where a frame's file lies: `FOLDER/split/sequence/frame_agentID.npz`."""
    return folder / f"{meta.name}.npz"


def save_predictions(folder: Path, frame: FramePredictions) -> Path:
    """Write a frame's file, whole or not at all, and return its path."""
    path = predictions_path(folder, frame.meta)
    arrays = {name: getattr(frame, name) for name in _ARRAYS if getattr(frame, name) is not None}
    arrays["meta"] = np.array(frame.meta.to_json())
    if frame.metric_scale is not None:
        arrays["metric_scale"] = np.float64(frame.metric_scale)
    with whole_file(path) as stream:
        np.savez_compressed(stream, **arrays)
    return path


def load_predictions(path: str | Path) -> FramePredictions:
    """Read and check a frame's file.

    Raises
    ------
    ValueError
        If it is no such file, or an array is missing, unknown or wrong; names the file and the array.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    try:
        arrays: dict[str, Any] = dict(load_npz(path))
        meta = FrameMeta.from_json(str(arrays.pop("meta", "")))
        wrong = set(arrays) - set(_ARRAYS) - {"metric_scale"}
        wrong |= set(_ARRAYS) - _OPTIONAL - set(arrays)
        if wrong:
            raise ValueError(f"arrays {sorted(wrong)} are missing or unknown")
        scale = arrays.pop("metric_scale", None)
        return FramePredictions(meta=meta, metric_scale=None if scale is None else float(scale), **arrays)
    except OSError:
        raise
    except Exception as error:  # a value of another kind than expected can raise nearly anything
        raise ValueError(f"{path}: no predictions of a frame: {error or type(error).__name__}") from error


def list_predictions(folder: str | Path) -> list[Path]:
    """Return the files of a predictions folder, sorted by split, sequence and frame."""
    return sorted(path for path in Path(folder).glob("*/*/*.npz") if not path.name.startswith("."))
