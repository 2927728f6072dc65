"""OPV2V's published sensors: four cameras and a LiDAR, placed in the vehicle's CARLA axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mapanything_opv2v import geometry
from mapanything_opv2v.geometry import FloatArray

CAMERA_POSES: tuple[tuple[float, ...], ...] = (
    (2.5, 0.0, 1.0, 0.0, 0.0, 0.0),
    (0.0, 0.3, 1.8, 0.0, 100.0, 0.0),
    (0.0, -0.3, 1.8, 0.0, -100.0, 0.0),
    (-2.0, 0.0, 1.5, 0.0, 180.0, 0.0),
)
"""Front, right rear, left rear, back: ``[x, y, z, roll, yaw, pitch]``, metres and degrees, vehicle axes."""

LIDAR_POSE = (-0.5, 0.0, 1.9, 0.0, 0.0, 0.0)
"""As `CAMERA_POSES`. The panorama is seen from here."""

FOCAL_800 = 335.639852470912
"""Focal length in pixels of the published 800 x 600 images: 100 degrees across."""

LIDAR_SIZE = (64, 1024)
"""Channels, and columns of one turn."""

LIDAR_ELEVATION_DEG = (-25.0, 2.0)
LIDAR_RANGE_M = 120.0


def carla_intrinsic(size_wh: tuple[int, int]) -> FloatArray:
    """Return the (3, 3) matrix as OPV2V's files state it (cx = width / 2, from the image's corner)."""
    focal = FOCAL_800 * size_wh[0] / 800
    return np.array([[focal, 0, size_wh[0] / 2], [0, focal, size_wh[1] / 2], [0, 0, 1.0]])


def opencv_intrinsic(size_wh: tuple[int, int]) -> FloatArray:
    """Return the (3, 3) matrix with pixel centres at integers, as the rest of the package uses it."""
    K = carla_intrinsic(size_wh)
    K[:2, 2] -= 0.5
    return K


def rotate_to_world(T_world_sensor: FloatArray, rays_opencv: npt.NDArray[Any]) -> FloatArray:
    """Turn rays from a sensor's OpenCV axes to world CARLA axes."""
    return geometry.points_opencv_to_carla(rays_opencv) @ T_world_sensor[:3, :3].T


def lidar_rays(size: tuple[int, int] = LIDAR_SIZE) -> FloatArray:
    """Return (channels * columns, 3) unit vectors of one sweep in the LiDAR's CARLA axes."""
    elevation = np.deg2rad(np.linspace(*LIDAR_ELEVATION_DEG, size[0]))[:, None]
    azimuth = np.linspace(-math.pi, math.pi, size[1], endpoint=False)
    level = np.cos(elevation)
    x, y = level * np.cos(azimuth), level * np.sin(azimuth)
    return np.stack([x, y, np.broadcast_to(np.sin(elevation), x.shape)], axis=-1).reshape(-1, 3)
