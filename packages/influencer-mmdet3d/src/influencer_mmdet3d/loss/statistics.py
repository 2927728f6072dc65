"""Sums over points from which every mask term of the criterion follows.

Shape legend: L layers, Q queries, N points (voxels or superpoints), K instances.

With `segments[n]` the instance of point n (K where none), the binary cross-entropy and Dice loss of every
(query, instance) pair need only three sums over points. One pass over the logits makes them, one pass makes the
gradient, and nothing of size Q x N is kept between the two.
"""

from __future__ import annotations

import contextlib
import math
import mmap
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Columns of a matrix product are padded to whole vectors, which halves its time on a CPU.
_BLAS_WIDTH = 16
_HALVINGS = 4
_GROUP = 16
# Elements per block of rows: temporaries stay in a CPU's cache, and small beside the logits on a GPU.
_BLOCK_CPU = 1 << 18
_BLOCK_GPU = 1 << 24
_HUGE = 1 << 21  # bytes of a huge page on x86-64 and, with pages of 4 KiB, on Arm


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
    size = segments.new_zeros(columns).scatter_add_(0, segments, torch.ones_like(segments))
    softplus, logit, prob = _Sums.apply(_group(segments, size), segments, count + 1, *logits)
    return MaskStatistics(softplus, logit, prob, size[: count + 1].float())


class _Groups(NamedTuple):
    """An order of the points in which sums over segments are cheap on a CPU.

    First come groups of _GROUP points of one segment, point i of all groups before point i + 1 of any: adding a
    group up takes whole vectors, and leaves a matrix product a _GROUP-th of its work. The other points follow.
    """

    order: Tensor | None  # (N,) int64; None for the order that they have
    number: int
    onehot: Tensor  # (groups, then the other points; columns) float32, 1 at the segment


def _group(segments: Tensor, size: Tensor) -> _Groups:
    """Group the points of each segment; on a GPU, whose products are fast and whose gathers are not, none."""
    columns = len(size)
    if segments.device.type != "cpu":
        return _Groups(None, 0, torch.nn.functional.one_hot(segments, columns).float())
    order = segments.argsort(stable=True)
    of = segments[order]
    rank = torch.arange(len(order)) - (size.cumsum(0) - size)[of]
    grouped = rank < (size // _GROUP * _GROUP)[of]
    points, rest = order[grouped].view(-1, _GROUP), order[~grouped]
    onehot = torch.nn.functional.one_hot(segments[torch.cat([points[:, 0], rest])], columns).float()
    return _Groups(torch.cat([points.t().flatten(), rest]), len(points), onehot)


def _block_rows(x: Tensor) -> int:
    """Return how many rows of x (Q, N) make a block, when equal blocks hold about a fixed number of elements."""
    size = _BLOCK_CPU * torch.get_num_threads() if x.device.type == "cpu" else _BLOCK_GPU
    return -(-len(x) // max(1, round(x.numel() / size)))


def blocks(x: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield x (Q, N), and other tensors with a row for each of its rows, block by block."""
    return zip(*(value.split(max(_block_rows(x), 1)) for value in (x, *others)))


class _Sums(torch.autograd.Function):
    """The sums of `MaskStatistics`; the backward pass reads the logits again instead of keeping sigmoids."""

    @staticmethod
    def forward(
        ctx: Any, groups: _Groups, segments: Tensor, columns: int, *logits: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(segments, *logits)
        layers, queries = len(logits), logits[0].shape[0]
        softplus = groups.onehot.new_empty(layers, queries)
        logit = groups.onehot.new_empty(layers, queries, groups.onehot.shape[1])
        prob = torch.empty_like(logit)
        first, second = _scratch(logits[0])
        with torch.autocast(segments.device.type, enabled=False):
            for layer, heads in enumerate(logits):
                for head, *sums in blocks(heads, logit[layer], prob[layer], softplus[layer]):
                    x, p = head.float(), first[: len(head)]
                    positive = torch.clamp_min(x, 0, out=second[: len(head)]).sum(-1)
                    if groups.order is not None:
                        x = torch.index_select(x, 1, groups.order, out=second[: len(head)])
                    torch.sigmoid(x, out=p)  # log(1 + exp(x)) = max(x, 0) - log(max(p, 1 - p))
                    _sum_segments(x, groups, sums[0])
                    _sum_segments(p, groups, sums[1])
                    torch.sub(positive, _log_larger(p), out=sums[2])
        return softplus, logit[..., :columns], prob[..., :columns]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_softplus: Tensor, d_logit: Tensor, d_prob: Tensor) -> tuple[Tensor | None, ...]:
        segments, *logits = ctx.saved_tensors
        grads = [empty_large_like(x) for x in logits]
        first, second = _scratch(logits[0])
        with torch.autocast(segments.device.type, enabled=False):
            for layer in zip(logits, grads, d_softplus.unsqueeze(-1), d_logit, d_prob):
                for x, grad, by_softplus, by_logit, by_prob in blocks(*layer):
                    p, slope = first[: len(x)], second[: len(x)]
                    torch.sigmoid(x.float(), out=p)
                    # d/dx = (by_softplus + by_prob (1 - p)) p + by_logit, the latter two those of x's segment
                    torch.index_select(by_prob, 1, segments, out=slope)
                    slope.addcmul_(slope, p, value=-1).add_(by_softplus).mul_(p)
                    torch.index_select(by_logit, 1, segments, out=p)
                    torch.add(slope, p, out=grad)
        return None, None, None, *grads


def _scratch(x: Tensor) -> Tensor:
    """Return two float32 buffers (2, rows of a block, N): new memory for each block costs more than what it is for."""
    return x.new_empty(2, _block_rows(x), x.shape[1], dtype=torch.float32)


def _sum_segments(x: Tensor, groups: _Groups, out: Tensor) -> None:
    """Write the sums of x (Q, N), its columns ordered as `groups` says, over segments."""
    end = groups.number * _GROUP
    torch.mm(x[:, end:], groups.onehot[groups.number :], out=out)
    if groups.number:
        out.addmm_(x[:, :end].view(len(x), _GROUP, -1).sum(1), groups.onehot[: groups.number])


def _log_larger(p: Tensor) -> Tensor:
    """Return the sum over the last axis of log(max(p, 1 - p)); p is overwritten."""
    # one logarithm serves a product of 16 numbers in [0.5, 1]
    product = p.sub_(0.5).abs_().add_(0.5)
    for _ in range(_HALVINGS):
        half = product.shape[1] // 2
        product[:, :half].mul_(product[:, product.shape[1] - half :])
        product = product[:, : product.shape[1] - half]
    return product.log_().sum(-1)


def empty_large_like(x: Tensor) -> Tensor:
    """Return an uninitialised contiguous tensor of x's shape, type and device; on a CPU with Linux, of huge pages.

    The C library gives large blocks back to the kernel as soon as they are free, so that a gradient written in every
    step costs a page fault for every 4 KiB: more time than computing it. Transparent huge pages, where the kernel
    offers them, make that one for every 2 MiB.
    """
    size = x.numel() * x.element_size()
    if x.device.type != "cpu" or size < _HUGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(x.shape, dtype=x.dtype, device=x.device)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=x.dtype, count=math.prod(x.shape)).view(x.shape)
