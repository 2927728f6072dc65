"""Shares of masks, and the weight that makes both classes of a mask count the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class MaskShares:
    """Means over all pixels of a batch, each in [0, 1].

    Attributes
    ----------
    predicted
        Mean predicted probability. A calibrated prediction has the mean of the truth, so the two compare directly.
    true
        Share of pixels that are true.
    valid
        Share of pixels that have a depth.
    """

    predicted: float
    true: float
    valid: float


def mask_shares(
    logits: Sequence[torch.Tensor], masks: Sequence[torch.Tensor], valid_masks: Sequence[torch.Tensor]
) -> MaskShares:
    """Return the means over all views and pixels; every item is (B, H, W)."""
    predicted = torch.cat([torch.sigmoid(item.detach().float()).flatten() for item in logits]).mean()
    true = torch.cat([item.flatten() for item in masks]).float().mean()
    valid = torch.cat([item.flatten() for item in valid_masks]).float().mean()
    return MaskShares(*torch.stack([predicted, true, valid]).tolist())


def balanced_pos_weight(masks: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return (false pixels) / (true pixels) of a batch, the weight of a true pixel beside 1 for a false one.

    Both classes then have the same weight in the sum. Where one of them is missing there is nothing to balance and
    the weight is 1: a weight of 0 would switch the loss off.

    Parameters
    ----------
    masks
        Per view (B, H, W) bool.

    Returns
    -------
    () float32
    """
    true = torch.stack([mask.sum() for mask in masks]).sum().float()
    false = sum(mask.numel() for mask in masks) - true
    return torch.where((true > 0) & (false > 0), false / true.clamp(min=1), torch.ones_like(true))
