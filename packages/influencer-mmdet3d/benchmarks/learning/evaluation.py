"""AP of held-out rooms by mmdet3d's evaluator, with the host's matrix NMS and without any."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from influencer_mmdet3d.demo.metric import average_precision
from influencer_mmdet3d.demo.predict import Prediction, predict
from influencer_mmdet3d.rooms import CLASSES

from learning.criterion import diagnostics
from learning.data import Batch
from learning.network import Segmentor

METRICS = ("ap", "ap50", "ap25")
VARIANTS = {"": "matrix", "raw_": "none"}
"""Prefix of a metric's name, and the NMS that it is measured with."""

_TOP = 300  # (query, class) pairs of a room: without NMS, duplicates must not push instances out of the list
_ROOMS = 4  # rooms at a time


@torch.no_grad()
def evaluate(model: Segmentor, rooms: Batch, min_points: int, amp: torch.dtype | None) -> dict[str, float]:
    """Return the metrics with and without NMS (`raw_`), and `criterion.diagnostics`."""
    model.eval()
    found: dict[str, list[dict[str, Any]]] = {prefix: [] for prefix in VARIANTS}
    notes: list[dict[str, float]] = []
    for start in range(0, len(rooms.points), _ROOMS):
        part = Batch(*(value[start : start + _ROOMS] for value in rooms))
        with torch.autocast(part.points.device.type, amp, enabled=amp is not None):
            last = model(part)[-1]
        notes.append({name: float(value) for name, value in diagnostics(last, part).items()})
        for i in range(len(part.points)):
            truth = {"semantic": part.labels[i][part.segments[i]].cpu(), "instance": part.segments[i].cpu()}
            for prefix, nms in VARIANTS.items():
                one = predict(last.classes[i], last.masks[i], last.scores[i], top=_TOP, nms=nms, min_points=min_points)
                found[prefix].append({**truth, "found": _on_cpu(one)})
    model.train()
    result = {name: sum(note[name] for note in notes) / len(notes) for name in notes[0]}
    for prefix, predicted in found.items():
        values = average_precision(predicted, CLASSES, min_points)
        result |= {f"{prefix}{name}": values[name] for name in METRICS}
    return result


def _on_cpu(found: Prediction) -> SimpleNamespace:
    return SimpleNamespace(masks=found.masks.cpu(), labels=found.labels.cpu(), scores=found.scores.cpu())
