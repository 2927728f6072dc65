"""One sample of a batch, as the losses and the kernels read it.

Shape legend: L layers, Q queries, N points (voxels or superpoints), K instances, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class Sample(NamedTuple):
    """One scene's predictions and instances, all supervised layers together (the last layer last).

    Attributes
    ----------
    masks : sequence of Tensor
        L x (Q, N) logits.
    targets : Tensor
        (K, N) bool, each point in at most one row.
    labels : Tensor
        (K,) int64; (0,) where classes play no part.
    classes : sequence of Tensor
        L x (Q, C + 1) logits, the last column "no object"; empty where classes play no part.
    scores : sequence of Tensor
        L x (Q, 1); empty where the decoder has no score head.
    query_masks : Tensor, optional
        (K, Q) bool, which queries lie inside which instance.
    """

    masks: Sequence[Tensor]
    targets: Tensor
    labels: Tensor
    classes: Sequence[Tensor] = ()
    scores: Sequence[Tensor] = ()
    query_masks: Tensor | None = None

    def split(self, groups: int) -> list[Sample]:
        """Return G samples of Q / G queries each, in the order of the rows; nothing large is copied."""
        if groups == 1:
            return [self]
        masks, classes, scores = ([x.chunk(groups) for x in head] for head in (self.masks, self.classes, self.scores))
        allowed = [None] * groups if self.query_masks is None else self.query_masks.chunk(groups, 1)
        return [
            Sample(
                masks=[x[group] for x in masks],
                targets=self.targets,
                labels=self.labels,
                classes=[x[group] for x in classes],
                scores=[x[group] for x in scores],
                query_masks=None if (part := allowed[group]) is None else part.contiguous(),
            )
            for group in range(groups)
        ]

    def contiguous(self) -> Sample:
        """Return the same sample with every tensor contiguous, as the kernels need it."""
        return Sample(
            masks=[x.contiguous() for x in self.masks],
            targets=self.targets.contiguous(),
            labels=self.labels.contiguous(),
            classes=[x.contiguous() for x in self.classes],
            scores=[x.contiguous() for x in self.scores],
            query_masks=None if self.query_masks is None else self.query_masks.contiguous(),
        )
