"""EasyR1: `worker.reward.reward_function=.../rewards_easyr1.py:compute_score`, `reward_type: batch`.

The data's `answer_key` is the column `sample` of an export; `ROBOREFER_SPATIAL_FOLDER` is the folder of its paths.
"""

from __future__ import annotations

from typing import Any

from roborefer_spatial.training.reward_rows import reward_rows

REWARD_NAME = "roborefer_spatial"
REWARD_TYPE = "batch"


def compute_score(reward_inputs: list[dict[str, Any]], **others: Any) -> list[dict[str, float]]:
    """Return {"overall": reward} for each answer."""
    if not isinstance(reward_inputs, list):
        raise ValueError("EasyR1 gave one answer instead of a batch: set reward_type to batch")
    rows, texts = ([one[key] for one in reward_inputs] for key in ("ground_truth", "response"))
    return [{"overall": value} for value in reward_rows(rows, texts)]
