"""The criterion's loss of a step as one differentiable function of mask logits, class logits and scores.

Shape legend: as in `layout`.

The forward pass launches seven kernels and allocates nothing of the size of the logits: the slopes with respect to
the sums over points are known as soon as the loss is, so the backward pass is one more pass over the logits. Nothing
waits for the device. All sums run in a fixed order, so that results repeat bit by bit.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from influencer_mmdet3d.loss.kernels import pairs, slopes
from influencer_mmdet3d.loss.kernels.choose import on_device
from influencer_mmdet3d.loss.kernels.launcher import Variant
from influencer_mmdet3d.loss.kernels.layout import CHUNK, COUNT_CHUNK, Layout, carve, lay_out, rounded
from influencer_mmdet3d.loss.kernels.sums import ELEMENTS, find_segments, spread_slopes, sum_points
from influencer_mmdet3d.loss.sample import Sample


class Weights(NamedTuple):
    """The options that the loss depends on, named as in `influencer_mmdet3d.loss.options.SetLossOptions`."""

    num_classes: int
    class_weight: float
    bce_weight: float
    dice_weight: float
    score_weight: float
    class_price: float
    non_object_weight: float
    score_others: float
    attr_weight: float
    rep_weight: float
    bg_weight: float
    rep_margin: float
    temperature: float
    soft_share: float
    iter_matcher: bool
    log_odds: bool = False


def step_loss(batch: Sequence[Sample], weights: Weights, checks: Tensor, groups: int = 1) -> tuple[Tensor, Tensor]:
    """Return the loss and the diagnostics.

    Parameters
    ----------
    batch : sequence of Sample
        Contiguous tensors, with classes and labels; the tensors of a head must be of one type.
    weights : Weights
        Options.
    checks : Tensor
        (B G, L) int32 that the device can write to: per entry 1 for masks, 2 for classes, 4 for scores that are not
        finite and 8 for a label out of range, added up. Where it is not 0 anywhere, the loss is not a number.
    groups : int
        G, query sets in the rows of every sample; each is a sample of its own for the loss, without a copy.

    Returns
    -------
    loss : Tensor
        Scalar float32.
    diagnostics : Tensor
        (6,) float32, in the order of `influencer_mmdet3d.loss.kernels.slopes.DIAGNOSTICS`, without gradient.
    """
    heads = [
        *(x for sample in batch for x in sample.masks),
        *(x for sample in batch for x in sample.classes),
        *(x for sample in batch for x in sample.scores),
    ]
    with on_device(heads[0].device):
        return _Step.apply(batch, weights, checks, groups, *heads)


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, batch: Sequence[Sample], weights: Weights, checks: Tensor, groups: int, *heads: Tensor
    ) -> Any:
        parts = [part for sample in batch for part in sample.split(groups)]
        layout = lay_out(parts)
        segments, slopes, out = _run(layout, parts, weights, checks)
        ctx.layout, ctx.groups = layout, groups
        ctx.queries = [sample.masks[0].shape[0] for sample in batch for _ in sample.masks]
        ctx.scored = [bool(sample.scores) for sample in batch for _ in sample.masks]
        ctx.width = weights.num_classes + 1
        ctx.types = batch[0].classes[0].dtype, heads[-1].dtype  # the latter of use where there are scores
        ctx.save_for_backward(segments, *slopes, *heads[: len(batch) * layout.layers])
        diagnostics = out[1:]
        ctx.mark_non_differentiable(diagnostics)
        return out[0], diagnostics

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        segments, d_softplus, d_logit, d_prob, d_heads, *logits = ctx.saved_tensors
        # first, since it is the longest: the rest is issued while it runs
        found = d_softplus, d_logit, d_prob
        masks = spread_slopes(ctx.layout, segments, found, d_loss.float().view(1), logits, ctx.groups)
        class_type, score_type = ctx.types
        rows, width = ctx.layout.rows, ctx.width
        every = _scaled(d_heads, d_loss, class_type)
        classes = _by_tensor(every[: rows * width].view(rows, width), ctx.queries, ctx.layout.layers, ctx.groups)
        scores: Sequence[Tensor] = ()
        if any(ctx.scored):
            begin = rounded(rows * width)
            own = every[begin:] if score_type == class_type else _scaled(d_heads[begin:], d_loss, score_type)
            scores = _by_tensor(own[:rows].view(rows, 1), ctx.queries, ctx.layout.layers, ctx.groups)
            if not all(ctx.scored):
                scores = [x for x, scored in zip(scores, ctx.scored) if scored]
        return None, None, None, None, *masks, *classes, *scores


def _by_tensor(rows: Tensor, queries: list[int], layers: int, groups: int) -> Sequence[Tensor]:
    """Cut rows (R, columns), by sample, group, layer and query, into the tensors (G Q, columns) that came in."""
    if groups == 1:
        return rows.split_with_sizes(queries)
    samples = rows.split_with_sizes([layers * count for count in queries[::layers]])
    ordered = [x.unflatten(0, (groups, layers, -1)).transpose(0, 1).flatten(1, 2) for x in samples]
    return [x for sample in ordered for x in sample.unbind()]


def _scaled(slopes: Tensor, factor: Tensor, dtype: torch.dtype) -> Tensor:
    """Multiply and round in one pass."""
    return torch.mul(slopes, factor, out=torch.empty(slopes.shape, dtype=dtype, device=slopes.device))


_ENTRIES_BLOCK = 32  # layers and samples that the last kernel reads together


class _Variants(NamedTuple):
    """The kernels between the two passes over the logits, and the sizes that their grids follow from."""

    costs: Variant
    assign: Variant
    overlaps: Variant
    slopes: Variant
    finish: Variant
    queries_block: int
    instances_block: int


@functools.cache
def _variants(
    num_classes: int, log_odds: bool, element: torch.dtype, score: torch.dtype, columns: int, every_layer: bool,
    batch: int, layers: int,
) -> _Variants:  # fmt: skip
    queries_block = max(16, min(64, 1024 // columns))  # at least 16, for matrix products
    block = min(32, columns)
    classes: dict[str, Any] = dict(CLASSES=num_classes, WIDTH=max(16, 1 << num_classes.bit_length()), LOG_ODDS=log_odds)
    every: dict[str, Any] = dict(EVERY_LAYER=every_layer)
    head, types = ELEMENTS[score], dict(ELEMENT=ELEMENTS[element])
    return _Variants(
        Variant(
            pairs.costs,
            dict(**classes, **types, SCORE=head, COLUMNS=columns, BQ=queries_block, CHUNK=CHUNK,
                 COUNT_CHUNK=COUNT_CHUNK), num_warps=4,
        ),
        Variant(pairs.assign, dict(COLUMNS=columns, BQ=max(8192 // columns, 16), **every), num_warps=8),
        Variant(pairs.overlaps, dict(COLUMNS=columns, BK=block, BQ=32, **every), num_warps=4),
        Variant(
            slopes.slopes,
            dict(**classes, **types, SCORE_ELEMENT=head, COLUMNS=columns, BK=block, BQ=queries_block,
                 BATCH_WIDTH=_power_of_two(batch), **every), num_warps=4,
        ),
        Variant(
            slopes.finish,
            dict(COLUMNS=columns, BE=_ENTRIES_BLOCK, BQ=queries_block, **every), num_warps=4,
        ),
        queries_block,
        block,
    )  # fmt: skip


def _run(
    layout: Layout, batch: Sequence[Sample], weights: Weights, checks: Tensor
) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
    """Launch the forward kernels; returns segments, slopes and the loss with its diagnostics.

    Slopes are those of the sums over points and, in one array, those of class logits and scores, which follow at the
    next multiple that `rounded` gives.
    """
    w, columns, layers, count = weights, layout.columns, layout.layers, layout.batch
    samples, table, rows, device = layout.samples, layout.entries, layout.rows, layout.samples.device
    score = next((sample.scores[0].dtype for sample in batch if sample.scores), torch.float32)
    kernels = _variants(
        w.num_classes, w.log_odds, batch[0].classes[0].dtype, score, columns, w.iter_matcher, count, layers
    )
    entries, block = count * layers, kernels.instances_block
    blocks = max(-(-layout.queries // kernels.queries_block), 1)

    segments, counts = find_segments(layout)
    partial = sum_points(layout, segments, batch[0].masks[0].dtype)
    pairs_size = entries * columns
    sizes, cheapest, norm, overlap, parts, covered, prob, cost, own, bad = carve(
        device, count * columns, pairs_size, pairs_size, pairs_size * columns, entries * blocks * 8,
        count * blocks * columns, rows * columns, rows * columns, pairs_size, entries * blocks * 4,
    )  # fmt: skip
    own, bad = own.view(torch.int32), bad.view(torch.int32)
    kernels.costs.launch(
        (blocks, entries), (samples, table, counts, *partial, sizes, prob, cost, bad),
        (layers, blocks, w.bce_weight, w.dice_weight, w.class_price),
    )  # fmt: skip
    del partial, counts  # their memory serves the slopes
    kernels.assign.launch((entries,), (samples, cost, own, cheapest, norm), (layers, w.temperature))
    kernels.overlaps.launch(
        (columns // block, columns // block, entries), (samples, cost, cheapest, norm, overlap), (layers, w.temperature)
    )
    d_classes = rounded(rows * (w.num_classes + 1))
    *found, d_heads = carve(device, rows, rows * columns, rows * columns, d_classes + rows)
    by_others = w.score_weight * w.score_others
    kernels.slopes.launch(
        (blocks, entries),
        (samples, table, sizes, prob, cost, own, cheapest, norm, overlap, parts, covered, *found,
         d_heads, d_heads[d_classes:]),
        (layers, count, blocks, w.temperature, w.soft_share, 1 - w.rep_margin, w.class_weight, w.bce_weight,
         w.dice_weight, w.score_weight, w.attr_weight, w.rep_weight, w.bg_weight, w.class_price, w.non_object_weight,
         by_others),
    )  # fmt: skip
    out = torch.empty(1 + len(slopes.DIAGNOSTICS), device=device)
    kernels.finish.launch(
        (1,), (samples, sizes, own, cheapest, parts, covered, bad, out, checks),
        (layers, count, blocks, w.soft_share, w.class_weight, w.score_weight, w.attr_weight, w.rep_weight, w.bg_weight,
         by_others),
    )  # fmt: skip
    return segments, (*found, d_heads), out


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
