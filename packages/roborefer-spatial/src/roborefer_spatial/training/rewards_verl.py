"""verl: `custom_reward_function.path=.../rewards_verl.py custom_reward_function.name=compute_score`.

`ground_truth` of the data's `reward_model` is the column `sample` of an export; `ROBOREFER_SPATIAL_FOLDER` (or
`extra_info["folder"]`) is the folder that its paths start at.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from roborefer_spatial.training.reward_rows import reward_rows


def compute_score(
    data_source: str, solution_str: str, ground_truth: Any, extra_info: dict[str, Any] | None = None, **others: Any
) -> float:
    """Return the reward of one answer."""
    folder = (extra_info or {}).get("folder")
    return reward_rows([ground_truth], [solution_str], folder=Path(folder) if folder else None)[0]
