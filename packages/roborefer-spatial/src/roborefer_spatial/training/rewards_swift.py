"""ms-swift: `swift rlhf --rlhf_type grpo --external_plugins .../rewards_swift.py --reward_funcs roborefer_spatial`.

With the rows of `export --format ms-swift`; `ROBOREFER_SPATIAL_FOLDER` is the exported folder. Importing this file
registers the reward, as swift's plugins do.
"""

from __future__ import annotations

import importlib
from typing import Any

from roborefer_spatial.training.reward_rows import reward_rows

NAME = "roborefer_spatial"


def _registry() -> Any:
    """Return swift's module with ORM and orms: `swift.rewards` in newer versions, `swift.plugin` before."""
    for name in ("swift.rewards", "swift.plugin"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ImportError("ms-swift is not installed, or has its rewards elsewhere: pip install ms-swift")


def register() -> None:
    """Put the reward into swift's table; an entry of that name by somebody else is an error."""
    swift = _registry()
    if getattr(swift.orms.get(NAME), "__module__", __name__) != __name__:
        raise ValueError(f"swift has a reward called {NAME} already, from {swift.orms[NAME].__module__}")

    class PointReward(swift.ORM):  # type: ignore[name-defined]
        """Rewards answers by the column `sample`."""

        def __call__(self, completions: list[Any], sample: list[Any], **columns: Any) -> list[float]:
            return reward_rows(sample, completions)

    swift.orms[NAME] = PointReward


register()
