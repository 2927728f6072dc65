"""From the host's `pred` and `insts` to checked samples, and from these to padded tensors of small matrices.

Shape legend: L layers, B samples, E = L B entries (entry = layer x B + sample), Q queries, N points, K instances,
C classes; in `PaddedBatch` Q and K are padded to the largest of the batch. Nothing here changes its input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from influencer_mmdet3d.host.groups import group_count, query_masks
from influencer_mmdet3d.loss.assignment import mask_costs
from influencer_mmdet3d.loss.sample import Sample
from influencer_mmdet3d.loss.statistics import mask_statistics, segments_from_masks


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


def layer_name(layer: int, layers: int) -> str:
    """Return the name that error messages give a layer."""
    return "the last layer" if layer == layers - 1 else f"aux_outputs[{layer}]"


def collect(pred: Mapping[str, Any], insts: Sequence[Any], num_classes: int) -> list[Sample]:
    """Line up the decoder's output with the instances.

    Parameters
    ----------
    pred : mapping
        `cls_preds`, `masks`, `scores` (lists of B tensors, scores possibly None) and, optionally, `aux_outputs`, a
        list of the same.
    insts : sequence
        B objects with `sp_masks`, `labels_3d` and, optionally, `query_masks`.
    num_classes : int
        C.

    Notes
    -----
    The queries of all groups of a sample are together in one `Sample`, see `influencer_mmdet3d.host.groups`.

    Raises
    ------
    ValueError
        If anything has the wrong type or shape; the message names layer, sample and key. Values are checked by
        `check_values`.
    """
    layers = [*(pred.get("aux_outputs") or []), pred]
    for index, layer in enumerate(layers):
        for key in ("cls_preds", "masks", "scores"):
            if key not in layer:
                raise ValueError(f"{layer_name(index, len(layers))}: no {key!r} in pred, found {sorted(layer)}")
            if layer[key] is not None and len(layer[key]) != len(insts):
                raise ValueError(
                    f"{layer_name(index, len(layers))}: {key} holds {len(layer[key])} samples, insts {len(insts)}"
                )
    groups = group_count(pred)
    samples = [_sample(layers, inst, index, num_classes, groups) for index, inst in enumerate(insts)]
    without = [index for index, sample in enumerate(samples) if not sample.scores]
    if without and len(without) < len(samples):
        raise ValueError(f"scores are None for samples {without} of {len(samples)} only; give them for all or for none")
    return samples


def _sample(layers: Sequence[Mapping[str, Any]], inst: Any, index: int, num_classes: int, groups: int) -> Sample:
    masks, labels, given = _targets(inst, index)
    points, queries = masks.shape[1], layers[-1]["masks"][index].shape[0]
    if queries == 0:
        raise ValueError(
            f"sample {index}: the decoder gave no query, so that no instance can be found; scenes need points"
        )
    shapes = {"cls_preds": (queries, num_classes + 1), "masks": (queries, points), "scores": (queries, 1)}
    heads: dict[str, list[Tensor]] = {key: [] for key in shapes}
    for number, layer in enumerate(layers):
        for key, shape in shapes.items():
            value = layer[key][index] if layer[key] is not None else None
            if value is None and key == "scores":
                continue
            if not isinstance(value, Tensor) or not value.is_floating_point() or value.shape != shape:
                where = f"{layer_name(number, len(layers))}, sample {index}: {key}"
                raise _head_error(where, value, shape, num_classes)
            heads[key].append(value)
    allowed = query_masks(layers[-1], given, masks, index, queries, groups)
    if allowed is not None and allowed.shape != (masks.shape[0], queries):
        raise ValueError(
            f"sample {index}: query_masks must have shape {(masks.shape[0], queries)}, got {tuple(allowed.shape)}"
        )
    if len(heads["scores"]) not in (0, len(layers)):
        raise ValueError(
            f"sample {index}: scores are None in {len(layers) - len(heads['scores'])} of {len(layers)} layers"
        )
    return Sample(heads["masks"], masks, labels, heads["cls_preds"], heads["scores"], allowed)


def _head_error(where: str, value: Any, shape: tuple[int, ...], num_classes: int) -> ValueError:
    """Return the error for an output of the wrong type or shape."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return ValueError(f"{where} must be a floating-point tensor, got {getattr(value, 'dtype', type(value))}")
    hint = f" (num_classes={num_classes} and one column for no object)" if where.endswith("cls_preds") else ""
    return ValueError(f"{where} must have shape {shape}{hint}, got {tuple(value.shape)}")


def _targets(inst: Any, index: int) -> tuple[Tensor, Tensor, Tensor | None]:
    for key in ("sp_masks", "labels_3d"):
        if getattr(inst, key, None) is None:
            raise ValueError(f"insts[{index}] has no {key}")
    masks, labels, query_masks = inst.sp_masks, inst.labels_3d, getattr(inst, "query_masks", None)
    for key, value in (("sp_masks", masks), ("labels_3d", labels), ("query_masks", query_masks)):
        if value is not None and not isinstance(value, Tensor):
            raise ValueError(
                f"insts[{index}].{key} must be a torch tensor, got {type(value).__module__}.{type(value).__name__}; "
                "convert with torch.as_tensor"
            )
    for key, value in (("sp_masks", masks), ("query_masks", query_masks)):
        if value is not None and (value.dtype != torch.bool or value.ndim != 2):
            raise ValueError(
                f"insts[{index}].{key} must be a bool tensor (instances, ...), got {value.dtype} {tuple(value.shape)}; "
                "integer masks hide ids behind ones: convert with masks > 0.5"
            )
    if not masks.is_cuda and masks.numel() and int(masks.sum(0).max()) > 1:  # on a GPU it would wait for the device
        point = int((masks.sum(0) > 1).nonzero()[0])
        several = masks[:, point].nonzero().flatten().tolist()
        raise ValueError(
            f"insts[{index}].sp_masks: point {point} is in the instances {several}; "
            "a point may belong to one instance only"
        )
    if labels.is_floating_point() or labels.dtype == torch.bool or labels.shape != masks.shape[:1]:
        raise ValueError(
            f"insts[{index}].labels_3d must hold one integer for each of the {masks.shape[0]} rows of sp_masks, "
            f"got {labels.dtype} {tuple(labels.shape)}"
        )
    return masks, labels.long(), query_masks


def check_values(samples: Sequence[Sample], finite: Sequence[Tensor], num_classes: int, groups: int = 1) -> None:
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
            raise label_error(index // groups, wrong[0], int(sample.labels[wrong[0]]), num_classes)
        layers = len(sample.masks)
        for layer in range(layers):
            outputs = {"cls_preds": sample.classes[layer]}
            if sample.scores:
                outputs["scores"] = sample.scores[layer]
            bad = [key for key, head in outputs.items() if not bool(head.isfinite().all())]
            bad += [] if bool(masks_finite[layer]) else ["masks"]
            if bad:
                raise finite_error(layer, layers, index, bad[0], groups)


def label_error(sample: int, instance: int, label: int, num_classes: int) -> ValueError:
    """Return the error for a label outside [0, num_classes)."""
    return ValueError(
        f"insts[{sample}].labels_3d: instance {instance} has label {label}, expected 0..{num_classes - 1} "
        f"(num_classes={num_classes}); `influencer-mmdet3d check` finds such scenes"
    )


def finite_error(layer: int, layers: int, sample: int, key: str, groups: int = 1) -> FloatingPointError:
    """Return the error for outputs that are not finite; with groups, `sample` counts every group of every scene."""
    where = f"sample {sample}" if groups == 1 else f"sample {sample // groups}, group {sample % groups}"
    return FloatingPointError(
        f"{layer_name(layer, layers)}, {where}: {key} holds values that are not finite; lower "
        "the learning rate, clip gradients, or switch fp16 to bf16 or fp32"
    )


def line_up(samples: Sequence[Sample], num_classes: int, groups: int = 1) -> PaddedBatch:
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
    check_values(samples, finite, num_classes, groups)
    joined = []
    for parts in zip(*columns):
        joined.append(None if parts[0] is None else torch.stack(parts, 1).flatten(0, 1))
    return PaddedBatch(*joined)  # type: ignore[arg-type]


def _pad(x: Tensor, pad: tuple[int, ...]) -> Tensor:
    """`F.pad`, which copies even where there is nothing to add."""
    return F.pad(x, pad) if any(pad) else x
