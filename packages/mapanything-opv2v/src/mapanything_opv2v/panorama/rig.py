"""A rigid set of pinhole cameras around a panorama's centre."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mapanything_opv2v import geometry
from mapanything_opv2v.geometry import FloatArray
from mapanything_opv2v.rawdata.calibration import fitted_intrinsic

if TYPE_CHECKING:
    from mapanything_opv2v.rawdata import AgentMeta


POSITION_STEP_M = 1e-3
ANGLE_STEP_DEG = 1e-2
"""Poses are rounded to these steps where colour tables are shared: a thirtieth of an OPV2V image's pixel."""


@dataclass(frozen=True, eq=False)
class RigCamera:
    """One pinhole camera.

    Attributes
    ----------
    intrinsic : (3, 3) float64
        Pixels, pixel centres at integers.
    T_pano_cam : (4, 4) float64
        Camera to panorama, OpenCV axes on both sides, metres.
    size_wh : tuple of int
        Width and height of its images.
    """

    intrinsic: FloatArray
    T_pano_cam: FloatArray
    size_wh: tuple[int, int]

    def __post_init__(self) -> None:
        """Refuse what is not a camera."""
        K = np.asarray(self.intrinsic, dtype=np.float64)
        if K.shape != (3, 3) or not np.isfinite(K).all() or K[0, 0] <= 0 or K[1, 1] <= 0 or K[1, 0] != 0:
            raise ValueError(f"RigCamera: intrinsic: expected [[fx, s, cx], [0, fy, cy], [0, 0, 1]], got {K.tolist()}")
        if min(self.size_wh) < 2:
            raise ValueError(f"RigCamera: size_wh={self.size_wh}, expected at least 2 x 2 pixels")
        object.__setattr__(self, "intrinsic", K)
        object.__setattr__(self, "T_pano_cam", geometry.check_rigid(self.T_pano_cam))
        object.__setattr__(self, "size_wh", (int(self.size_wh[0]), int(self.size_wh[1])))


class CameraKey(NamedTuple):
    """A camera, rounded: pose in steps, intrinsic row by row, image size."""

    steps: tuple[int, ...]
    intrinsic: tuple[float, ...]
    size_wh: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Rig:
    """Cameras in a fixed order; images are given in the same order.

    Attributes
    ----------
    cameras : tuple of RigCamera
    key : tuple of CameraKey
        Equal for rigs that agree to `POSITION_STEP_M` and `ANGLE_STEP_DEG`.
    """

    cameras: tuple[RigCamera, ...]
    key: tuple[CameraKey, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Refuse an empty rig; make the key."""
        if not self.cameras:
            raise ValueError("Rig: expected at least one camera")
        object.__setattr__(self, "cameras", tuple(self.cameras))
        object.__setattr__(self, "key", tuple(_rounded(camera) for camera in self.cameras))

    def rounded(self) -> Rig:
        """Return the rig that `key` stands for, so that a shared table never depends on who came first."""
        cameras = []
        for key in self.key:
            pose = np.array(key.steps) * ([POSITION_STEP_M] * 3 + [ANGLE_STEP_DEG] * 3)
            T = geometry.carla_to_opencv(geometry.T_world_from_pose(pose))
            cameras.append(RigCamera(np.array(key.intrinsic).reshape(3, 3), T, key.size_wh))
        return Rig(tuple(cameras))

    @classmethod
    def from_agent(
        cls,
        meta: AgentMeta,
        sizes_wh: Sequence[tuple[int, int]],
        camera_ids: Sequence[int] | None = None,
        files: Sequence[Path] | None = None,
    ) -> Rig:
        """Make the rig of an OPV2V agent; the panorama's centre and axes are the LiDAR's.

        Parameters
        ----------
        meta : AgentMeta
            The agent's YAML.
        sizes_wh : sequence of (int, int)
            Image sizes in the order of `camera_ids`.
        camera_ids : sequence of int, optional
            Default: all of the file, ascending.
        files : sequence of Path, optional
            The images, for messages.

        Raises
        ------
        ValueError
            If the file has no such camera, or an image is of another size than its calibration.
        """
        ids = list(meta.cameras) if camera_ids is None else list(camera_ids)
        if len(ids) != len(sizes_wh):
            raise ValueError(f"Rig: {len(ids)} cameras {ids} but {len(sizes_wh)} image sizes")
        T_pano_world = geometry.invert(geometry.T_world_cam_opencv(meta.lidar_pose))
        cameras = []
        for position, (number, size) in enumerate(zip(ids, sizes_wh)):
            if number not in meta.cameras:
                raise ValueError(f"Rig: no camera{number} in the YAML; cameras there: {sorted(meta.cameras)}")
            camera = meta.cameras[number]
            T_pano_cam = T_pano_world @ geometry.T_world_cam_opencv(camera.cords)
            where = f"camera{number}" if files is None else files[position]
            cameras.append(RigCamera(fitted_intrinsic(camera, size, where), T_pano_cam, size))
        return cls(tuple(cameras))


def _rounded(camera: RigCamera) -> CameraKey:
    """Return pose (in steps), intrinsic (a thousandth of a pixel) and size."""
    pose = geometry.pose_from_T_world(geometry.opencv_to_carla(camera.T_pano_cam))
    steps = np.rint(pose / ([POSITION_STEP_M] * 3 + [ANGLE_STEP_DEG] * 3)).astype(int)
    turn = round(360 / ANGLE_STEP_DEG)
    steps[3:] = (steps[3:] + turn // 2) % turn - turn // 2  # -180 and 180 degrees are the same
    return CameraKey(tuple(steps.tolist()), tuple(camera.intrinsic.round(3).ravel().tolist()), camera.size_wh)
