"""Recordings of other origin, written as an OPV2V tree: then everything reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from mapanything_opv2v import geometry
from mapanything_opv2v.files import write_bytes
from mapanything_opv2v.geometry import FloatArray
from mapanything_opv2v.rawdata.images import save_depth
from mapanything_opv2v.rawdata.names import MAX_CAMERAS, SPLITS
from mapanything_opv2v.rawdata.pcd import PointCloud, save_pcd


@dataclass(frozen=True, eq=False)
class ImportedCamera:
    """One camera of a frame."""

    intrinsic: FloatArray
    """(3, 3), pixel centres at integers."""
    T_center_cam: FloatArray
    """Camera to the vehicle's centre (LiDAR), OpenCV axes."""
    image: npt.NDArray[np.uint8]
    """(H, W, 3) RGB."""
    depth_z_m: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class ImportedFrame:
    """One vehicle at one moment."""

    cameras: Sequence[ImportedCamera]
    T_world_center: FloatArray
    """Centre to world, OpenCV axes."""
    points: npt.NDArray[np.float32] | None = None
    """(N, 3) of the LiDAR, OpenCV axes of the centre."""
    intensity: npt.NDArray[np.float32] | None = None
    """(N,) in [0, 1]."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further plain values of the YAML."""


def agent_folder(root: Path, split: str, sequence: str, agent_id: int) -> Path:
    """Return an agent's folder of a tree.

    Raises
    ------
    ValueError
        If the split is none of OPV2V's.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
    return root / split / sequence / str(agent_id)


def write_frame(folder: Path, number: int, frame: ImportedFrame) -> None:
    """Write images, YAML (last), and what there is of depth maps and sweep.

    Raises
    ------
    ValueError
        If there are more cameras than a tree can hold.
    """
    if len(frame.cameras) > MAX_CAMERAS:
        raise ValueError(f"{len(frame.cameras)} cameras; a tree holds at most {MAX_CAMERAS} of an agent")
    name = f"{number:06d}"
    T_world_lidar = geometry.opencv_to_carla(frame.T_world_center)
    lidar_pose = geometry.pose_from_T_world(T_world_lidar)
    meta: dict[str, Any] = {"lidar_pose": lidar_pose.tolist()}
    for k, camera in enumerate(frame.cameras):
        height, width = camera.image.shape[:2]
        cords = geometry.pose_from_T_world(T_world_lidar @ geometry.opencv_to_carla(camera.T_center_cam))
        intrinsic = np.array(camera.intrinsic, dtype=np.float64)
        intrinsic[:2, 2] += 0.5  # files measure from the image's corner
        meta[f"camera{k}"] = {
            "cords": cords.tolist(),
            "extrinsic": geometry.T_cam_lidar_carla(cords, lidar_pose).tolist(),
            "intrinsic": intrinsic.tolist(),
            "image_size": [width, height],
        }
        _, png = cv2.imencode(".png", camera.image[..., ::-1])
        write_bytes(folder / f"{name}_camera{k}.png", png.tobytes())
        if camera.depth_z_m is not None:
            save_depth(folder / f"{name}_camera{k}_depth.npy", camera.depth_z_m)
    if frame.points is not None:
        xyz = geometry.points_opencv_to_carla(frame.points).astype(np.float32)
        save_pcd(folder / f"{name}.pcd", PointCloud(xyz, frame.intensity))
    meta |= {"true_ego_pos": lidar_pose.tolist(), "vehicles": {}, **frame.extra}
    write_bytes(folder / f"{name}.yaml", yaml.safe_dump(meta).encode())
