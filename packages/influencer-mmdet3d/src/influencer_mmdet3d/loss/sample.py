"""One sample of a batch, as the losses and the kernels read it.

Shape legend: L layers, Q queries, N points (voxels or superpoints), K instances, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
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


def check_samples(samples: Sequence[Sample], num_classes: int, groups: int = 1) -> None:
    """Raise ValueError unless every tensor has the type and shape that `Sample` says; the message says which."""
    layers = len(samples[0].masks)
    for index, sample in enumerate(samples):
        where = f"sample {index}"
        _check_targets(sample, where)
        if layers == 0 or len(sample.masks) != layers:
            raise ValueError(f"{where}: masks must hold one tensor for each layer, {max(layers, 1)} of them as in "
                             f"sample 0, got {len(sample.masks)}")  # fmt: skip
        queries, points = len(sample.masks[-1]), sample.targets.shape[1]
        shapes = {"masks": (queries, points), "classes": (queries, num_classes + 1), "scores": (queries, 1)}
        for head, shape in shapes.items():
            given = getattr(sample, head)
            if head == "scores" and not given and not samples[0].scores:
                continue
            if len(given) != layers:
                raise ValueError(f"{where}: {head} must hold one tensor for each of {layers} layers, got {len(given)}")
            for layer, value in enumerate(given):
                _check_head(f"{where}: {head}[{layer}]", value, shape, num_classes)
        allowed = sample.query_masks
        wanted = (len(sample.targets), queries)
        if allowed is not None and (not isinstance(allowed, Tensor) or allowed.dtype != torch.bool):
            raise ValueError(f"{where}: query_masks must be a bool tensor, got {_kind(allowed)}")
        if allowed is not None and allowed.shape != wanted:
            raise ValueError(f"{where}: query_masks must have shape {wanted}, got {tuple(allowed.shape)}")
        if queries == 0 or queries % groups:
            raise ValueError(f"{where}: {queries} queries do not divide into {groups} groups of at least one")


def _check_targets(sample: Sample, where: str) -> None:
    masks, labels = sample.targets, sample.labels
    if not isinstance(masks, Tensor) or masks.dtype != torch.bool or masks.ndim != 2:
        raise ValueError(
            f"{where}: targets must be a bool tensor (instances, points), got {_kind(masks)}; convert with masks > 0.5"
        )
    if not masks.is_cuda and masks.numel() and int(masks.sum(0).max()) > 1:  # on a GPU it would wait for the device
        point = int((masks.sum(0) > 1).nonzero()[0])
        several = masks[:, point].nonzero().flatten().tolist()
        raise ValueError(
            f"{where}: point {point} is in the instances {several} of targets; a point may belong to one instance only"
        )
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.shape != masks.shape[:1]:
        raise ValueError(
            f"{where}: labels must be an int64 tensor with one label for each of the {len(masks)} rows of targets, "
            f"got {_kind(labels)}"
        )


def _check_head(where: str, value: Any, shape: tuple[int, ...], num_classes: int) -> None:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise ValueError(f"{where} must be a floating-point tensor, got {_kind(value)}")
    if value.shape != shape:
        hint = f" (num_classes={num_classes} and one column for no object)" if ": classes" in where else ""
        raise ValueError(f"{where} must have shape {shape}{hint}, got {tuple(value.shape)}")


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {tuple(value.shape)}"
    return f"{type(value).__module__}.{type(value).__name__}"
