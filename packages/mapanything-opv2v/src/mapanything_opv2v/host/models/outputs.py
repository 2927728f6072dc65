"""What models say of one sample, as arrays over its views: they differ in which outputs they have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

View = dict[str, Any]


def rays_and_ranges(preds: Sequence[View], row: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rays (V, H, W, 3) and ranges (V, H, W), from points where a model predicts only those."""
    if "ray_directions" in preds[0] and "depth_along_ray" in preds[0]:
        return stack(preds, "ray_directions", row), stack(preds, "depth_along_ray", row)[..., 0]
    if "pts3d_cam" not in preds[0]:
        raise ValueError(
            f"the model predicts no ranges in its views' own axes (it has {', '.join(preds[0])}); expected "
            "ray_directions and depth_along_ray, or pts3d_cam"
        )
    points = stack(preds, "pts3d_cam", row)
    ranges = np.linalg.norm(points, axis=-1)
    forward = np.broadcast_to((0.0, 0.0, 1.0), points.shape)
    near = ranges[..., None] < 1e-9
    return np.where(near, forward, points / np.where(near, 1, ranges[..., None])), ranges


def confidence_of(preds: Sequence[View], row: int) -> np.ndarray | None:
    """Return (V, H, W), of a model that has one; Pi3 gives it a last axis of 1."""
    if "conf" not in preds[0]:
        return None
    found = stack(preds, "conf", row).astype(np.float32)
    return found[..., 0] if found.ndim == 4 and found.shape[-1] == 1 else found


def poses_of(preds: Sequence[View], row: int) -> np.ndarray:
    """Return (V, 4, 4); a single view needs none."""
    poses = np.tile(np.eye(4), (len(preds), 1, 1))
    if "cam_quats" in preds[0] and "cam_trans" in preds[0]:
        poses[:, :3, :3] = Rotation.from_quat(stack(preds, "cam_quats", row)).as_matrix()  # x, y, z, w
        poses[:, :3, 3] = stack(preds, "cam_trans", row)
    elif len(preds) > 1:
        raise ValueError(f"the model predicts no poses (it has {', '.join(preds[0])}); give it one view, --num-views 1")
    return poses


def stack(items: Sequence[View], key: str, row: int) -> np.ndarray:
    """Return (V, ...) float64 of one sample."""
    return np.stack([item[key][row].float().cpu().numpy() for item in items]).astype(np.float64)
