"""Is a model better than what takes no learning? Figure by figure, over the frames that both have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mapanything_opv2v.evaluation.metrics import Figures

SMALLER_IS_BETTER: Mapping[str, bool] = {
    "pose_translation_m": True,
    "pose_translation_scaled_m": True,
    "pose_rotation_deg": True,
    "vehicle_translation_m": True,
    "vehicle_translation_scaled_m": True,
    "vehicle_direction_deg": True,
    "vehicle_rotation_deg": True,
    "depth_rmse_m": True,
    "depth_mae_m": True,
    "depth_relative": True,
    "depth_relative_scaled": True,
    "depth_within_25pct": False,
    "depth_within_25pct_scaled": False,
    "chamfer_raw_m": True,
    "chamfer_filtered_m": True,
    "bev_iou_raw": False,
    "bev_iou_filtered": False,
    "mask_iou": False,
}
"""Figures that are judged."""

Frames = Mapping[str, Figures]
"""Figures by frame."""


@dataclass(frozen=True)
class Judged:
    """One figure of a model beside a baseline's: means over the same frames."""

    figure: str
    model: float
    baseline: float
    frames: int

    @property
    def better(self) -> bool:
        """Whether the model is better; a tie is not."""
        return self.model != self.baseline and not self.loses

    @property
    def loses(self) -> bool:
        """Whether the model is worse; a tie is not."""
        if SMALLER_IS_BETTER[self.figure]:
            return self.model > self.baseline
        return self.model < self.baseline


def judge(model: Frames, baseline: Frames) -> list[Judged]:
    """Compare every figure of `SMALLER_IS_BETTER` over the frames in which both have it."""
    judged = []
    for figure in SMALLER_IS_BETTER:
        pairs = [
            (ours[figure], theirs[figure])
            for name, ours in model.items()
            if (theirs := baseline.get(name)) is not None
            and ours.get(figure) is not None
            and theirs.get(figure) is not None
        ]
        if pairs:
            ours, theirs = np.array(pairs, dtype=np.float64).mean(axis=0)
            judged.append(Judged(figure, float(ours), float(theirs), len(pairs)))
    return judged


def to_json(judged: list[Judged]) -> dict[str, Any]:
    """Return what the summary says of one baseline."""
    return {
        "figures": {
            item.figure: {"model": item.model, "baseline": item.baseline, "frames": item.frames, "better": item.better}
            for item in judged
        },
        "loses_in": [item.figure for item in judged if item.loses],
        "ties_in": [item.figure for item in judged if item.model == item.baseline],
    }


def sentence(baseline: str, judged: list[Judged]) -> str:
    """Return the verdict against one baseline in words."""
    if not judged:
        return f"{baseline}: no figure that both have"
    lost = [item for item in judged if item.loses]
    ties = [item.figure for item in judged if item.model == item.baseline]
    tied = f"; a tie in {', '.join(ties)}" if ties else ""
    if not lost:
        return f"{baseline}: the model is better in {len(judged) - len(ties)} of {len(judged)} figures{tied}"
    listed = ", ".join(f"{item.figure} ({item.model:.4g} against {item.baseline:.4g})" for item in lost)
    return f"{baseline}: the model LOSES in {len(lost)} of {len(judged)} figures: {listed}{tied}"
