"""Poses, pinhole cameras and cylinders; pure functions in float64.

Frames
------
CARLA axes
    Left-handed: x forward, y right, z up. The map, vehicles, LiDARs and the files' camera poses use them.
OpenCV axes
    Right-handed: x right, y down, z forward. The host, intrinsics and panoramas use them.

`T_a_b` takes homogeneous coordinates in b to coordinates in a. Angles of poses are degrees, lengths metres.
Pixel (column u, row v) has its centre at integer coordinates; an image spans [-0.5, width - 0.5].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mapanything_opv2v.kinds import ELEVATION_CENTER_DEG, VERTICAL_FOV_DEG

FloatArray = npt.NDArray[np.float64]

S_OPENCV_CARLA: FloatArray = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
"""(3, 3), takes CARLA axes to OpenCV axes; determinant -1, orthogonal."""


def T_world_from_pose(pose6: npt.ArrayLike) -> FloatArray:
    """Return the transform from a CARLA body to the CARLA map.

    The rotation is ``Rz(yaw) Ry(-pitch) Rx(-roll)`` in the usual right-handed formulas: positive pitch raises
    the forward axis, positive yaw turns it to the right, positive roll lowers the right side (CARLA 0.9,
    ``carla.Transform.get_matrix``).

    Parameters
    ----------
    pose6 : (6,) array_like
        ``[x, y, z, roll, yaw, pitch]``, metres and degrees.

    Returns
    -------
    (4, 4) float64

    Raises
    ------
    ValueError
        If the pose is not six finite numbers.
    """
    pose = np.asarray(pose6, dtype=np.float64)
    if pose.shape != (6,) or not np.isfinite(pose).all():
        raise ValueError(f"expected a pose of six finite numbers [x, y, z, roll, yaw, pitch], got {pose6!r}")
    roll, yaw, pitch = np.deg2rad(pose[3:])
    cr, sr, cy, sy, cp, sp = (f(a) for a in (roll, yaw, pitch) for f in (math.cos, math.sin))
    T = np.eye(4)
    T[:3, :3] = (
        (cy * cp, cy * sp * sr - sy * cr, -cy * sp * cr - sy * sr),
        (sy * cp, sy * sp * sr + cy * cr, -sy * sp * cr + cy * sr),
        (sp, -cp * sr, cp * cr),
    )
    T[:3, 3] = pose[:3]
    return T


def pose_from_T_world(T_world_body: npt.ArrayLike) -> FloatArray:
    """Return the CARLA pose ``[x, y, z, roll, yaw, pitch]`` of a transform; inverse of `T_world_from_pose`.

    Pitch is in [-90, 90] degrees; at exactly +-90 roll is taken as zero.
    """
    T = check_rigid(T_world_body)
    R = T[:3, :3]
    level = math.hypot(R[0, 0], R[1, 0])
    pitch = math.atan2(R[2, 0], level)
    if level > 1e-9:
        roll, yaw = math.atan2(-R[2, 1], R[2, 2]), math.atan2(R[1, 0], R[0, 0])
    else:
        roll, yaw = 0.0, math.atan2(-R[0, 1], R[1, 1])
    return np.array([*T[:3, 3], *np.rad2deg((roll, yaw, pitch))])


def carla_to_opencv(T_carla: npt.ArrayLike) -> FloatArray:
    """Rewrite a (4, 4) transform between CARLA frames as one between the same frames in OpenCV axes.

    ``R_cv = S R S^T``, ``t_cv = S t``.
    """
    return _change_axes(T_carla, S_OPENCV_CARLA)


def opencv_to_carla(T_opencv: npt.ArrayLike) -> FloatArray:
    """Inverse of `carla_to_opencv`."""
    return _change_axes(T_opencv, S_OPENCV_CARLA.T)


def points_carla_to_opencv(points: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return (..., 3) points of a CARLA frame in the same frame's OpenCV axes: (y, -z, x)."""
    return np.stack([points[..., 1], -points[..., 2], points[..., 0]], axis=-1)


def points_opencv_to_carla(points: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Inverse of `points_carla_to_opencv`: (z, x, -y)."""
    return np.stack([points[..., 2], points[..., 0], -points[..., 1]], axis=-1)


def T_world_cam_opencv(cords: npt.ArrayLike) -> FloatArray:
    """Return camera to world, OpenCV axes on both sides, from a CARLA ``[x, y, z, roll, yaw, pitch]``."""
    return carla_to_opencv(T_world_from_pose(cords))


def invert(T: npt.ArrayLike) -> FloatArray:
    """Return the inverse of a rigid (4, 4) transform."""
    T = check_rigid(T)
    inverse = np.eye(4)
    inverse[:3, :3] = T[:3, :3].T
    inverse[:3, 3] = -T[:3, :3].T @ T[:3, 3]
    return inverse


def T_cam_lidar_carla(cords: npt.ArrayLike, lidar_pose: npt.ArrayLike) -> FloatArray:
    """Return LiDAR to camera, CARLA axes on both sides: what a file's ``extrinsic`` states."""
    return invert(T_world_from_pose(cords)) @ T_world_from_pose(lidar_pose)


def check_rigid(T: npt.ArrayLike, tolerance: float = 1e-4) -> FloatArray:
    """Return `T` as float64 if it is a (4, 4) rotation and translation.

    Raises
    ------
    ValueError
        If it is not; says by how much.
    """
    array = np.asarray(T, dtype=np.float64)
    if array.shape != (4, 4) or not np.isfinite(array).all():
        raise ValueError(f"expected a finite (4, 4) transform, got shape {array.shape}")
    R = array[:3, :3]
    error = float(np.abs(R @ R.T - np.eye(3)).max())
    if error > tolerance or np.linalg.det(R) < 0 or not np.allclose(array[3], (0, 0, 0, 1)):
        raise ValueError(
            f"expected a rotation and translation: R R^T differs from I by {error:.2g}, "
            f"det {np.linalg.det(R):.3g}, last row {array[3].tolist()}"
        )
    return array


def transform_points(T_a_b: npt.ArrayLike, points_b: npt.NDArray[Any]) -> FloatArray:
    """Return (..., 3) points of frame b in frame a."""
    T = np.asarray(T_a_b, dtype=np.float64)
    return points_b @ T[:3, :3].T + T[:3, 3]


def rotation_angle_deg(R: npt.ArrayLike) -> float:
    """Return the angle of a (3, 3) rotation, degrees; exact for small angles too."""
    R = np.asarray(R, dtype=np.float64)
    sine = np.linalg.norm((R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]))
    return math.degrees(math.atan2(float(sine), float(np.trace(R)) - 1))


def pinhole_rays(intrinsic: npt.ArrayLike, size_wh: tuple[int, int]) -> FloatArray:
    """Return (H, W, 3) rays with z = 1 through the pixel centres, camera OpenCV axes."""
    K = np.asarray(intrinsic, dtype=np.float64)
    u, v = np.meshgrid(np.arange(size_wh[0], dtype=np.float64), np.arange(size_wh[1], dtype=np.float64))
    y = (v - K[1, 2]) / K[1, 1]
    x = (u - K[0, 2] - K[0, 1] * y) / K[0, 0]
    return np.stack([x, y, np.ones_like(x)], axis=-1)


def project_pinhole(
    intrinsic: npt.ArrayLike, points_cam: npt.NDArray[Any]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Project (..., 3) points, camera OpenCV axes, to pixels.

    Returns
    -------
    u, v, z : (...) float64
        Column, row and z-depth in metres; u and v are NaN for points that are not in front (z <= 0).
    """
    K = np.asarray(intrinsic, dtype=np.float64)
    points = np.asarray(points_cam, dtype=np.float64)
    z = points[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = points[..., 0] / z, points[..., 1] / z
        u, v = K[0, 0] * x + K[0, 1] * y + K[0, 2], K[1, 1] * y + K[1, 2]
    behind = ~(z > 0)
    return np.where(behind, np.nan, u), np.where(behind, np.nan, v), z


def ranges_from_depth_z(depth_z_m: npt.NDArray[Any], intrinsic: npt.ArrayLike) -> FloatArray:
    """Return distances along the ray (H, W) from z-depth (H, W), metres."""
    height, width = depth_z_m.shape
    return depth_z_m * np.linalg.norm(pinhole_rays(intrinsic, (width, height)), axis=-1)


@dataclass(frozen=True)
class Cylinder:
    """An image around a vertical axis: columns equal in azimuth, rows equal in elevation.

    The middle of the image looks forward (+z). Azimuth grows to the right, from -180 degrees at the left edge
    to +180 at the right edge, where the image closes. Elevation falls from top to bottom.

    Attributes
    ----------
    width, height : int
        Pixels.
    vertical_fov_deg : float
        Between the outer edges of the first and last row.
    elevation_center_deg : float
        Elevation of the image's middle row; positive looks up.
    """

    width: int
    height: int
    vertical_fov_deg: float = VERTICAL_FOV_DEG
    elevation_center_deg: float = ELEVATION_CENTER_DEG

    def __post_init__(self) -> None:
        """Refuse sizes and angles that make no image."""
        for name in ("width", "height"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 2:
                raise ValueError(f"Cylinder: {name}={value!r}, expected an integer of at least 2")
        if not 0 < self.vertical_fov_deg <= 180:
            raise ValueError(f"Cylinder: vertical_fov_deg={self.vertical_fov_deg!r}, expected 0 < fov <= 180")
        top = self.elevation_center_deg + self.vertical_fov_deg / 2
        bottom = self.elevation_center_deg - self.vertical_fov_deg / 2
        if not (top <= 90 and bottom >= -90):
            raise ValueError(
                f"Cylinder: rows reach from {bottom} to {top} degrees of elevation, expected -90 to 90; "
                "change vertical_fov_deg or elevation_center_deg"
            )

    @classmethod
    def from_size(cls, size_wh: Sequence[int], vertical_fov_deg: float, elevation_center_deg: float) -> Cylinder:
        """Make a cylinder from ``(width, height)``."""
        width, height = size_wh
        return cls(width, height, vertical_fov_deg, elevation_center_deg)

    @property
    def columns_per_radian(self) -> float:
        """Pixels a radian of azimuth."""
        return self.width / (2 * math.pi)

    @property
    def rows_per_radian(self) -> float:
        """Pixels a radian of elevation."""
        return self.height / math.radians(self.vertical_fov_deg)

    def azimuth_elevation(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return azimuth (W,) and elevation (H,) of the pixel centres, radians."""
        azimuth = (np.arange(self.width) + 0.5 - self.width / 2) / self.columns_per_radian
        middle = math.radians(self.elevation_center_deg)
        elevation = middle - (np.arange(self.height) + 0.5 - self.height / 2) / self.rows_per_radian
        return azimuth, elevation

    def rays(self) -> FloatArray:
        """Return (H, W, 3) unit vectors through the pixel centres, panorama OpenCV axes."""
        azimuth, elevation = self.azimuth_elevation()
        level = np.cos(elevation)[:, None]
        x, z = level * np.sin(azimuth), level * np.cos(azimuth)
        return np.stack([x, np.broadcast_to(-np.sin(elevation)[:, None], x.shape), z], axis=-1)

    def project(self, points: npt.NDArray[Any]) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Project (..., 3) points, panorama OpenCV axes, to pixels.

        Returns
        -------
        u, v, range_m : (...) float64
            Column in [-0.5, width - 0.5], row (outside [-0.5, height - 0.5] where the cylinder does not
            reach) and distance in metres. The origin itself has no direction: u and v are NaN there.
        """
        points = np.asarray(points, dtype=np.float64)
        x, y, z = points[..., 0], points[..., 1], points[..., 2]
        level = np.hypot(x, z)
        range_m = np.hypot(level, y)
        u = np.arctan2(x, z) * self.columns_per_radian + (self.width - 1) / 2
        down = np.arctan2(y, level) + math.radians(self.elevation_center_deg)
        v = down * self.rows_per_radian + (self.height - 1) / 2
        nowhere = range_m == 0
        return np.where(nowhere, np.nan, u), np.where(nowhere, np.nan, v), range_m


def _change_axes(T: npt.ArrayLike, S: FloatArray) -> FloatArray:
    array = np.asarray(T, dtype=np.float64)
    if array.shape != (4, 4):
        raise ValueError(f"expected a (4, 4) transform, got shape {array.shape}")
    changed = np.eye(4)
    changed[:3, :3] = S @ array[:3, :3] @ S.T
    changed[:3, 3] = S @ array[:3, 3]
    return changed
