"""Where jobs run: in this process, in local processes, or on an existing Dask cluster."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass

CONNECT_S = 30
"""How long a scheduler may take to answer."""


@dataclass(frozen=True)
class Place:
    """What `jobs.run` needs to know."""

    workers: int
    """How many items can be worked on at once."""
    executor: Executor | None = None
    """None: local processes."""


@contextmanager
def place(workers: int = 1, scheduler: str | None = None) -> Iterator[Place]:
    """Yield where a job runs.

    Parameters
    ----------
    workers : int
        Local processes; 1 works in this one.
    scheduler : str, optional
        Address of a Dask scheduler, such as `tcp://node1:8786`. Its workers need this package and the same files
        under the same names; they are left running.

    Raises
    ------
    ValueError
        If both are given, `distributed` is not installed, or nobody answers or works there.
    """
    if scheduler is None:
        yield Place(workers)
        return
    if workers != 1:
        raise ValueError(f"--workers {workers} with --scheduler: the cluster's own workers are used, give one of them")
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError(
            f"--scheduler {scheduler}: {error}; install it with `pip install mapanything-opv2v[cluster]`"
        ) from error
    try:
        client = Client(scheduler, timeout=CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise ValueError(f"--scheduler {scheduler}: no Dask scheduler answers ({error})") from error
    with client:
        threads = sum(client.nthreads().values())
        if threads == 0:
            raise ValueError(f"--scheduler {scheduler}: it has no workers; start some with `dask worker {scheduler}`")
        with client.get_executor(pure=False) as executor:
            yield Place(threads, executor)
