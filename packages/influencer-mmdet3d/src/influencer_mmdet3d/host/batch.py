"""From the host's `pred` and `insts` to checked samples.

Shape legend: L layers, B samples, Q queries, N points, K instances, C classes. Nothing here changes its input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from influencer_mmdet3d.host.groups import group_count, query_masks
from influencer_mmdet3d.loss.sample import Sample
from influencer_mmdet3d.loss.wording import Wording

WORDING = Wording(
    owner="InfluencerCriterion",
    labels="insts[{sample}].labels_3d",
    heads=("masks", "cls_preds", "scores"),
    earlier="aux_outputs[{layer}]",
)
"""How messages name the host's keys."""


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
        `influencer_mmdet3d.loss.padded.check_values`.
    """
    layers = [*(pred.get("aux_outputs") or []), pred]
    for index, layer in enumerate(layers):
        for key in ("cls_preds", "masks", "scores"):
            if key not in layer:
                raise ValueError(f"{WORDING.layer(index, len(layers))}: no {key!r} in pred, found {sorted(layer)}")
            if layer[key] is not None and len(layer[key]) != len(insts):
                raise ValueError(
                    f"{WORDING.layer(index, len(layers))}: {key} holds {len(layer[key])} samples, insts {len(insts)}"
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
                where = f"{WORDING.layer(number, len(layers))}, sample {index}: {key}"
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
