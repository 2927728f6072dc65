"""Long jobs over many items, here, in local processes or on a Dask cluster; errors stay with their item."""

from __future__ import annotations

import errno
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Generic, TypeVar

from mapanything_opv2v.terminal import progress as progress_bar

Item = TypeVar("Item")
Result = TypeVar("Result")

WAITING_PER_WORKER = 4
"""Items handed out ahead, so that a million of them never wait in memory."""

CONNECT_S = 30
"""How long a scheduler may take to answer."""


@dataclass(frozen=True)
class Done(Generic[Item, Result]):
    """What became of one item: `result`, or the user's error that stopped it."""

    item: Item
    result: Result | None
    error: Exception | None


def run(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    total: int | None = None,
    workers: int = 1,
    description: str = "",
    unit: str = "item",
    executor: Executor | None = None,
    progress: bool = True,
) -> Iterator[Done[Item, Result]]:
    """Apply a function to every item and yield the outcomes as they come.

    Parameters
    ----------
    function : callable
        Defined at the top of a module, so that other processes find it.
    items : iterable
        What to work on; taken as needed.
    total : int, optional
        How many there are, for the bar; needed where `items` has no length.
    workers : int
        Processes; 1 works in this one.
    description, unit : str
        Of the work and of one item, for the progress bar.
    executor : Executor, optional
        Run there instead (any `concurrent.futures.Executor`); `workers` then only says how many items to hand
        out.
    progress : bool
        Show the bar, on standard error; where that is no terminal, a line for each tenth.

    Yields
    ------
    Done
        `OSError` and `ValueError` (bad files, bad values) are handed over with their item; any other
        exception is a defect and stops the job.
    """
    if workers < 1:
        raise ValueError(f"workers={workers}, expected at least 1")
    if total is None and isinstance(items, Sized):
        total = len(items)
    bar = progress_bar(description=description, unit=unit, total=total, quiet=not progress)
    with bar:
        if workers == 1 and executor is None:
            outcomes: Iterator[Done[Item, Result]] = (Done(item, *_attempt(function, item)) for item in items)
        else:
            outcomes = _spread(function, items, workers, executor)
        for done in outcomes:
            if isinstance(done.error, OSError) and done.error.errno == errno.ENOSPC:
                raise done.error  # every further item would fail the same way
            bar.update()
            yield done


def _attempt(function: Callable[[Item], Result], item: Item) -> tuple[Result | None, Exception | None]:
    try:
        return function(item), None
    except (OSError, ValueError) as error:
        return None, error


def _spread(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, executor: Executor | None
) -> Iterator[Done[Item, Result]]:
    """Keep every worker busy with a few items waiting."""
    # spawned, not forked: the parent may hold threads
    context = multiprocessing.get_context("spawn")
    owned = executor or ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent)
    waiting: dict[Future[tuple[Result | None, Exception | None]], Item] = {}  # items do not travel back

    def finished() -> Iterator[Done[Item, Result]]:
        for future in wait(waiting, return_when=FIRST_COMPLETED).done:
            yield Done(waiting.pop(future), *future.result())

    with owned if executor is None else nullcontext():
        for item in items:
            waiting[owned.submit(_attempt, function, item)] = item
            if len(waiting) >= workers * WAITING_PER_WORKER:
                yield from finished()
        while waiting:
            yield from finished()


def _end_with_parent() -> None:
    """End this worker when the process that started it is killed: it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@dataclass(frozen=True)
class Place:
    """Where a job runs; `run` needs to know."""

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
