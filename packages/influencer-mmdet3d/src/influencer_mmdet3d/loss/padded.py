"""From samples to padded tensors of small matrices: everything that is left once the points have been summed over.

Shape legend: L layers, B samples, E = L B entries (entry = layer x B + sample), Q queries, N points, K instances,
C classes; Q and K are padded to the largest of the batch. Nothing here changes its input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from influencer_mmdet3d.loss.assignment import mask_costs
from influencer_mmdet3d.loss.sample import Sample
from influencer_mmdet3d.loss.statistics import mask_statistics, segments_from_masks
from influencer_mmdet3d.loss.wording import CLASSES, MASKS, PLAIN, SCORES, Wording


class PaddedBatch(NamedTuple):
    """Predictions and pairwise costs of all layers and samples, after the sums over points."""

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


def check_values(
    samples: Sequence[Sample], finite: Sequence[Tensor], num_classes: int, groups: int = 1, wording: Wording = PLAIN
) -> None:
    """Raise if a label is out of range or an output is not finite.

    Parameters
    ----------
    samples : sequence of Sample
        The batch.
    finite : sequence of Tensor
        B x (L,) bool, whether the mask logits of that layer are all finite (their sums tell).
    num_classes : int
        C.
    groups : int
        G, where every group of a scene is a sample, for the messages.
    wording : Wording
        The words of messages.

    Raises
    ------
    ValueError
        For a label outside [0, C), naming sample and instance.
    FloatingPointError
        For logits that are not finite, naming layer, sample and key.
    """
    flags = []
    for sample, masks_finite in zip(samples, finite):
        labels = sample.labels
        flags.append(((labels >= 0) & (labels < num_classes)).all().unsqueeze(0))
        flags.append(masks_finite)
        heads = torch.cat([head.detach().flatten() for head in [*sample.classes, *sample.scores]])
        flags.append(heads.isfinite().all().unsqueeze(0))
    if bool(torch.cat(flags).all()):  # one device-to-host copy per step
        return
    for index, (sample, masks_finite) in enumerate(zip(samples, finite)):
        wrong = ((sample.labels < 0) | (sample.labels >= num_classes)).nonzero().flatten().tolist()
        if wrong:
            raise wording.label_error(index // groups, wrong[0], int(sample.labels[wrong[0]]), num_classes)
        layers = len(sample.masks)
        for layer in range(layers):
            fine = {CLASSES: bool(sample.classes[layer].isfinite().all())}
            if sample.scores:
                fine[SCORES] = bool(sample.scores[layer].isfinite().all())
            fine[MASKS] = bool(masks_finite[layer])
            for head, is_fine in fine.items():
                if not is_fine:
                    raise wording.finite_error(layer, layers, index, head, groups)


def line_up(samples: Sequence[Sample], num_classes: int, groups: int = 1, wording: Wording = PLAIN) -> PaddedBatch:
    """Sum over points and pad to common Q and K; raises for values that are not finite or out of range."""
    layers = len(samples[0].masks)
    queries = max(sample.masks[0].shape[0] for sample in samples)
    instances = max(max(sample.targets.shape[0] for sample in samples), 1)
    finite, columns = [], []
    for sample in samples:
        count, points = sample.targets.shape
        statistics = mask_statistics(sample.masks, segments_from_masks(sample.targets), count)
        finite.append((statistics.softplus + statistics.logit.sum(-1)).isfinite().all(1).detach())
        costs = mask_costs(statistics, points)
        rows, missing = queries - sample.masks[0].shape[0], instances - count
        present = statistics.size[:-1] > 0  # empty rows attract nothing
        allowed = present.expand(queries - rows, -1) if sample.query_masks is None else present & sample.query_masks.t()
        real = allowed.new_ones(queries - rows)
        pair = (0, missing, 0, rows)
        columns.append(
            PaddedBatch(
                _pad(torch.stack([head.float() for head in sample.classes]), (0, 0, 0, rows)),
                None
                if not sample.scores
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
    check_values(samples, finite, num_classes, groups, wording)
    joined = []
    for parts in zip(*columns):
        joined.append(None if parts[0] is None else torch.stack(parts, 1).flatten(0, 1))
    return PaddedBatch(*joined)  # type: ignore[arg-type]


def _pad(x: Tensor, pad: tuple[int, ...]) -> Tensor:
    """`F.pad`, which copies even where there is nothing to add."""
    return F.pad(x, pad) if any(pad) else x
