"""The losses that a MapAnything config can name: the host's protocol around the mathematics of `losses`.

As in the host, a loss sums over views (its training loop multiplies by 2 / views), and every number in `details`
goes to the console (unless its name contains "view"), to log.txt and to TensorBoard, for training and testing.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from mapanything.train.losses import MultiLoss

from mapanything_opv2v import losses as core
from mapanything_opv2v.host.losses.distillation import OPV2VScaleDistillationLoss
from mapanything_opv2v.host.losses.factored_geometry import OPV2VFactoredGeometryScaleRegr3DPlusNormalGMLoss
from mapanything_opv2v.host.losses.start import OPV2VStartLoss

logger = logging.getLogger(__name__)

ALARM_SHARE = 0.05
"""A share of positive mask pixels below this, or above 1 less this, is taken for a mistake."""

SAME_SURFACE = 0.05
"""Relative difference of true ranges up to which two views show the same surface; beyond it one view is blocked."""

Views = list[dict[str, Any]]


class OPV2VNonAmbiguousMaskLoss(MultiLoss):
    """Binary cross entropy of the predicted non-ambiguous mask, with a weight for its true pixels.

    Per view the mean of ``-w y log p - (1 - y) log(1 - p)`` over the pixels of which the truth is known: those with a
    depth, and those known to be sky or uncovered. Where all are (dense depth, pinhole views) and w = 1, the host's
    `NonAmbiguousMaskLoss(BCELoss())`; that one takes pixels without LiDAR points for surface. Logs `pred_mask_mean`,
    `gt_mask_mean`, `valid_mask_ratio` and `mask_known_ratio` (see `losses.MaskShares`), and warns once a run,
    separately for training and testing, when one of the first two is below 0.05 or above 0.95.

    Parameters
    ----------
    pos_weight : float or 'balanced'
        w. 'balanced' takes (false pixels) / (true pixels) of each batch, of those that are known.

    Raises
    ------
    ValueError
        If `pos_weight` is neither a positive number nor 'balanced'.
    """

    def __init__(self, pos_weight: float | str = 1.0) -> None:
        super().__init__()
        if pos_weight != "balanced" and not _positive(pos_weight):
            raise ValueError(
                f"{type(self).__name__}: pos_weight={pos_weight!r}, expected a positive number or 'balanced'"
            )
        self.pos_weight = pos_weight
        self._warned: set[str] = set()

    def get_name(self) -> str:
        """Return the name with its option."""
        return f"{type(self).__name__}(pos_weight={self.pos_weight!r})"

    def compute_loss(self, batch: Views, preds: Views, **kw: Any) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the sum over views and what is logged."""
        logits = [pred["non_ambiguous_mask_logits"] for pred in preds]
        masks = [view["non_ambiguous_mask"] for view in batch]
        known = [core.known_pixels(mask, view["valid_mask"]) for mask, view in zip(masks, batch)]
        if self.pos_weight == "balanced":
            weight = core.balanced_pos_weight(masks, known)
        else:
            weight = logits[0].new_tensor(self.pos_weight)
        per_view = [core.mask_loss(*parts, weight) for parts in zip(logits, masks, known)]
        shares = core.mask_shares(logits, masks, [view["valid_mask"] for view in batch])
        self._alarm(shares)
        details = _details(f"{type(self).__name__}_mask", per_view) | {
            "pred_mask_mean": shares.predicted,
            "gt_mask_mean": shares.true,
            "valid_mask_ratio": shares.valid,
            "mask_known_ratio": shares.known,
        }
        return torch.stack(per_view).sum(), details

    def _alarm(self, shares: core.MaskShares) -> None:
        """Warn once for training and once for testing, in the first process only."""
        phase = "training" if torch.is_grad_enabled() else "testing"
        low, high = min(shares.predicted, shares.true), max(shares.predicted, shares.true)
        fine = low >= ALARM_SHARE and high <= 1 - ALARM_SHARE
        if fine or phase in self._warned or not _first_process():
            return
        self._warned.add(phase)
        bound = f"below {ALARM_SHARE:.2f}" if low < ALARM_SHARE else f"above {1 - ALARM_SHARE:.2f}"
        logger.warning(
            "%s, %s: a positive share is %s: gt_mask_mean=%.4f, pred_mask_mean=%.4f, valid_mask_ratio=%.4f, "
            "mask_known_ratio=%.4f. %s. Said once a run",
            type(self).__name__,
            phase,
            bound,
            shares.true,
            shares.predicted,
            shares.valid,
            shares.known,
            self._advice(shares),
        )

    def _advice(self, shares: core.MaskShares) -> str:
        """Return what to look at."""
        if shares.true < ALARM_SHARE:
            return (
                "gt_mask_mean is low: look at the data: depth_root and its sky, the panorama's field of view and "
                "cameras (`mapanything-opv2v panorama`, `check`)"
            )
        if shares.true > 1 - ALARM_SHARE:
            return (
                "gt_mask_mean is high: no sky is known, so the mask head can only learn that all is surface. LiDAR "
                "depth has no sky: use dense depth, or switch this loss off (loss.opv2v.mask_weight=0)"
            )
        turn = "raise" if shares.predicted < ALARM_SHARE else "lower"
        return (
            f"gt_mask_mean is not, so the mask head has collapsed: {turn} pos_weight (now {self.pos_weight!r}) or "
            "change the loss's weight, lower the learning rate"
        )


class OPV2VMaskedDepthLoss(MultiLoss):
    """Metric range where there is a true one; elsewhere, a height between road and roofs.

    Per view the mean of ``|log(1 + r) - log(1 + r*)|`` over the pixels of `valid_mask` (r and r* are predicted and
    true distances along the ray, metres, the predicted scale applied), plus ``height_weight`` times the mean of
    ``log(1 + x)`` over pixels that show a surface (`non_ambiguous_mask`) without a known depth. x is by how many
    metres the height of the predicted point leaves [lowest_m, highest_m]; with LiDAR depth these pixels may be sky,
    which this part then takes for something below highest_m. Height is counted upwards from the view's
    own camera along the true vertical (the y axis of OPV2V's world points down): predicted poses do not enter, and
    a hilly map needs no ground level. Sky and what no camera sees are left alone.

    Parameters
    ----------
    height_weight : float
        0 switches the second part off.
    lowest_m, highest_m : float
        The band, metres relative to the camera; OPV2V's cameras are 1.0 to 1.9 m above the road.

    Raises
    ------
    ValueError
        If the weight is negative or the band is empty.
    """

    def __init__(self, height_weight: float = 0.1, lowest_m: float = -6.0, highest_m: float = 40.0) -> None:
        super().__init__()
        if not height_weight >= 0:
            raise ValueError(f"{type(self).__name__}: height_weight={height_weight!r}, expected 0 or more")
        if not lowest_m < highest_m:
            raise ValueError(f"{type(self).__name__}: {lowest_m=} is not below {highest_m=}")
        self.height_weight, self.lowest_m, self.highest_m = height_weight, lowest_m, highest_m

    def get_name(self) -> str:
        """Return the name with its options."""
        return f"{type(self).__name__}({self.height_weight=}, {self.lowest_m=}, {self.highest_m=})".replace("self.", "")

    def compute_loss(self, batch: Views, preds: Views, **kw: Any) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the sum over views and what is logged."""
        depth, height = [], []
        for view, pred in zip(batch, preds):
            valid = view["valid_mask"]
            gap = core.log_depth_gap(pred["depth_along_ray"][..., 0], view["depth_along_ray"][..., 0])
            depth.append(_mean(gap, valid))
            above = core.height_above_camera(pred["pts3d_cam"], view["camera_pose"])
            excess = torch.log1p(core.height_excess(above, self.lowest_m, self.highest_m))
            height.append(_mean(excess, view["non_ambiguous_mask"] & ~valid))
        name = type(self).__name__
        total = torch.stack(depth).sum() + self.height_weight * torch.stack(height).sum()
        return total, _details(f"{name}_depth", depth) | _details(f"{name}_height", height)


class OPV2VAgentAgreementLoss(MultiLoss):
    """Views of different agents that see the same surface must put it in the same place.

    For every ordered pair of views of different agents (`agent_index` differs, sample by sample), the predicted
    points of the first are taken into the second by the predicted poses and compared with its predicted range in
    their direction: ``e = log(|point| / range)``, loss ``e^2 / (e^2 + softness^2)``, if both see the same surface.
    They do not where ``|e| > log(1 + tolerance)``: behind the surface, the point is hidden; in front of it, it may
    lie on the second vehicle itself, which its cameras do not see. Nor where the true depth maps, if both have a
    value, differ by more than 5 %. Per view, the mean over all its pixels and partners; both orders count, so no
    agent is the reference. Pixels without a true depth count too; sky and what no camera sees do not.

    Parameters
    ----------
    softness : float
        Relative error at which the loss of a pixel reaches 1/2.
    tolerance : float
        Relative difference of predicted ranges up to which two views are taken to see the same surface.

    Raises
    ------
    ValueError
        If an option is not positive, or a view has no `agent_index`.
    """

    def __init__(self, softness: float = 0.1, tolerance: float = 0.25) -> None:
        super().__init__()
        for name, value in (("softness", softness), ("tolerance", tolerance)):
            if not _positive(value):
                raise ValueError(f"{type(self).__name__}: {name}={value!r}, expected a positive number")
        self.softness, self.tolerance = softness, tolerance

    def get_name(self) -> str:
        """Return the name with its options."""
        return f"{type(self).__name__}({self.softness=}, {self.tolerance=})".replace("self.", "")

    def compute_loss(self, batch: Views, preds: Views, **kw: Any) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the sum over views and what is logged."""
        for number, view in enumerate(batch):
            if "agent_index" not in view:
                raise ValueError(
                    f"{type(self).__name__}: view {number} has no agent_index; use the OPV2V datasets, or add the "
                    "integer to the views of your own"
                )
        per_view, seen, compared = [], 0, 0
        for a in range(len(batch)):
            parts = [self._pair(batch, preds, a, b) for b in range(len(batch)) if b != a]
            loss = torch.stack([part[0] for part in parts]).sum() if parts else 0 * preds[a]["pts3d"].sum()
            count = sum(part[1] for part in parts)
            per_view.append(loss / max(count, 1))
            seen, compared = seen + count, compared + sum(part[2] for part in parts)
        details = _details(f"{type(self).__name__}", per_view) | {"agreement_shared_ratio": seen / max(compared, 1)}
        return torch.stack(per_view).sum(), details

    def _pair(self, batch: Views, preds: Views, a: int, b: int) -> tuple[torch.Tensor, int, int]:
        """Return the sum of the losses of a's points in b, and how many are shared and were tried."""
        others = (batch[a]["agent_index"] != batch[b]["agent_index"])[:, None]
        if not others.any():
            return 0 * preds[a]["pts3d"].sum(), 0, 0
        rays, surface = batch[b]["ray_directions_cam"], batch[b]["non_ambiguous_mask"]
        R, t = core.rotations(preds[b]["cam_quats"]), preds[b]["cam_trans"]
        gap, known = core.range_gap(preds[a]["pts3d"].flatten(1, 2), preds[b]["depth_along_ray"], rays, R, t, surface)
        T = batch[b]["camera_pose"]
        true_gap, true_known = core.range_gap(
            batch[a]["pts3d"].flatten(1, 2),
            batch[b]["depth_along_ray"],
            rays,
            T[:, :3, :3],
            T[:, :3, 3],
            batch[b]["valid_mask"],
        )
        blocked = batch[a]["valid_mask"].flatten(1) & true_known & (true_gap.abs() > math.log1p(SAME_SURFACE))
        tried = batch[a]["non_ambiguous_mask"].flatten(1) & others
        shared = tried & known & ~blocked & (gap.detach().abs() <= math.log1p(self.tolerance))
        loss = torch.where(shared, core.bounded(gap, self.softness), torch.zeros_like(gap)).sum()
        return loss, int(shared.sum()), int(tried.sum())


def _mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean over a mask, 0 where it is empty."""
    return torch.where(mask, values, torch.zeros_like(values)).sum() / mask.sum().clamp(min=1)


def _details(name: str, per_view: list[torch.Tensor]) -> dict[str, float]:
    """Return each view's loss and their mean under the host's kind of names."""
    values = torch.stack([loss.detach() for loss in per_view]).tolist()
    return {f"{name}_view{i + 1}": value for i, value in enumerate(values)} | {f"{name}_avg": sum(values) / len(values)}


def _positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")


def _first_process() -> bool:
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not distributed or torch.distributed.get_rank() == 0


_CLASSES = (
    OPV2VNonAmbiguousMaskLoss,
    OPV2VFactoredGeometryScaleRegr3DPlusNormalGMLoss,
    OPV2VMaskedDepthLoss,
    OPV2VScaleDistillationLoss,
    OPV2VAgentAgreementLoss,
    OPV2VStartLoss,
)
LOSSES: dict[str, type[MultiLoss]] = {cls.__name__: cls for cls in _CLASSES}
