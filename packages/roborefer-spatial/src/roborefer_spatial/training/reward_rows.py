"""What the trainers' reward functions have in common: rows of `export`, and where their files lie."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from roborefer_spatial.files import decode_json
from roborefer_spatial.sample import Sample
from roborefer_spatial.scoring.rewards import RewardOptions, rewards
from roborefer_spatial.scoring.score import ScoreOptions

FOLDER = "ROBOREFER_SPATIAL_FOLDER"
"""Environment variable with the exported folder, for trainers that take a function and nothing else."""
VISIBLE_SHARE = "ROBOREFER_SPATIAL_VISIBLE_SHARE"


def reward_rows(
    rows: Sequence[Any],
    completions: Sequence[Any],
    *,
    folder: Path | None = None,
    options: RewardOptions | None = None,
    score_options: ScoreOptions | None = None,
) -> list[float]:
    """Return the reward of each completion.

    Parameters
    ----------
    rows
        The column `sample` of an export: JSON text of a sample, once for each completion.
    completions
        Texts, or messages whose last one is the answer.
    folder
        The exported folder; by default what the variable `ROBOREFER_SPATIAL_FOLDER` says, else the current one.
    options
        By default those of `RewardOptions`, with the share that `ROBOREFER_SPATIAL_VISIBLE_SHARE` gives.
    score_options
        What plain numbers mean to the model.
    """
    base = Path(folder or os.environ.get(FOLDER, ".")).resolve()
    samples = [_sample(row, base) for row in rows]
    if options is None and VISIBLE_SHARE in os.environ:
        options = RewardOptions(visible_share=float(os.environ[VISIBLE_SHARE]))
    return [float(value) for value in rewards(samples, [text_of(one) for one in completions], options, score_options)]


def _sample(row: Any, base: Path) -> Sample:
    value = decode_json(row, "column sample") if isinstance(row, (str, bytes)) else row
    return Sample.from_row(value, where="column sample", folder=base)


def text_of(completion: Any) -> str:
    """Return an answer's text, from a text, a message, or a list of messages."""
    if isinstance(completion, str):
        return completion
    if isinstance(completion, dict):
        content = completion.get("content")
        if isinstance(content, list):  # parts: text and pictures
            content = "".join(part.get("text") or "" for part in content)
        if isinstance(content, str):
            return content
    if isinstance(completion, (list, tuple)) and completion:
        return text_of(completion[-1])
    raise ValueError(f"expected an answer as text or as messages, got {completion!r}")
