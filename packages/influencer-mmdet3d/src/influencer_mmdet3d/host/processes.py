"""How many processes a job takes, under which launcher, and running them with a log and a true exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch

FIRST_SPECIAL_STEP = 0xFFFFFFF0  # SLURM numbers its batch and interactive steps from the end


@dataclass(frozen=True)
class Processes:
    """The way to start a job.

    Attributes
    ----------
    count : int
        Processes of the job, one GPU each.
    prefix : tuple of str
        Command line up to the script: Python, torchrun, or srun and Python.
    launcher : str
        Value of the host's `--launcher`.
    first : bool
        False in all but the first process of a SLURM step that the user started.
    """

    count: int
    prefix: tuple[str, ...]
    launcher: str
    first: bool = True


def plan_processes(environ: Mapping[str, str]) -> Processes:
    """Choose between one process, torchrun (GPUS=N) and SLURM (inside a job or a step of one).

    Raises
    ------
    ValueError
        If GPUS is no positive number, or more than this machine has.
    """
    text = environ.get("GPUS")
    if text is not None and (not text.isdecimal() or int(text) < 1):
        raise ValueError(f"GPUS must be a positive number of GPUs, got {text!r}")
    python = (sys.executable, "-u")
    if "SLURM_JOB_ID" in environ:
        if int(environ.get("SLURM_STEP_ID", str(FIRST_SPECIAL_STEP))) < FIRST_SPECIAL_STEP:  # one of srun's tasks
            count = int(environ.get("SLURM_NTASKS", "1"))
            if text is not None and int(text) != count:
                raise ValueError(f"GPUS={text}, but srun started {count} tasks: unset GPUS or use srun --ntasks={text}")
            first = environ.get("SLURM_PROCID", "0") == "0"
            return Processes(count, python, "slurm" if count > 1 else "none", first)
        count = int(text or environ.get("SLURM_NTASKS", "1"))
        if count > 1:
            return Processes(count, ("srun", f"--ntasks={count}", "--kill-on-bad-exit=1", *python), "slurm")
        return Processes(1, python, "none")
    count = int(text or "1")
    if count > 1:
        if count > torch.cuda.device_count():  # mmengine's process groups need CUDA
            raise ValueError(f"GPUS={count}, but torch sees {torch.cuda.device_count()} GPUs on this machine")
        return Processes(
            count,
            (sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"),
            "pytorch",
        )
    return Processes(1, python, "none")


def run_logged(command: Sequence[str], env: Mapping[str, str], log: Path | None, *, quiet: bool = False) -> int:
    """Run a command, copy what it prints to the terminal and into a file, and return its exit code.

    With `quiet` the terminal gets nothing where there is a log. SIGTERM and SIGINT reach the command, and this
    function waits for its end. A command ended by signal n counts as 128 + n, as in a shell.
    """
    with ExitStack() as stack:
        copy = None
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            copy = stack.enter_context(log.open("ab", buffering=0))
            if not quiet:
                print(f"log: {log}", flush=True)
        echo = not quiet or copy is None
        process = subprocess.Popen(
            list(command), env=dict(env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        previous = {number: handler for number, handler in previous.items() if handler != signal.SIG_IGN}  # nohup

        def forward(number: int, frame: FrameType | None) -> None:
            with suppress(ProcessLookupError):  # it may have ended meanwhile
                os.killpg(process.pid, number)

        try:
            for number in previous:
                signal.signal(number, forward)
            assert process.stdout is not None
            while chunk := os.read(process.stdout.fileno(), 1 << 16):
                if echo:
                    sys.stdout.buffer.write(chunk)
                    sys.stdout.flush()
                if copy is not None:
                    copy.write(chunk)
            code = process.wait()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        return 128 - code if code < 0 else code
