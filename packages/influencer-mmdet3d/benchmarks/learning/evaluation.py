"""AP of held-out rooms by mmdet3d's evaluator, with the host's matrix NMS and without any."""

from __future__ import annotations

from typing import Any

import torch
from influencer_mmdet3d.data.rooms import CLASSES
from influencer_mmdet3d.demo.metric import average_precision
from influencer_mmdet3d.demo.predict import matrix_nms, predict

from learning.criterion import diagnostics
from learning.data import Batch
from learning.network import Heads, Segmentor

METRICS = ("ap", "ap50", "ap25")

_TOP = 300  # (query, class) pairs of a room: without NMS, duplicates must not push instances out of the list
_ROOMS = 4  # rooms at a time


@torch.no_grad()
def evaluate(model: Segmentor, rooms: Batch, min_points: int, amp: torch.dtype | None) -> dict[str, float]:
    """Return the metrics with matrix NMS and without any (`raw_`), and `criterion.diagnostics`.

    Predictions are ranked on the CPU: each choice of rows would make the process wait for a device that others share.
    """
    model.eval()
    found: dict[str, list[dict[str, Any]]] = {"": [], "raw_": []}
    notes: list[dict[str, float]] = []
    for start in range(0, len(rooms.points), _ROOMS):
        part = Batch(*(value[start : start + _ROOMS] for value in rooms))
        with torch.autocast(part.points.device.type, amp, enabled=amp is not None):
            last = model(part)[-1]
        notes.append({name: float(value) for name, value in diagnostics(last, part).items()})
        last, labels, segments = Heads(*(head.cpu() for head in last)), part.labels.cpu(), part.segments.cpu()
        for i in range(len(segments)):
            truth = {"semantic": labels[i][segments[i]], "instance": segments[i]}
            raw = predict(last.classes[i], last.masks[i], last.scores[i], top=_TOP, nms="none", min_points=min_points)
            found["raw_"].append({**truth, "found": raw})
            found[""].append({**truth, "found": matrix_nms(raw)})
    model.train()
    result = {name: sum(note[name] for note in notes) / len(notes) for name in notes[0]}
    for prefix, predicted in found.items():
        values = average_precision(predicted, CLASSES, min_points)
        result |= {f"{prefix}{name}": values[name] for name in METRICS}
    return result
