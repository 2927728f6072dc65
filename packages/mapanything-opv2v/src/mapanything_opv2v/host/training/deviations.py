"""The table of every way in which the launcher's training differs from MapAnything's own: named, switchable.

Nothing of the checkout is edited. Attributes of its modules are replaced in the training process, for the time of
the run. `mapanything-opv2v doctor --verbose` prints the table, `--without NAME` leaves one out. What each deviation
does, and what MapAnything does without it, stands above its function.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from mapanything_opv2v.host.training import checkpointing, constants, locking, observing, processes, validation
from mapanything_opv2v.host.training.patching import Deviation, Patches
from mapanything_opv2v.host.training.run_state import RunState

DEVIATIONS: tuple[Deviation, ...] = (
    processes.slurm_ranks,
    processes.job_signals,
    processes.process_group_timeout,
    locking.folder_lock,
    checkpointing.safe_loading,
    checkpointing.atomic_checkpoints,
    checkpointing.plain_checkpoints,
    observing.run_record,
    checkpointing.resume_check,
    validation.whole_validation,
    constants.constant_baseline,
    observing.lr_log,
    observing.provenance,
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


@contextmanager
def applied(state: RunState, without: Iterable[str] = ()) -> Iterator[None]:
    """Make all deviations but some, and undo them afterwards; `state` notes which are in force."""
    left_out = check_names(without)
    state.left_out = tuple(name for name in NAMES if name in left_out)
    state.deviations = tuple(name for name in NAMES if name not in left_out)
    patches = Patches()
    try:
        for deviation in DEVIATIONS:
            if deviation.name not in left_out:
                deviation(state, patches)
        yield
    finally:
        patches.undo()
