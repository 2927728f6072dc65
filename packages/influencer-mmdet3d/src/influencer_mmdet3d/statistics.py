"""Sums over points from which every mask term of the criterion follows.

Shape legend: L layers, Q queries, N points (voxels or superpoints), K instances.

With `segments[n]` the instance of point n (K where none), the binary cross-entropy and Dice loss of every
(query, instance) pair need only three sums over points. One pass over the logits makes them, one pass makes the
gradient, and nothing of size Q x N is kept between the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Elements per block of rows: temporaries stay in a CPU's cache, and small beside the logits on a GPU.
_BLOCK_CPU = 1 << 18
_BLOCK_GPU = 1 << 24


class MaskStatistics(NamedTuple):
    """Sums over points of mask logits x, per query and segment; the last segment is "no instance".

    Attributes
    ----------
    softplus : Tensor
        (L, Q) float32, sum over all points of log(1 + exp(x)).
    logit : Tensor
        (L, Q, K + 1) float32, sum of x over each segment.
    prob : Tensor
        (L, Q, K + 1) float32, sum of sigmoid(x) over each segment.
    size : Tensor
        (K + 1,) float32, points in each segment.
    """

    softplus: Tensor
    logit: Tensor
    prob: Tensor
    size: Tensor


def segments_from_masks(masks: Tensor) -> Tensor:
    """Return the instance of each point.

    Parameters
    ----------
    masks : Tensor
        (K, N) bool, each point in at most one row.

    Returns
    -------
    Tensor
        (N,) int64 in [0, K]; K means that no instance holds the point.
    """
    count = masks.shape[0]
    if count == 0:
        return torch.zeros(masks.shape[1], dtype=torch.long, device=masks.device)
    held, index = masks.to(torch.uint8).max(dim=0)
    return torch.where(held.bool(), index, torch.full_like(index, count))


def mask_statistics(logits: Sequence[Tensor], segments: Tensor, count: int) -> MaskStatistics:
    """Sum mask logits over points, for all layers of one sample.

    Parameters
    ----------
    logits : sequence of Tensor
        L tensors (Q, N), float32, float16 or bfloat16; sums are made in float32.
    segments : Tensor
        (N,) int64 in [0, count], see `segments_from_masks`.
    count : int
        K, the number of instances.

    Returns
    -------
    MaskStatistics
        Differentiable with respect to the logits.
    """
    onehot = torch.nn.functional.one_hot(segments, count + 1).float()  # (N, K + 1)
    softplus, logit, prob = _Sums.apply(onehot, *logits)
    return MaskStatistics(softplus, logit, prob, onehot.sum(0))


def blocks(rows: int, columns: int, device: torch.device) -> list[slice]:
    """Cut rows into blocks of a bounded number of elements."""
    size = _BLOCK_CPU if device.type == "cpu" else _BLOCK_GPU
    step = max(1, size // max(columns, 1))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


class _Sums(torch.autograd.Function):
    """The sums of `MaskStatistics`; the backward pass reads the logits again instead of keeping sigmoids."""

    @staticmethod
    def forward(ctx: Any, onehot: Tensor, *logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(onehot, *logits)
        layers, queries, segments = len(logits), logits[0].shape[0], onehot.shape[1]
        softplus = onehot.new_empty(layers, queries)
        logit = onehot.new_empty(layers, queries, segments)
        prob = onehot.new_empty(layers, queries, segments)
        with torch.autocast(onehot.device.type, enabled=False):
            for layer, x in enumerate(logits):
                for rows in blocks(queries, onehot.shape[0], x.device):
                    block = x[rows].float()
                    p = block.sigmoid()
                    torch.mm(block, onehot, out=logit[layer, rows])
                    torch.mm(p, onehot, out=prob[layer, rows])
                    softplus[layer, rows] = _sum_softplus(block, p)
        return softplus, logit, prob

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_softplus: Tensor, d_logit: Tensor, d_prob: Tensor) -> tuple[Tensor | None, ...]:
        onehot, *logits = ctx.saved_tensors
        grads = []
        with torch.autocast(onehot.device.type, enabled=False):
            for layer, x in enumerate(logits):
                grad = torch.empty_like(x)
                for rows in blocks(x.shape[0], x.shape[1], x.device):
                    p = x[rows].float().sigmoid()
                    # d/dx = d_softplus p + d_logit + d_prob p (1 - p)
                    slope = torch.mm(d_prob[layer, rows], onehot.t())
                    slope.addcmul_(slope, p, value=-1).add_(d_softplus[layer, rows, None]).mul_(p)
                    grad[rows] = slope.addmm_(d_logit[layer, rows], onehot.t())
                grads.append(grad)
        return None, *grads


def _sum_softplus(x: Tensor, p: Tensor) -> Tensor:
    """Return sum over the last axis of log(1 + exp(x)), given p = sigmoid(x)."""
    # log(1 + exp(x)) = max(x, 0) - log(max(p, 1 - p))
    return x.clamp_min(0).sum(-1) - torch.maximum(p, 1 - p).log_().sum(-1)
