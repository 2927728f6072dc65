"""The criterion's loss of a step as one differentiable function of mask logits, class logits and scores.

Shape legend: as in `layout`.

The forward pass launches seven kernels and allocates nothing of the size of the logits: the slopes with respect to
the sums over points are known as soon as the loss is, so the backward pass is one more pass over the logits. Nothing
waits for the device. All sums run in a fixed order, so that results repeat bit by bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from influencer_mmdet3d.kernels import pairs, slopes
from influencer_mmdet3d.kernels.choose import on_device
from influencer_mmdet3d.kernels.layout import CHUNK, COUNT_CHUNK, Layout, Scene, lay_out
from influencer_mmdet3d.kernels.sums import ELEMENTS, find_segments, spread_slopes, sum_points


class Weights(NamedTuple):
    """The options that the loss depends on, named as in `influencer_mmdet3d.options.CriterionOptions`."""

    num_classes: int
    class_weight: float
    bce_weight: float
    dice_weight: float
    score_weight: float
    non_object_weight: float
    attr_weight: float
    rep_weight: float
    bg_weight: float
    rep_margin: float
    temperature: float
    soft_share: float
    iter_matcher: bool


def step_loss(scenes: Sequence[Scene], weights: Weights, checks: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss and the diagnostics.

    Parameters
    ----------
    scenes : sequence of Scene
        The batch, with classes and labels; the tensors of a head must be of one type.
    weights : Weights
        Options.
    checks : Tensor
        (B, L) int32 that the device can write to: per entry 1 for masks, 2 for classes, 4 for scores that are not
        finite and 8 for a label out of range, added up. Where it is not 0 anywhere, the loss is not a number.

    Returns
    -------
    loss : Tensor
        Scalar float32.
    diagnostics : Tensor
        (6,) float32, in the order of `influencer_mmdet3d.kernels.slopes.DIAGNOSTICS`, without gradient.
    """
    heads = [head for scene in scenes for head in (*scene.masks, *scene.classes, *scene.scores)]
    with on_device(heads[0].device):
        return _Step.apply(scenes, weights, checks, *heads)


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scenes: Sequence[Scene], weights: Weights, checks: Tensor, *heads: Tensor) -> Any:
        layout = lay_out(scenes)
        with torch.autocast(heads[0].device.type, enabled=False):
            segments, (d_sums, d_class, d_score), out = _run(layout, scenes, weights, checks)
        ctx.layout = layout
        ctx.heads = [
            (scene.masks[0].shape[0], scene.classes[0].dtype, scene.scores[0].dtype if scene.scores else None)
            for scene in scenes
        ]
        masks = [x for scene in scenes for x in scene.masks]
        ctx.save_for_backward(segments, *d_sums, d_class, d_score, *masks)
        loss, diagnostics = out[0], out[1:]
        ctx.mark_non_differentiable(diagnostics)
        return loss, diagnostics

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        segments, d_softplus, d_logit, d_prob, d_class, d_score, *logits = ctx.saved_tensors
        layout, layers, first = ctx.layout, ctx.layout.layers, 0
        masks = [torch.empty_like(x) for x in logits]
        d_class, d_score = d_class * d_loss, d_score * d_loss
        gradients: list[Tensor] = []
        for sample, (queries, class_type, score_type) in enumerate(ctx.heads):
            rows = slice(first, first + layers * queries)
            first = rows.stop
            gradients += masks[sample * layers : (sample + 1) * layers]
            gradients += d_class[rows].to(class_type).view(layers, queries, -1).unbind(0)
            if score_type is not None:
                gradients += d_score[rows].to(score_type).view(layers, queries, 1).unbind(0)
        spread_slopes(layout, segments, (d_softplus, d_logit, d_prob), d_loss.float().view(1), logits, masks)
        return None, None, None, *gradients


def _run(
    layout: Layout, scenes: Sequence[Scene], weights: Weights, checks: Tensor
) -> tuple[Tensor, tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor], Tensor]:
    """Launch the forward kernels; returns segments, slopes and the loss with its diagnostics."""
    w, columns, layers, batch = weights, layout.columns, layout.layers, layout.batch
    entries, device = batch * layers, layout.samples.device
    queries_block = max(16, min(64, 1024 // columns))  # at least 16, for matrix products
    blocks = max(-(-layout.queries // queries_block), 1)
    block = min(32, columns)

    def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=device)

    sizes, cheapest, norm = empty(batch, columns), empty(entries, columns), empty(entries, columns)
    own, bad = empty(entries, columns, dtype=torch.int32), empty(entries, blocks, 4, dtype=torch.int32)
    overlap, parts, covered = empty(entries, columns, columns), empty(entries, blocks, 8), empty(batch, blocks, columns)
    prob, cost = empty(layout.rows, columns), empty(layout.rows, columns)
    first = scenes[0]
    shared: dict[str, Any] = dict(COLUMNS=columns, BQ=queries_block, num_warps=4)
    classes: dict[str, Any] = dict(
        CLASSES=w.num_classes,
        WIDTH=max(16, 1 << w.num_classes.bit_length()),
        ELEMENT=ELEMENTS[first.classes[0].dtype],
    )
    scores = next((scene.scores[0].dtype for scene in scenes if scene.scores), torch.float32)

    segments, counts = find_segments(layout)
    partial = sum_points(layout, segments, first.masks[0].dtype)
    pairs.costs[(blocks, entries)](
        layout.samples, layout.entries, counts, *partial, sizes, prob, cost, bad, layers, blocks, w.bce_weight,
        w.dice_weight, w.class_weight, SCORE=ELEMENTS[scores], CHUNK=CHUNK, COUNT_CHUNK=COUNT_CHUNK, **classes,
        **shared,
    )  # fmt: skip
    del partial, counts  # their memory serves the slopes
    d_softplus, d_logit, d_prob = empty(layout.rows), empty(layout.rows, columns), empty(layout.rows, columns)
    d_class, d_score = empty(layout.rows, w.num_classes + 1), empty(layout.rows)
    pairs.assign[(entries,)](
        layout.samples, cost, own, cheapest, norm, layers, w.temperature, EVERY_LAYER=w.iter_matcher, COLUMNS=columns,
        BQ=max(8192 // columns, 16), num_warps=8,
    )  # fmt: skip
    tiles = columns // block
    pairs.overlaps[(tiles, tiles, entries)](
        layout.samples, cost, cheapest, norm, overlap, layers, w.temperature, COLUMNS=columns, BK=block, BQ=32,
        EVERY_LAYER=w.iter_matcher, num_warps=4,
    )  # fmt: skip
    slopes.slopes[(blocks, entries)](
        layout.samples, layout.entries, sizes, prob, cost, own, cheapest, norm, overlap, parts, covered, d_softplus,
        d_logit, d_prob, d_class, d_score, layers, batch, blocks, w.temperature, w.soft_share, 1 - w.rep_margin,
        w.class_weight, w.bce_weight, w.dice_weight, w.score_weight, w.attr_weight, w.rep_weight, w.bg_weight,
        w.non_object_weight, SCORE_ELEMENT=ELEMENTS[scores], BK=block, BATCH_WIDTH=_power_of_two(batch),
        EVERY_LAYER=w.iter_matcher, **classes, **shared,
    )  # fmt: skip
    out = empty(1 + len(slopes.DIAGNOSTICS))
    slopes.finish[(1,)](
        layout.samples, sizes, own, cheapest, parts, covered, bad, out, checks, layers, batch, blocks, w.soft_share,
        w.class_weight, w.score_weight, w.attr_weight, w.rep_weight, w.bg_weight, ENTRY_WIDTH=_power_of_two(entries),
        EVERY_LAYER=w.iter_matcher, **shared,
    )  # fmt: skip
    return segments, ((d_softplus, d_logit, d_prob), d_class, d_score), out


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
