"""Deviation: a run's folder belongs to one run at a time."""

from __future__ import annotations

import logging

from mapanything_opv2v.checkpoints.folder_lock import FolderLock
from mapanything_opv2v.host.training.patching import Patches, deviation
from mapanything_opv2v.host.training.run_state import RunState

logger = logging.getLogger(__name__)


@deviation(
    where="the run's folder",
    host="two trainings in one folder overwrite each other's checkpoints",
    ours="the first process holds a lock in the folder that ends with it; a second training does not start",
)
def folder_lock(state: RunState, patches: Patches) -> None:
    """Take the folder's lock, for as long as the run lasts."""
    if not state.is_first:
        return
    try:
        lock = FolderLock(state.output_dir)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    except OSError as error:
        logger.warning("%s cannot be locked (%s): see to it that no other training uses it", state.output_dir, error)
        return
    patches.afterwards(lock.release)
