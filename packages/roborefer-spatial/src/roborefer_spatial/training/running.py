"""Run a program, show what it prints and keep a copy."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

_FORWARDED = (signal.SIGINT, signal.SIGTERM)


def run_logged(command: Sequence[str], log_file: Path) -> int:
    """Run a command; its output goes to this process's standard output and, appended, to a file.

    Interrupts are passed on to the command, which is waited for. If this process is killed, Linux ends the
    command too (SIGTERM), so that no training goes on without a log.

    Parameters
    ----------
    command : sequence of str
        Program and arguments; no shell is involved.
    log_file : Path
        Its folder is made where needed.

    Returns
    -------
    int
        The command's own exit status; 128 + N where signal N ended it.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            list(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=_ends_with_parent()
        )
        assert process.stdout is not None

        def forward(number: int, frame: FrameType | None) -> None:
            process.send_signal(number)

        before = {number: signal.signal(number, forward) for number in _FORWARDED}
        try:
            # read1 hands on what is there, so that a progress bar without line ends moves
            while chunk := process.stdout.read1(65536):  # type: ignore[attr-defined]
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
                log.write(chunk)
                log.flush()
            status = process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return 128 - status if status < 0 else status


_PR_SET_PDEATHSIG = 1  # of Linux's prctl


def _ends_with_parent() -> Callable[[], None] | None:
    """Return what a child runs first so that it gets SIGTERM when its parent dies; None where that is unknown."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))

    return ask
