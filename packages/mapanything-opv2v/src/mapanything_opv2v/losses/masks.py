"""What is known of a mask, its loss and shares there, and the weight that makes both classes count the same.

A pixel is known where it has a depth, or is known to be sky or uncovered. With depth from LiDAR most pixels are
neither: they may be sky or surface, and must not count as either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class MaskShares:
    """Means over a batch, each in [0, 1].

    Attributes
    ----------
    predicted
        Mean predicted probability of the known pixels. A calibrated prediction has the mean of the truth, so the two
        compare directly.
    true
        Share of the known pixels that are true; 0 where nothing is known.
    valid
        Share of all pixels that have a depth.
    known
        Share of all pixels of which the mask is known.
    """

    predicted: float
    true: float
    valid: float
    known: float


def known_pixels(mask: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Return where a true mask is known: pixels with a depth, and those said to show no surface.

    Parameters
    ----------
    mask, valid
        (B, H, W) bool: `non_ambiguous_mask` (True where nothing says otherwise) and `valid_mask`.
    """
    return valid | ~mask


def mask_shares(
    logits: Sequence[torch.Tensor], masks: Sequence[torch.Tensor], valid_masks: Sequence[torch.Tensor]
) -> MaskShares:
    """Return the means over all views and pixels; every item is (B, H, W)."""
    known = torch.cat([known_pixels(mask, valid).flatten() for mask, valid in zip(masks, valid_masks)])
    number = known.sum().clamp(min=1)
    predicted = (torch.cat([torch.sigmoid(item.detach().float()).flatten() for item in logits]) * known).sum() / number
    true = (torch.cat([item.flatten() for item in masks]) & known).sum() / number
    valid = torch.cat([item.flatten() for item in valid_masks]).float().mean()
    return MaskShares(*torch.stack([predicted, true, valid, known.float().mean()]).tolist())


def mask_loss(logits: torch.Tensor, mask: torch.Tensor, known: torch.Tensor, pos_weight: torch.Tensor) -> torch.Tensor:
    """Return the mean over the known pixels of ``-w y log p - (1 - y) log(1 - p)``; 0 where nothing is known."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, mask.to(logits.dtype), pos_weight=pos_weight, reduction="none"
    )
    return torch.where(known, each, torch.zeros_like(each)).sum() / known.sum().clamp(min=1)


def balanced_pos_weight(masks: Sequence[torch.Tensor], known: Sequence[torch.Tensor] | None = None) -> torch.Tensor:
    """Return (false pixels) / (true pixels) of a batch, the weight of a true pixel beside 1 for a false one.

    Both classes then have the same weight in the sum. Where one of them is missing there is nothing to balance and
    the weight is 1: a weight of 0 would switch the loss off.

    Parameters
    ----------
    masks
        Per view (B, H, W) bool.
    known
        Per view (B, H, W) bool, the pixels to count; all if not given.

    Returns
    -------
    () float32
    """
    counted = [torch.ones_like(mask) for mask in masks] if known is None else known
    true = torch.stack([(mask & count).sum() for mask, count in zip(masks, counted)]).sum().float()
    false = torch.stack([count.sum() for count in counted]).sum() - true
    return torch.where((true > 0) & (false > 0), false / true.clamp(min=1), torch.ones_like(true))
