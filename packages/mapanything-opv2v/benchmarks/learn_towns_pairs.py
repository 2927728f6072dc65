"""Which pairs of views learn_towns_start.py shows at which step: near ones first, farther ones later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from learn_towns_pack import Pack, Views

if TYPE_CHECKING:
    from learn_towns_start import Plan

WIDENED_EVERY = 20
"""Steps after which it is looked whether near pairs are mastered."""

WIDENED_ANYWAY = (0.3, 0.7)
"""Parts of the training between which pairs widen even if nothing is mastered."""


class Pairs:
    """Pairs of a pack by distance."""

    def __init__(self, pack: Pack, far_m: float) -> None:
        self.pack = pack
        rows = pack.pairs(far_m)
        away = np.linalg.norm(pack.positions[rows[:, 0]] - pack.positions[rows[:, 1]], axis=1)
        order = np.argsort(away)
        self.rows, self.away = rows[order], away[order]

    def draw(self, rng: np.random.Generator, count: int, least_m: float, most_m: float) -> np.ndarray:
        """Return pairs (count, 2) at distances between two."""
        first, last = np.searchsorted(self.away, (least_m, most_m))
        last = max(int(last), min(64, len(self.rows)))
        return self.rows[rng.integers(min(int(first), last - 1), last, count)]


class Widening:
    """How far the pairs have widened, from 0 (near ones) to 1."""

    def __init__(self, plan: Plan, at: float = 0.0) -> None:
        self.plan, self.at = plan, at
        self.movement = self.still = torch.zeros(())

    def after(self, step: int, done: float, losses: dict[str, torch.Tensor]) -> None:
        """Widen, or not, after a step when a part of the training is done."""
        if self.plan.mastered is None:
            self.at = min(1.0, step / self.plan.widen_steps) if self.plan.widen_steps else 1.0
            return
        for name in ("movement", "still"):  # means over the last 50 steps or so
            value = losses[name].detach()
            setattr(self, name, torch.lerp(getattr(self, name).to(value), value, 0.02))
        if step % WIDENED_EVERY == 0:  # the loss is waited for now and then only
            if float(self.movement) < self.plan.mastered * float(self.still):
                self.at += WIDENED_EVERY / self.plan.widen_steps
            first, last = WIDENED_ANYWAY
            self.at = min(1.0, max(self.at, (done - first) / (last - first)))


def batch(pairs: Pairs, plan: Plan, widened: float, rng: np.random.Generator) -> Views:
    """Return the views of a training step."""
    rows = pairs.draw(rng, plan.batch, 0.0, plan.near_m + (plan.far_m - plan.near_m) * widened)
    same = rng.random(plan.batch) < plan.same * (1 - widened)
    rows[same, 1] = rows[same, 0]
    width = pairs.pack.color.shape[3]
    views = pairs.pack.views(rows, torch.from_numpy(rng.integers(0, width, rows.shape)))
    for view in views:  # exposure differs between vehicles
        gain = 1 + plan.gain * (2 * torch.rand(len(view["img"]), 1, 1, 1, device=view["img"].device) - 1)
        dark = -(pairs.pack.mean / pairs.pack.std)[:, None, None]
        view["img"] = (view["img"] - dark) * gain + dark
    return views
