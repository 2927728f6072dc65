"""The demo's point of comparison: the same losses under bipartite matching (DETR, Carion et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from scipy.optimize import linear_sum_assignment
from torch import Tensor


@MODELS.register_module()
class DemoHungarianCriterion:
    """Matches every instance with one query by a linear assignment in every layer.

    Parameters
    ----------
    num_classes : int
        C.
    loss_weight : sequence of float
        Weights of class, mask BCE, mask Dice and score; the first three are also those of the matching cost.
    non_object_weight : float
        Class weight of "no object" in the cross-entropy.
    """

    def __init__(
        self, num_classes: int, loss_weight: Sequence[float] = (0.5, 1.0, 1.0, 0.5), non_object_weight: float = 0.05
    ) -> None:
        if len(loss_weight) != 4:
            raise ValueError(f"loss_weight must hold 4 numbers [class, BCE, Dice, score], got {list(loss_weight)}")
        self.num_classes, self.loss_weight, self.non_object_weight = num_classes, tuple(loss_weight), non_object_weight

    def __call__(self, pred: Mapping[str, Any], insts: Sequence[Any]) -> dict[str, Tensor]:
        """Return ``inst_loss``: the mean over samples, summed over layers, of the four weighted losses.

        Parameters
        ----------
        pred : mapping
            The host's `pred`: lists of ``cls_preds`` (Q, C + 1), ``masks`` (Q, N), ``scores`` (Q, 1), and
            ``aux_outputs``.
        insts : sequence
            Objects with ``sp_masks`` (K, N) bool and ``labels_3d`` (K,).
        """
        losses = [
            self._sample(layer["cls_preds"][i].float(), layer["masks"][i].float(), layer["scores"][i].float(), inst)
            for layer in (*pred["aux_outputs"], pred)
            for i, inst in enumerate(insts)
        ]
        return {"inst_loss": torch.stack(losses).sum() / len(insts)}

    def _sample(self, classes: Tensor, masks: Tensor, scores: Tensor, inst: Any) -> Tensor:
        wanted, labels = inst.sp_masks.float(), inst.labels_3d
        query, instance = self._match(classes, masks, wanted, labels)
        target = torch.full_like(classes[:, 0], self.num_classes, dtype=torch.long)
        target[query] = labels[instance]
        weight = classes.new_ones(self.num_classes + 1)
        weight[-1] = self.non_object_weight
        by_class, by_bce, by_dice, by_score = self.loss_weight
        loss = by_class * F.cross_entropy(classes, target, weight)
        if not len(query):
            return loss + 0.0 * (masks.sum() + scores.sum())
        own, true = masks[query], wanted[instance]
        probability = own.sigmoid()
        both = (probability * true).sum(1)
        total = probability.sum(1) + true.sum(1)
        iou = (both / (total - both).clamp_min(1e-6)).detach()
        bce = F.binary_cross_entropy_with_logits(own, true)
        dice = (1 - (2 * both + 1) / (total + 1)).mean()
        score = (scores[query, 0] - iou).square().mean()
        return loss + by_bce * bce + by_dice * dice + by_score * score

    @torch.no_grad()
    def _match(self, classes: Tensor, masks: Tensor, wanted: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return matched queries and instances by the cheapest assignment on the cost (Q, K)."""
        by_class, by_bce, by_dice, _ = self.loss_weight
        probability = masks.sigmoid()
        bce = (F.softplus(masks).sum(1, keepdim=True) - masks @ wanted.T) / masks.shape[1]
        total = probability.sum(1, keepdim=True) + wanted.sum(1)
        dice = 1 - (2 * probability @ wanted.T + 1) / (total + 1)
        cost = by_bce * bce + by_dice * dice - by_class * classes.softmax(-1)[:, labels]
        rows, columns = linear_sum_assignment(cost.cpu().numpy())
        return labels.new_tensor(rows), labels.new_tensor(columns)
