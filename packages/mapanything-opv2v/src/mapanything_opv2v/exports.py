"""Predictions of a frame as the files that other tools read: depth, masks, point clouds.

Legend: V views, H rows, W columns, N points.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mapanything_opv2v.files import whole_file, write_bytes
from mapanything_opv2v.geometry import invert, transform_points
from mapanything_opv2v.kinds import EXPORTS
from mapanything_opv2v.pictures import encode_png
from mapanything_opv2v.predictions import FramePredictions, load_predictions
from mapanything_opv2v.rawdata import save_colored_pcd


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What is written of a frame."""

    kinds: tuple[str, ...] = EXPORTS
    """
    depth
        A view's `_depth_z.npy` (pinhole) or `_range.npy` (panorama): (H, W) float32 metres, 0 where masked.
    mask
        A view's `_mask.png`: 255 where there is geometry.
    pcd, ply, npy
        One coloured cloud of all views in view 0's camera axes (OpenCV), by predicted poses. The .npy is (N, 6)
        float32: x, y, z in metres, red, green, blue in [0, 1].
    """
    max_range_m: float = np.inf
    """Farther pixels are left out of depth and clouds."""
    masked: bool = True
    """False keeps the pixels that the model itself calls empty."""

    def __post_init__(self) -> None:
        """Refuse unknown kinds and ranges that leave nothing."""
        if not self.kinds or set(self.kinds) - set(EXPORTS):
            raise ValueError(f"export {list(self.kinds)}: expected some of {', '.join(EXPORTS)}")
        if not self.max_range_m > 0:
            raise ValueError(f"max_range_m={self.max_range_m}: expected a positive number of metres")


def kept_pixels(frame: FramePredictions, options: ExportOptions) -> npt.NDArray[np.bool_]:
    """Return which pixels (V, H, W) are exported."""
    near = frame.range_m <= options.max_range_m
    return near & frame.mask if options.masked else near


def cloud(frame: FramePredictions, options: ExportOptions) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Return points (N, 3) float32 in view 0's camera axes and their colours (N, 3) uint8."""
    T_view0_world, kept = invert(frame.pose_world_cam_pred[0]), kept_pixels(frame, options)
    points = [transform_points(T_view0_world, frame.points_world(view)[kept[view]]) for view in range(frame.views)]
    return np.concatenate(points).astype(np.float32), frame.image[kept]


def export_frame(frame: FramePredictions, folder: Path, options: ExportOptions) -> list[Path]:
    """Write a frame's files into `FOLDER/split/sequence/`, each whole or not at all; return them."""
    stem, kept = folder / frame.meta.name, kept_pixels(frame, options)
    paths: list[Path] = []
    pinhole = frame.meta.layout == "pinhole"
    depth, name = (frame.depth_z_m, "depth_z") if pinhole else (frame.range_m, "range")
    for view in range(frame.views):
        beside = f"{stem}_{frame.meta.view_name(view)}"
        if "depth" in options.kinds:
            paths.append(Path(f"{beside}_{name}.npy"))
            _save_npy(paths[-1], np.where(kept[view], depth[view], np.float32(0)))
        if "mask" in options.kinds:
            paths.append(Path(f"{beside}_mask.png"))
            write_bytes(paths[-1], encode_png(np.repeat(frame.mask[view, ..., None] * np.uint8(255), 3, axis=-1)))
    xyz, rgb = cloud(frame, options)
    for kind in ("pcd", "ply", "npy"):
        if kind in options.kinds:
            paths.append(Path(f"{stem}.{kind}"))
            _save_cloud(paths[-1], xyz, rgb)
    return paths


def export_file(path: Path, folder: Path, options: ExportOptions) -> int:
    """Do `export_frame` to a predictions file; return how many files were written."""
    return len(export_frame(load_predictions(path), folder, options))


def _save_cloud(path: Path, xyz: npt.NDArray[np.float32], rgb: npt.NDArray[np.uint8]) -> None:
    if path.suffix == ".pcd":
        save_colored_pcd(path, xyz, rgb)
    elif path.suffix == ".ply":
        save_ply(path, xyz, rgb)
    else:
        _save_npy(path, np.concatenate([xyz, rgb / np.float32(255)], axis=1))


def save_ply(path: Path, xyz: npt.NDArray[np.float32], rgb: npt.NDArray[np.uint8]) -> None:
    """Write points (N, 3) and colours (N, 3) as binary PLY, whole or not at all."""
    table = np.zeros(len(xyz), dtype=[("xyz", "<f4", 3), ("rgb", "u1", 3)])
    table["xyz"], table["rgb"] = xyz, rgb
    properties = [f"property float {axis}" for axis in "xyz"]
    properties += [f"property uchar {color}" for color in ("red", "green", "blue")]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(xyz)}", *properties, "end_header", ""]
    write_bytes(path, "\n".join(header).encode() + table.tobytes())


def _save_npy(path: Path, array: npt.NDArray[np.float32]) -> None:
    with whole_file(path) as stream:
        np.save(stream, array, allow_pickle=False)
