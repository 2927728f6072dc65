"""Hand-made frames for the tests of evaluation."""

from __future__ import annotations

import numpy as np
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.predictions import FrameMeta, FramePredictions
from scipy.spatial.transform import Rotation

CYLINDER = Cylinder(32, 8, 60.0)


def pose(rotvec_deg=(0, 0, 0), xyz=(0, 0, 0)):
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec(rotvec_deg, degrees=True).as_matrix()
    T[:3, 3] = xyz
    return T


def random_poses(rng, views):
    return np.stack([pose(rng.uniform(-90, 90, 3), rng.uniform(-20, 20, 3)) for _ in range(views)])


def perfect(rng, views=3, agents=None, frame="000001", **changes):
    """Predictions that equal the truth, seen from another world: the truth in view 0's camera."""
    height, width = CYLINDER.height, CYLINDER.width
    poses_true = random_poses(rng, views)
    ranges = rng.uniform(3, 30, (views, height, width)).astype(np.float32)
    known = rng.random((views, height, width)) < 0.9
    values = {
        "meta": FrameMeta(
            split="test",
            sequence="town",
            frame=frame,
            layout="panorama",
            agents=agents or tuple(range(5, 5 + views)),
            cylinder=CYLINDER,
        ),
        "image": rng.integers(0, 255, (views, height, width, 3), dtype=np.uint8),
        "range_m": ranges,
        "rays": np.broadcast_to(CYLINDER.rays().astype(np.float32), (views, height, width, 3)).copy(),
        "mask": known,
        "pose_world_cam_pred": np.linalg.inv(poses_true[0]) @ poses_true,
        "metric_scale": 1.0,
        "range_m_true": np.where(known, ranges, np.float32(0)),
        "mask_true": known,
        "pose_world_cam_true": poses_true,
        **changes,
    }
    return FramePredictions(**values)
