"""TRL: `GRPOTrainer(reward_funcs=point_reward(folder), train_dataset=...)` with the rows of `export --format trl`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from roborefer_spatial.scoring.rewards import RewardOptions
from roborefer_spatial.scoring.score import ScoreOptions
from roborefer_spatial.training.reward_rows import reward_rows


def point_reward(
    folder: Path, options: RewardOptions | None = None, score_options: ScoreOptions | None = None
) -> Callable[..., list[float]]:
    """Return a reward function for TRL; it needs the column `sample`, whose paths start at `folder`."""

    def point(completions: Sequence[Any], sample: Sequence[Any], **columns: Any) -> list[float]:
        return reward_rows(sample, completions, folder=folder, options=options, score_options=score_options)

    return point
