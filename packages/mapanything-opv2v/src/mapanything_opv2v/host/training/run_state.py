"""What the launcher knows about the run it is in; the deviations read and fill it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mapanything_opv2v import __version__
from mapanything_opv2v.checkpoints.record import RunRecord


def plain_values(config: Any) -> Any:
    """Return a config as plain Python values, resolved.

    MapAnything's dataset configs refer to keys that not every run has; such a value stays the text that it is.
    """
    if isinstance(config, ListConfig):
        return [_plain_item(config, number) for number in range(len(config))]
    return {str(key): _plain_item(config, key) for key in config}


def _plain_item(config: Any, key: Any) -> Any:
    try:
        value = config[key]
    except OmegaConfBaseException:
        unresolved: Any = OmegaConf.to_container(config, resolve=False)
        return unresolved[key]
    return plain_values(value) if OmegaConf.is_config(value) else value


@dataclass
class RunState:
    """One run, in one of its processes.

    Attributes
    ----------
    config
        The run's config.
    host_root
        The checkout that `mapanything` was imported from.
    host_commit
        Its commit, see `checkout.describe`.
    accept_changes
        Whether to go on from a checkpoint of another data set or epoch length.
    deviations, left_out
        Names of the deviations in force and of those switched off.
    epoch, global_step, steps_per_epoch, steps_fixed, dataset_length
        As in `RunRecord`; filled while the host builds its loaders, resumes and trains.
    resumed_from
        Checkpoint that the run goes on from.
    """

    config: DictConfig
    host_root: Path
    host_commit: str
    accept_changes: bool = False
    deviations: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    epoch: int = -1
    global_step: int = 0
    steps_per_epoch: int | None = None
    steps_fixed: bool | None = None
    dataset_length: int | None = None
    resumed_from: str | None = None

    @cached_property
    def plain_config(self) -> dict[str, Any]:
        """The config, resolved. Ask after MapAnything has built its model: that registers a resolver which it needs."""
        return plain_values(self.config)

    @property
    def output_dir(self) -> Path:
        """Folder of the run."""
        return Path(self.config.output_dir)

    @property
    def is_first(self) -> bool:
        """Whether this is the first process, the only one that writes files and logs."""
        return os.environ.get("RANK", "0") == "0"

    @property
    def world_size(self) -> int:
        """Number of processes; one unless RANK and WORLD_SIZE are both set, as MapAnything counts."""
        return int(os.environ["WORLD_SIZE"]) if {"RANK", "WORLD_SIZE"} <= os.environ.keys() else 1

    def record(self) -> RunRecord:
        """Return what a checkpoint written now says about the run."""
        return RunRecord(
            epoch=self.epoch,
            global_step=self.global_step,
            steps_per_epoch=self.steps_per_epoch,
            steps_fixed=self.steps_fixed,
            dataset_length=self.dataset_length,
            world_size=self.world_size,
            epochs=self.config.train_params.epochs,
            host_commit=self.host_commit,
            plugin_version=__version__,
            config=self.plain_config,
        )
