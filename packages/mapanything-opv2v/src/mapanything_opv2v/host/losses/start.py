"""The loss of a start (`+experiment=opv2v_start`): turns, movements and points of patches in view 0's axes."""

from __future__ import annotations

import logging
from typing import Any

import torch
from mapanything.train.losses import MultiLoss

from mapanything_opv2v import losses as core

logger = logging.getLogger(__name__)

POINTS = "bent_points"
"""Key of a prediction: points (B, h, w, 3) of patches in view 0's axes, bent (`losses.bent`)."""

LEAST_KNOWN = 0.05
"""A smaller share of patches with a known point is taken for a mistake."""

Views = list[dict[str, Any]]


class OPV2VStartLoss(MultiLoss):
    """Where every view, and every patch of it, is in view 0's axes.

    Per view ``turn + movement + points_weight * points`` (`losses.start`); summed over views, as the host does. A
    patch is asked for the known point nearest to its middle, up to 100 m from the view; a patch without one is not
    asked. Logs the terms, `position_error_m` and `heading_error_deg` of the views after view 0, and
    `patches_known_ratio`.

    Parameters
    ----------
    points_weight : float
        0 asks for poses only.

    Raises
    ------
    ValueError
        If the weight is negative, samples have one view, or the model is another one.
    """

    def __init__(self, points_weight: float = 1.0) -> None:
        super().__init__()
        if isinstance(points_weight, bool) or not 0 <= points_weight < float("inf"):
            raise ValueError(f"{type(self).__name__}: points_weight={points_weight!r}, expected 0 or more")
        self.points_weight = points_weight
        self._warned = False

    def get_name(self) -> str:
        """Return the name with its option."""
        return f"{type(self).__name__}(points_weight={self.points_weight!r})"

    def compute_loss(self, batch: Views, preds: Views, **kw: Any) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the sum over views and what is logged."""
        name = type(self).__name__
        if len(batch) < 2:
            raise ValueError(f"{name}: samples have {len(batch)} view; it takes two: dataset.num_views=2 or more")
        if POINTS not in preds[0]:
            raise ValueError(f"{name}: the model tells no points of patches; use model=opv2v_start")
        home = torch.linalg.inv(batch[0]["camera_pose"].double())
        turns, moves, points, metres, degrees, shares = [], [], [], [], [], []
        for view, pred in zip(batch, preds):
            pose = (home @ view["camera_pose"].double()).float()
            R, moved = core.rotations(pred["cam_quats"].float()), pred["cam_trans"].float()
            turns.append(core.turn_loss(R, pose[:, :3, :3]))
            moves.append(core.movement_loss(moved, pose[:, :3, 3]))
            lost, share = _points(view, pred[POINTS].float(), pose)
            points.append(lost)
            shares.append(share)
            metres.append((moved.detach() - pose[:, :3, 3]).norm(dim=-1).mean())
            degrees.append(core.angles_deg(R.detach(), pose[:, :3, :3]).mean())
        self._alarm(sum(shares) / len(shares))
        terms = {"pose_quats_avg": turns, "pose_trans_avg": moves, "points": points}
        details = {f"{name}_{term}_avg": float(torch.stack(values).detach().mean()) for term, values in terms.items()}
        details |= {
            "position_error_m": float(torch.stack(metres[1:]).mean()),
            "heading_error_deg": float(torch.stack(degrees[1:]).mean()),
            "patches_known_ratio": sum(shares) / len(shares),
        }
        total = torch.stack(turns).sum() + torch.stack(moves).sum() + self.points_weight * torch.stack(points).sum()
        return total, details

    def _alarm(self, share: float) -> None:
        """Warn once of patches whose points are not known."""
        if share < LEAST_KNOWN and self.points_weight and not self._warned:
            self._warned = True
            logger.warning(
                "%s: %.1f %% of the patches have a known point, so next to nothing is asked for: look at "
                "depth_root and need_depth (`mapanything-opv2v depth`, `check`). Said once a run",
                *(type(self).__name__, 100 * share),
            )


def _points(view: dict[str, Any], said: torch.Tensor, pose: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return the loss of a view's patches, and the share of them that are asked."""
    away = view["depth_along_ray"][..., 0]
    known = view["valid_mask"] & (away > 0) & (away < core.FARTHEST_M)
    rows, columns = said.shape[1:3]
    local, there = core.of_patches(view["pts3d_cam"], known, (rows, columns))
    true = torch.einsum("bij,bhwj->bhwi", pose[:, :3, :3], local) + pose[:, None, None, :3, 3]
    return core.points_loss(said, true, there), float(there.float().mean())
