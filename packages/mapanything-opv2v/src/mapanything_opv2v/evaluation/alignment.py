"""One transform per frame from the model's world into the true world, so that poses are compared in one frame.

Legend: V views; poses (V, 4, 4) are camera to world, metres, OpenCV axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mapanything_opv2v.evaluation.options import ALIGNMENTS
from mapanything_opv2v.geometry import FloatArray, invert, transform_points


@dataclass(frozen=True)
class Alignment:
    """``x_true = scale * R x_pred + t`` (`T` holds R and t)."""

    T: FloatArray
    """(4, 4) rigid."""
    scale: float = 1.0

    def points(self, points_pred: FloatArray) -> FloatArray:
        """Return (..., 3) points of the model's world in the true world."""
        return transform_points(self.T, self.scale * points_pred)

    def poses(self, poses_pred: FloatArray) -> FloatArray:
        """Return (V, 4, 4) camera poses of the model's world in the true world."""
        scaled = np.array(poses_pred, dtype=np.float64)
        scaled[:, :3, 3] *= self.scale
        return self.T @ scaled


def align(poses_pred: FloatArray, poses_true: FloatArray, how: str = "view0") -> Alignment:
    """Return the transform from the model's world into the true world.

    Parameters
    ----------
    poses_pred, poses_true : (V, 4, 4)
        The same views, in each world.
    how : str
        One of `ALIGNMENTS`.

    Raises
    ------
    ValueError
        If `how` is unknown, or a similarity is asked of cameras that share one centre.
    """
    if how not in ALIGNMENTS:
        raise ValueError(f"alignment {how!r}: expected one of {', '.join(ALIGNMENTS)}")
    if how == "view0":
        return Alignment(poses_true[0] @ invert(poses_pred[0]))
    R = _nearest_rotation(np.einsum("vij,vkj->ik", poses_true[:, :3, :3], poses_pred[:, :3, :3]))
    pred, true = poses_pred[:, :3, 3], poses_true[:, :3, 3]
    pred_mean, true_mean = pred.mean(axis=0), true.mean(axis=0)
    scale = 1.0
    if how == "similarity":
        spread = float(np.square(pred - pred_mean).sum())
        if spread < 1e-12:
            raise ValueError(
                f"alignment 'similarity': the {len(pred)} predicted cameras share one centre, no scale fits; "
                "use 'view0' or 'cameras'"
            )
        scale = float(np.sum((true - true_mean) * ((pred - pred_mean) @ R.T))) / spread
        if scale <= 0:
            raise ValueError(f"alignment 'similarity': scale {scale:.3g} is not positive; use 'view0' or 'cameras'")
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, true_mean - scale * R @ pred_mean
    return Alignment(T, scale)


def _nearest_rotation(M: FloatArray) -> FloatArray:
    """Return the rotation with the greatest trace(R^T M)."""
    U, _, Vt = np.linalg.svd(M)
    return U @ np.diag([1.0, 1.0, np.linalg.det(U @ Vt)]) @ Vt
