"""A batch as padded tensors of small matrices, after the sums over points.

Shape legend: L layers, B samples, E = L B entries (entry = layer x B + sample), Q queries, K instances, C classes;
Q and K are padded to the largest of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from influencer_mmdet3d.assignment import mask_costs
from influencer_mmdet3d.batch import Sample, check_values
from influencer_mmdet3d.statistics import mask_statistics, segments_from_masks


class Entries(NamedTuple):
    """Predictions and pairwise costs of all layers and samples."""

    classes: Tensor  # (E, Q, C + 1)
    scores: Tensor | None  # (E, Q)
    labels: Tensor  # (E, K)
    queries: Tensor  # (E, Q) bool, not padding
    present: Tensor  # (E, K) bool, instances with points
    allowed: Tensor  # (E, Q, K) bool
    bce: Tensor  # (E, Q, K)
    dice: Tensor  # (E, Q, K)
    iou: Tensor  # (E, Q, K)
    outside: Tensor  # (E, Q), summed probability on points of no instance
    outside_size: Tensor  # (E,)


def line_up(samples: Sequence[Sample], num_classes: int) -> Entries:
    """Sum over points and pad to common Q and K; raises for values that are not finite or out of range."""
    layers = len(samples[0].masks)
    queries = max(sample.masks[0].shape[0] for sample in samples)
    instances = max(max(sample.target_masks.shape[0] for sample in samples), 1)
    finite, columns = [], []
    for sample in samples:
        count, points = sample.target_masks.shape
        statistics = mask_statistics(sample.masks, segments_from_masks(sample.target_masks), count)
        finite.append((statistics.softplus + statistics.logit.sum(-1)).isfinite().all(1).detach())
        costs = mask_costs(statistics, points)
        rows, missing = queries - sample.masks[0].shape[0], instances - count
        present = statistics.size[:-1] > 0  # empty rows attract nothing
        allowed = present.expand(queries - rows, -1) if sample.query_masks is None else present & sample.query_masks.t()
        real = allowed.new_ones(queries - rows)
        pair = (0, missing, 0, rows)
        columns.append(
            Entries(
                _pad(torch.stack([head.float() for head in sample.classes]), (0, 0, 0, rows)),
                None
                if sample.scores is None
                else _pad(torch.stack([head.float().squeeze(1) for head in sample.scores]), (0, rows)),
                _pad(sample.labels.clamp(0, num_classes - 1), (0, missing)).expand(layers, -1),
                _pad(real, (0, rows)).expand(layers, -1),
                _pad(present, (0, missing)).expand(layers, -1),
                _pad(allowed, pair).expand(layers, -1, -1),
                _pad(costs.bce, pair),
                _pad(costs.dice, pair),
                _pad(costs.iou, pair),
                _pad(statistics.prob[..., -1], (0, rows)),
                statistics.size[-1].expand(layers),
            )
        )
    check_values(samples, finite, num_classes)
    joined = []
    for parts in zip(*columns):
        joined.append(None if parts[0] is None else torch.stack(parts, 1).flatten(0, 1))
    return Entries(*joined)  # type: ignore[arg-type]


def _pad(x: Tensor, pad: tuple[int, ...]) -> Tensor:
    """`F.pad`, which copies even where there is nothing to add."""
    return F.pad(x, pad) if any(pad) else x
