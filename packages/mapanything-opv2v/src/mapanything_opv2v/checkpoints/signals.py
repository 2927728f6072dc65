"""Signals wait while a checkpoint is written.

SLURM sends a signal before a job's time is over, and submitit's handler ends the program wherever it is. Inside
torch.save that end turns into an error of the archive's writer: the job counts as failed, although it is queued again.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")


@contextmanager
def held() -> Iterator[None]:
    """Do the block, then what came meanwhile: signals that this program handles itself. Others act at once."""
    if threading.current_thread() is not threading.main_thread():  # signals are handled in the main thread only
        yield
        return
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in numbers}
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    own = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in own:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in own.items():
            signal.signal(number, handler)
        for number in dict.fromkeys(came):
            signal.raise_signal(number)
