"""Rewards for reinforcement learning, over the one scorer: what counts as a hit there counts as one here.

An answer to a visible object earns the share of its points that hit, else a little that falls with the distance in
units of the object's size, so that the middle of the picture earns nearly nothing. NOT_VISIBLE earns 1 where it is
right; where it is wrong it costs what makes always saying it worth 0. A readable answer earns a small term for form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from roborefer_spatial.predictions import Prediction
from roborefer_spatial.sample import Sample
from roborefer_spatial.scoring.points import Floats
from roborefer_spatial.scoring.score import ScoreOptions, score

READABLE = frozenset({"points", "not_visible", "out_of_range", "wrong_side"})
"""Reasons of answers that have the form that was asked for, wherever they point."""


@dataclass(frozen=True, slots=True)
class RewardOptions:
    """How answers are rewarded.

    Attributes
    ----------
    near
        Most that a point beside the mask earns, at the true point's distance 0.
    form
        What a readable answer earns.
    visible_share
        Share of the training samples whose object is visible (`visible_share_of`): it sets the price of a wrong
        NOT_VISIBLE, `(1 - share) / share`, at which always saying it earns 0 on average.
    """

    near: float = 0.25
    form: float = 0.05
    visible_share: float = 0.5

    def __post_init__(self) -> None:
        if not (0 <= self.near < 1 and 0 <= self.form < 1):
            raise ValueError(f"expected 0 <= near < 1 and 0 <= form < 1, got {self.near} and {self.form}")
        if not 0 < self.visible_share <= 1:
            raise ValueError(f"visible_share is {self.visible_share}: expected above 0 and at most 1")

    @property
    def wrong_not_visible(self) -> float:
        """What NOT_VISIBLE earns where the object can be seen."""
        return -(1 - self.visible_share) / self.visible_share


def visible_share_of(samples: Sequence[Sample]) -> float:
    """Return the share of samples whose object is visible, for `RewardOptions`."""
    if not any(sample.visible for sample in samples):
        raise ValueError("no sample has a visible object: always NOT_VISIBLE would be the best answer")
    return sum(sample.visible for sample in samples) / len(samples)


def rewards(
    samples: Sequence[Sample],
    texts: Sequence[str],
    options: RewardOptions | None = None,
    score_options: ScoreOptions | None = None,
) -> Floats:
    """Return the reward (N,) of each answer; a sample may occur several times, with an answer each.

    Raises
    ------
    ValueError
        The two differ in length, or a mask cannot be read.
    """
    if len(samples) != len(texts):
        raise ValueError(f"{len(samples)} samples and {len(texts)} answers: expected one answer for each sample")
    if not samples:
        return np.zeros(0)
    options = options or RewardOptions()
    asked = [msgspec.structs.replace(sample, id=f"{index}/{sample.id}") for index, sample in enumerate(samples)]
    given = [Prediction(sample.id, text) for sample, text in zip(asked, texts)]
    found = score(asked, given, score_options or ScoreOptions(), workers=1)
    size = np.sqrt(np.maximum(np.nan_to_num(found.chance), 1e-6))  # the side of a square as large as the mask
    apart = np.where(np.isnan(found.l2_query), np.inf, found.l2_query) / size
    hit = np.nan_to_num(found.hit)
    pointed = hit + (1 - hit) * options.near * np.exp(-2 * apart**2)
    earned = np.where(found.said_points, pointed, 0.0)
    earned = np.where(found.said_not_visible, options.wrong_not_visible, earned)
    earned = np.where(found.visible, earned, found.said_not_visible.astype(np.float64))
    readable = np.array([reason in READABLE for reason in found.reason])
    return np.asarray(earned + options.form * readable)
