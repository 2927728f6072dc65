"""What the host's sampler does with a set, and the order of a curriculum."""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)


def rows_used(rows: int, global_batch_size: int) -> int:
    """Return how many rows of one set the host's sampler takes in an epoch.

    It drops the remainder of every set to a multiple of world x batch x accumulation
    (`llava_trainer.py`, `VILADistributedSampler`).
    """
    return rows // global_batch_size * global_batch_size


def warn_of_dropped_rows(rows: int, global_batch_size: int, name: str) -> None:
    """Log which rows of a set the host's sampler would never show the model."""
    used = rows_used(rows, global_batch_size)
    if used == 0:
        logger.warning(
            "%s: RoboRefer's sampler drops ALL %d row(s), because a global batch takes %d: nothing of "
            "this set is "
            "trained on. Lower --per_device_train_batch_size or --gradient_accumulation_steps, or use "
            "fewer GPUs",
            name, rows, global_batch_size,
        )  # fmt: skip
    elif used < rows:
        logger.warning(
            "%s: RoboRefer's sampler drops the last %d of %d rows in every epoch (global batch %d)",
            name, rows - used, rows, global_batch_size,
        )  # fmt: skip
