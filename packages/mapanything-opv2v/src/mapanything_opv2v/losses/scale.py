"""The metric size of a predicted scene."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def scene_size(points: Sequence[torch.Tensor], masks: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean distance of a scene's points from view 0, and whether there is one.

    Parameters
    ----------
    points
        Per view (B, H, W, 3) in view 0's frame.
    masks
        Per view (B, H, W) bool: the pixels that count.

    Returns
    -------
    size : (B,)
        In the points' unit; 1 where no pixel counts.
    known : (B,) bool
    """
    kept = torch.cat([mask.flatten(1) for mask in masks], dim=1)
    distance = torch.cat([torch.linalg.vector_norm(item, dim=-1).flatten(1) for item in points], dim=1)
    total = torch.where(kept, distance, torch.zeros_like(distance)).sum(dim=1)
    known = total > 0
    return torch.where(known, total / kept.sum(dim=1).clamp(min=1), torch.ones_like(total)), known
