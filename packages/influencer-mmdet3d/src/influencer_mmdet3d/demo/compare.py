"""Predicted instances beside the true ones, point by point, for pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

WRONG = 1000
"""First number of predicted instances that no true instance stands for."""


@dataclass(frozen=True)
class Shown:
    """One labelling of the points of a room.

    Attributes
    ----------
    instance : ndarray of int16, shape (N,)
        Number of the true instance that the point's mask was matched with, `WRONG` and up for a mask
        without one, -1 for a point in no mask.
    label : ndarray of uint8, shape (N,)
        Class, 255 for a point in no mask.
    scores : dict of int to float
        Score of each number in `instance`; empty for ground truth.
    matched, missed, wrong : int
        True instances with a mask of their class and IoU above 0.5, without one, and masks without one.
    """

    instance: npt.NDArray[np.int16]
    label: npt.NDArray[np.uint8]
    scores: dict[int, float]
    matched: int
    missed: int
    wrong: int


def truth(room: dict[str, Any]) -> Shown:
    """Return the ground truth of a room."""
    instance = room["instance"].cpu().numpy()
    count = int(instance.max()) + 1
    return Shown(instance.astype(np.int16), room["semantic"].cpu().numpy().astype(np.uint8), {}, count, 0, 0)


def found_instances(rooms: Sequence[dict[str, Any]]) -> tuple[int, int]:
    """Return how many true instances of all rooms were found, and how many there are."""
    shown = [prediction(room) for room in rooms]
    return sum(view.matched for view in shown), sum(view.matched + view.missed for view in shown)


def prediction(room: dict[str, Any]) -> Shown:
    """Return the best predictions of a room, as many as it has instances, matched best score first.

    The number, unlike a limit on scores, does not favour the criterion whose scores are higher. A mask is matched
    with the true instance of its class that it overlaps most, if IoU > 0.5 and no
    better mask has it. Where masks overlap, the point belongs to the one of higher score.
    """
    true, found = truth(room), room["found"]
    masks, labels, scores = (part.cpu().numpy() for part in (found.masks, found.labels, found.scores))
    order = np.argsort(-scores, kind="stable")[: true.matched]
    members = true.instance[None] == np.arange(true.matched)[:, None]
    true_labels = np.array([true.label[row][0] for row in members])
    instance = np.full(len(true.instance), -1, dtype=np.int16)
    label = np.full(len(true.instance), 255, dtype=np.uint8)
    numbers: dict[int, float] = {}
    taken: set[int] = set()
    wrong = 0
    for index in order:
        both = (members & masks[index]).sum(1)
        iou = both / np.maximum((members | masks[index]).sum(1), 1)
        iou[true_labels != labels[index]] = 0
        best = int(iou.argmax())
        if iou[best] > 0.5 and best not in taken:
            number = best
            taken.add(best)
        else:
            number, wrong = WRONG + wrong, wrong + 1
        numbers[number] = float(scores[index])
        free = masks[index] & (instance < 0)
        instance[free], label[free] = number, labels[index]
    return Shown(instance, label, numbers, len(taken), true.matched - len(taken), wrong)
