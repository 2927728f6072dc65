"""The host's factored geometry loss, made right for panoramas."""

from __future__ import annotations

from typing import Any

import torch
from mapanything.train.losses import FactoredGeometryScaleRegr3DPlusNormalGMLoss

from mapanything_opv2v.losses import closes, gradient_matching, is_panorama, log_depth

_TERM = "gradient_matching"


class OPV2VFactoredGeometryScaleRegr3DPlusNormalGMLoss(FactoredGeometryScaleRegr3DPlusNormalGMLoss):
    """The host's loss, with a gradient-matching part that knows panoramas; every option is the host's.

    The host compares steps of the logarithm of z between neighbours. In views that look all around (some true rays
    do not point forward), z means nothing and this class takes the range along the ray instead; where the last
    column neighbours the first (at +-180 degrees), the step across that seam counts too. Batches of pinhole views
    are handed to the host's own class unchanged.

    Raises
    ------
    ValueError
        `depth_type_for_loss='depth_z'` and a panorama in the batch; pairwise poses and a single view.
    """

    gm_loss_weight: float
    _keep: list[Any] | None = None

    def get_all_info(self, batch: list[dict[str, Any]], preds: list[dict[str, Any]], **kw: Any) -> Any:
        """Return the host's normalised quantities, and leave a copy where `compute_loss` asked for one."""
        info = super().get_all_info(batch, preds, **kw)
        if self._keep is not None:
            truth, predicted, valid_masks, ambiguous_masks, *_ = info
            self._keep += [truth, predicted, list(valid_masks), list(ambiguous_masks)]
        return info

    def compute_loss(self, batch: list[dict[str, Any]], preds: list[dict[str, Any]], **kw: Any) -> Any:
        """Return the host's loss with our gradient matching where a view is a panorama."""
        if self.compute_pairwise_relative_pose_loss and len(batch) < 2:
            raise ValueError(
                f"{type(self).__name__}: compute_pairwise_relative_pose_loss=True needs at least two views, got one"
            )
        panorama = [is_panorama(view["ray_directions_cam"]) for view in batch]
        if not torch.stack(panorama).any():
            return super().compute_loss(batch, preds, **kw)
        if self.depth_type_for_loss != "depth_along_ray":
            raise ValueError(
                f"{type(self).__name__}: depth_type_for_loss={self.depth_type_for_loss!r} and a panorama in the "
                "batch: z means nothing behind the vehicle; use depth_type_for_loss='depth_along_ray'"
            )
        kept: list[Any] = []
        weight = self.gm_loss_weight
        self.gm_loss_weight, self._keep = 0.0, kept
        try:
            terms, details = super().compute_loss(batch, preds, **kw)
        finally:
            self.gm_loss_weight, self._keep = weight, None
        own = [weight * loss for loss in self._gradient_matching(batch, panorama, kept)]
        if isinstance(terms, torch.Tensor):
            terms = terms + sum(own)
        else:
            left = iter(own)
            terms = tuple((next(left), None, _TERM) if term[-1] == _TERM else term for term in terms)
        return terms, details | self._own_details(own)

    def _gradient_matching(
        self, batch: list[dict[str, Any]], panorama: list[torch.Tensor], info: list[Any]
    ) -> list[torch.Tensor]:
        """Return the loss of each view."""
        losses = []
        for view, truth, predicted, valid, ambiguous, around in zip(batch, *info, panorama):
            mask = valid | ambiguous if self.ambiguous_loss_value > 0 else valid
            if self.apply_normal_and_gm_loss_to_synthetic_data_only:
                mask = mask & view["is_synthetic"][:, None, None]
            closed = closes(view["ray_directions_cam"])
            prediction, target = (log_depth(side["pts3d_cam"], around) for side in (predicted, truth))
            losses.append(gradient_matching(prediction, target, mask, closed))
        return losses

    def _own_details(self, losses: list[torch.Tensor]) -> dict[str, float]:
        """Return what the host would have logged: positive losses by view, and their mean."""
        name = f"{type(self).__name__}_{_TERM}"
        values = {f"{name}_view{i + 1}": float(loss.detach()) for i, loss in enumerate(losses)}
        values = {key: value for key, value in values.items() if value > 0}
        return values | ({f"{name}_avg": sum(values.values()) / len(values)} if values else {})
