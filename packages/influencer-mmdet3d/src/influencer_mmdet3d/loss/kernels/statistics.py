"""`influencer_mmdet3d.loss.statistics.mask_statistics` by the fused kernels, for one scene.

Shape legend: L layers, Q queries, N points, K instances.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from influencer_mmdet3d.loss.kernels.choose import on_device
from influencer_mmdet3d.loss.kernels.layout import lay_out
from influencer_mmdet3d.loss.kernels.sums import find_segments, spread_slopes, sum_points
from influencer_mmdet3d.loss.sample import Sample
from influencer_mmdet3d.loss.statistics import MaskStatistics


def fused_statistics(logits: Sequence[Tensor], masks: Tensor) -> MaskStatistics:
    """Sum mask logits over points, for all layers of one scene.

    Parameters
    ----------
    logits : sequence of Tensor
        L tensors (Q, N) of one type: float32, float16 or bfloat16.
    masks : Tensor
        (K, N) bool, each point in at most one row.
    """
    with on_device(masks.device):
        return MaskStatistics(*_Sums.apply(masks.contiguous(), *(x.contiguous() for x in logits)))


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, masks: Tensor, *logits: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        no_labels = masks.new_empty(0, dtype=torch.int64)
        layout, columns = lay_out([Sample(logits, masks, no_labels)]), masks.shape[0] + 1
        segments, counts = find_segments(layout)
        partial = sum_points(layout, segments, logits[0].dtype)
        shape = (-1, len(logits), logits[0].shape[0])
        softplus = partial[0][: layout.parts].view(shape).sum(0)
        cells = layout.parts * layout.columns
        logit, prob = (part[:cells].view(*shape, layout.columns).sum(0) for part in partial[1:])
        size = counts.sum(0)[:columns].float()
        ctx.layout = layout
        ctx.save_for_backward(segments, *logits)
        ctx.mark_non_differentiable(size)
        return softplus, logit[..., :columns], prob[..., :columns], size

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_softplus: Tensor, d_logit: Tensor, d_prob: Tensor, _: Tensor) -> tuple[Any, ...]:
        segments, *logits = ctx.saved_tensors
        width = ctx.layout.columns - d_logit.shape[-1]
        slopes = (d_softplus.float().contiguous(), *(torch.nn.functional.pad(d, (0, width)) for d in (d_logit, d_prob)))
        one = segments.new_ones(1, dtype=torch.float32)
        return None, *spread_slopes(ctx.layout, segments, slopes, one, logits)
