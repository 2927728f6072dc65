"""Every way in which the launcher's training differs from MapAnything's own: named, explained, switchable.

Nothing of the checkout is edited. Attributes of its modules are replaced in the training process, for the time of
the run. `mapanything-opv2v doctor` lists the table, `--without NAME` leaves one out.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mapanything_opv2v.host.run_state import RunState

TOOLS = "mapanything.utils.train_tools"
TRAINING = "mapanything.train.training"


@dataclass(frozen=True)
class Deviation:
    """One difference.

    Attributes
    ----------
    name
        What `--without` takes.
    where
        What is replaced, as module:attribute; `environment` where only variables are set.
    host
        What MapAnything does.
    ours
        What is done instead.
    """

    name: str
    where: str
    host: str
    ours: str


DEVIATIONS: tuple[Deviation, ...] = (
    Deviation(
        "slurm_ranks",
        "environment",
        "trains on one GPU per task, apart from each other, where SLURM starts tasks without torchrun (submitit)",
        "RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT are set from submitit's job",
    ),
    Deviation(
        "process_group_timeout",
        f"{TOOLS}:init_distributed_mode",
        "waits as long as torch's default for the other processes (NCCL: 10 minutes), then dies",
        "TORCH_DIST_TIMEOUT=SECONDS in the environment is the time to wait; nothing changes without it",
    ),
    Deviation(
        "safe_loading",
        "torch:load",
        "loads checkpoints with weights_only=False, which runs whatever code they hold",
        "weights_only=True, with MapAnything's own plain containers allowed",
    ),
    Deviation(
        "atomic_checkpoints",
        f"{TOOLS}:save_on_master",
        "writes over the last checkpoint; a kill meanwhile leaves none",
        "written beside, synced, renamed; what killed runs left half written is removed at the start",
    ),
    Deviation(
        "plain_checkpoints",
        f"{TOOLS}:save_on_master",
        "pickles an OmegaConf object and numpy numbers into checkpoints, so that loading them needs trust",
        "the config is a resolved plain dict, numbers are Python's",
    ),
    Deviation(
        "run_record",
        f"{TRAINING}:build_dataset, {TRAINING}:train_one_epoch, {TOOLS}:load_model, {TOOLS}:save_on_master",
        "checkpoints do not say which step, data set or code they come from",
        "each holds epoch, global_step, steps_per_epoch, dataset length, world size, commits and resolved config",
    ),
    Deviation(
        "resume_check",
        f"{TOOLS}:load_model",
        "goes on from a checkpoint whatever has changed, on another schedule",
        "refuses another data set or epoch length (unless --accept-changes), tells another world size or commit",
    ),
    Deviation(
        "whole_validation",
        f"{TRAINING}:test_one_epoch",
        "chooses the best checkpoint by the part of the validation set that the first process has seen",
        "with several processes, the figures are means and medians over the batches of all of them",
    ),
    Deviation(
        "lr_log",
        f"{TRAINING}:train_one_epoch",
        "logs the learning rate in the middle of other figures",
        "one line at each epoch's start says its first and last learning rate of every parameter group",
    ),
    Deviation(
        "provenance",
        f"{TOOLS}:load_model",
        "keeps the config, not what it ran on",
        "provenance-TIME.json in the run's folder: command, commits, versions, data, GPUs, deviations, resume",
    ),
)
"""In the order in which they are made: a later one wraps what an earlier one put in place."""

NAMES = tuple(deviation.name for deviation in DEVIATIONS)


def check_names(names: Iterable[str]) -> frozenset[str]:
    """Return names of deviations as a set.

    Raises
    ------
    ValueError
        If there is no such deviation; the known ones are named.
    """
    given = frozenset(names)
    if unknown := given - set(NAMES):
        raise ValueError(f"--without: no deviation {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    return given


class Patches:
    """Replaced attributes of modules, to be put back."""

    def __init__(self) -> None:
        self._replaced: list[tuple[Any, str, Any]] = []

    def wrap(self, module: str, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Replace `module.name` by `make(what is there)`."""
        owner = importlib.import_module(module)
        old = getattr(owner, name)
        self._replaced.append((owner, name, old))
        setattr(owner, name, make(old))

    def undo(self) -> None:
        """Put everything back, the last replacement first."""
        while self._replaced:
            setattr(*self._replaced.pop())


@contextmanager
def applied(state: RunState, without: Iterable[str] = ()) -> Iterator[None]:
    """Make all deviations but some, and undo them afterwards; `state` notes which are in force."""
    from mapanything_opv2v.host import checkpointing, observing, processes, validation

    apply: dict[str, Callable[[RunState, Patches], None]] = {
        "slurm_ranks": processes.slurm_ranks,
        "process_group_timeout": processes.process_group_timeout,
        "safe_loading": checkpointing.safe_loading,
        "atomic_checkpoints": checkpointing.atomic_checkpoints,
        "plain_checkpoints": checkpointing.plain_checkpoints,
        "run_record": observing.run_record,
        "resume_check": checkpointing.resume_check,
        "whole_validation": validation.whole_validation,
        "lr_log": observing.lr_log,
        "provenance": observing.provenance,
    }
    assert tuple(apply) == NAMES, "the table and its functions belong together"
    left_out = check_names(without)
    state.left_out = tuple(name for name in NAMES if name in left_out)
    state.deviations = tuple(name for name in NAMES if name not in left_out)
    patches = Patches()
    try:
        for name in state.deviations:
            apply[name](state, patches)
        yield
    finally:
        patches.undo()
