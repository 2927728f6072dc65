"""One run at a time in a folder: a lock that the operating system drops when its process dies."""

from __future__ import annotations

import fcntl
import json
import os
import platform
from datetime import datetime, timezone
from pathlib import Path

NAME = ".running"
"""Of the lock's file; it stays after the run and means nothing without its lock."""


class FolderLock:
    """A folder that this process holds until `release`, or until it dies in whatever way.

    The lock is a record lock (`fcntl.lockf`): child processes do not inherit it, so that loader workers that outlive
    a killed run hold nothing. The file tells others who holds it.
    """

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises
        ------
        ValueError
            If another process holds it; names the process, its machine and its start.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / NAME
        self._descriptor: int | None = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._close()
            raise ValueError(
                f"{folder}: another training runs in this folder ({self._holder()}); both would write its checkpoints. "
                "Wait for it, stop it, or choose another folder (hydra.run.dir=...)"
            ) from None
        me = {"pid": os.getpid(), "machine": platform.node(), "started": _now()}
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(me).encode(), 0)

    def release(self) -> None:
        """Let others in; doing it twice is no fault."""
        self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _holder(self) -> str:
        try:
            them = json.loads(self.path.read_text(encoding="utf-8"))
            return f"process {them['pid']} on {them['machine']}, since {them['started']}"
        except (ValueError, KeyError, TypeError):
            return "it does not say which process it is"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
