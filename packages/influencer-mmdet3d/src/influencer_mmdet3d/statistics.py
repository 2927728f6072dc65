"""Sums over points from which every mask term of the criterion follows.

Shape legend: L layers, Q queries, N points (voxels or superpoints), K instances.

With `segments[n]` the instance of point n (K where none), the binary cross-entropy and Dice loss of every
(query, instance) pair need only three sums over points. One pass over the logits makes them, one pass makes the
gradient, and nothing of size Q x N is kept between the two.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Columns of a matrix product are padded to whole vectors, which halves its time on a CPU.
_BLAS_WIDTH = 16
_PRODUCT = 16
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
    columns = -(-(count + 1) // _BLAS_WIDTH) * _BLAS_WIDTH
    onehot = torch.nn.functional.one_hot(segments, columns).float()  # (N, columns)
    softplus, logit, prob = _Sums.apply(onehot, segments, count + 1, *logits)
    return MaskStatistics(softplus, logit, prob, onehot[:, : count + 1].sum(0))


def blocks(rows: int, columns: int, device: torch.device) -> list[slice]:
    """Cut rows into blocks of a bounded number of elements."""
    size = _BLOCK_CPU if device.type == "cpu" else _BLOCK_GPU
    step = max(1, size // max(columns, 1))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


class _Sums(torch.autograd.Function):
    """The sums of `MaskStatistics`; the backward pass reads the logits again instead of keeping sigmoids."""

    @staticmethod
    def forward(
        ctx: Any, onehot: Tensor, segments: Tensor, columns: int, *logits: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(segments, *logits)
        layers, queries = len(logits), logits[0].shape[0]
        softplus = onehot.new_empty(layers, queries)
        logit = onehot.new_empty(layers, queries, onehot.shape[1])
        prob = torch.empty_like(logit)
        cut = blocks(queries, onehot.shape[0], onehot.device)
        scratch = _scratch(cut, logits[0])
        with torch.autocast(onehot.device.type, enabled=False):
            for (layer, x), rows in itertools.product(enumerate(logits), cut):
                block = x[rows].float()
                p, positive = scratch[:, : block.shape[0]]
                torch.sigmoid(block, out=p)
                torch.mm(block, onehot, out=logit[layer, rows])
                torch.mm(p, onehot, out=prob[layer, rows])
                softplus[layer, rows] = _sum_softplus(p, torch.clamp_min(block, 0, out=positive))
        return softplus, logit[..., :columns], prob[..., :columns]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_softplus: Tensor, d_logit: Tensor, d_prob: Tensor) -> tuple[Tensor | None, ...]:
        segments, *logits = ctx.saved_tensors
        grads = [torch.empty_like(x) for x in logits]
        cut = blocks(logits[0].shape[0], logits[0].shape[1], segments.device)
        scratch = _scratch(cut, logits[0])
        with torch.autocast(segments.device.type, enabled=False):
            for (layer, x), rows in itertools.product(enumerate(logits), cut):
                p, slope = scratch[:, : x[rows].shape[0]]
                torch.sigmoid(x[rows].float(), out=p)
                # d/dx = (d_softplus + d_prob (1 - p)) p + d_logit, with d_prob and d_logit those of x's segment
                torch.index_select(d_prob[layer, rows], 1, segments, out=slope)
                slope.addcmul_(slope, p, value=-1).add_(d_softplus[layer, rows, None]).mul_(p)
                torch.index_select(d_logit[layer, rows], 1, segments, out=p)
                torch.add(slope, p, out=grads[layer][rows])
        return None, None, None, *grads


def _scratch(cut: Sequence[slice], x: Tensor) -> Tensor:
    """Return two float32 buffers (2, rows of a block, N): new memory for each block costs more than what it is for."""
    rows = max((rows.stop - rows.start for rows in cut), default=0)
    return x.new_empty(2, rows, x.shape[1], dtype=torch.float32)


def _sum_softplus(p: Tensor, positive: Tensor) -> Tensor:
    """Return sum over the last axis of log(1 + exp(x)), given p = sigmoid(x) and max(x, 0); p is overwritten."""
    # log(1 + exp(x)) = max(x, 0) - log(max(p, 1 - p)), and one logarithm serves a product of 16 numbers in [0.5, 1]
    larger = p.sub_(0.5).abs_().add_(0.5)
    whole = p.shape[1] // _PRODUCT * _PRODUCT
    product = larger[:, :whole].view(p.shape[0], _PRODUCT, -1).prod(1) if whole else larger[:, :0]
    return positive.sum(-1) - product.log_().sum(-1) - larger[:, whole:].log().sum(-1)
