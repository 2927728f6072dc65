"""Deviations that concern the processes of a run: their ranks under SLURM, their patience with each other."""

from __future__ import annotations

import functools
import logging
import math
import os
import signal
import threading
from collections.abc import Callable
from datetime import timedelta
from types import FrameType
from typing import Any

from mapanything_opv2v.host.training.patching import TOOLS, Patches, deviation
from mapanything_opv2v.host.training.run_state import RunState

logger = logging.getLogger(__name__)

TIMEOUT = "TORCH_DIST_TIMEOUT"


@deviation(
    where="environment",
    host="trains on one GPU per task, apart from each other, where SLURM starts tasks without torchrun (submitit)",
    ours="RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT are set from submitit's job",
)
def slurm_ranks(state: RunState, patches: Patches) -> None:
    """Set the variables that torchrun would set, in a job of several tasks that submitit started."""
    if "RANK" in os.environ or "SUBMITIT_EXECUTOR" not in os.environ:
        return
    from submitit import JobEnvironment
    from submitit.helpers import TorchDistributedEnvironment

    if JobEnvironment().num_tasks > 1:
        # all GPUs stay visible: the host picks its own by LOCAL_RANK
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False)


@deviation(
    where="environment",
    host="lets loader workers run the job's handlers too: each of them queues the job again and ends",
    ours="handlers of SIGUSR1, SIGUSR2, SIGTERM and SIGCONT act in the process that set them, not in its children",
)
def job_signals(state: RunState, patches: Patches) -> None:
    """Keep handlers of signals, such as submitit's for the end of a job's time, from acting in forked processes."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGCONT):
        handler = signal.getsignal(number)
        if callable(handler):
            signal.signal(number, _only_here(handler))
            patches.afterwards(_putting_back(number, handler))


def _putting_back(number: int, handler: Callable[[int, FrameType | None], Any]) -> Callable[[], None]:
    def put_back() -> None:
        signal.signal(number, handler)

    return put_back


def _only_here(handler: Callable[[int, FrameType | None], Any]) -> Callable[[int, FrameType | None], None]:
    own = os.getpid()

    def act(number: int, frame: FrameType | None) -> None:
        if os.getpid() == own:
            handler(number, frame)
        elif number == signal.SIGTERM:  # a child that is told to end does
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    return act


def timeout_from_environment() -> timedelta | None:
    """Return TORCH_DIST_TIMEOUT, seconds; None if it is not set.

    Raises
    ------
    ValueError
        If it is no positive number.
    """
    text = os.environ.get(TIMEOUT)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError(f"{TIMEOUT}={text!r}: expected a positive number of seconds, for example 3600")
    return timedelta(seconds=seconds)


@deviation(
    where=f"{TOOLS}:init_distributed_mode",
    host="waits as long as torch's default for the other processes (NCCL: 10 minutes), then dies",
    ours="TORCH_DIST_TIMEOUT=SECONDS in the environment is the time to wait; nothing changes without it",
)
def process_group_timeout(state: RunState, patches: Patches) -> None:
    """Make the host's process group with the timeout of the environment."""
    timeout = timeout_from_environment()
    if timeout is None:
        return

    def make(host: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(host)
        def init_distributed_mode(args: Any) -> None:
            inner = Patches()
            inner.wrap("torch.distributed", "init_process_group", lambda init: functools.partial(init, timeout=timeout))
            try:
                host(args)
            finally:
                inner.undo()

        return init_distributed_mode

    patches.wrap(TOOLS, "init_distributed_mode", make)
    if state.is_first:
        logger.info("processes wait %s for each other (%s)", timeout, TIMEOUT)
