"""Run one function over many items, here, in local processes, or on a Dask cluster; results come in order.

Items and results travel by pickle. Work is handed out a window at a time, so that a long list of items does
not sit in a queue and an error stops the run soon.
"""

from __future__ import annotations

import collections
import multiprocessing
import os
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_CHUNK = 4
_CHUNKS_AHEAD = 4  # for each worker


def run_ordered(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int = 1,
    scheduler: str | None = None,
) -> Generator[Result, None, None]:
    """Yield function(item) for every item, in the order of the items.

    Parameters
    ----------
    function, items
        Picklable, where other processes take part.
    workers
        Local processes; 1 runs everything in this one.
    scheduler
        Address of a Dask scheduler, such as tcp://node1:8786; its workers must see the same files.

    Raises
    ------
    ValueError
        `workers` is below 1 or given together with a scheduler, Dask is not installed or has no workers, or a
        local process died.
    """
    if workers < 1 or (scheduler is not None and workers != 1):
        raise ValueError(f"workers is {workers}: expected at least 1, and nothing else beside --scheduler")
    if scheduler is not None:
        yield from _on_dask(function, items, scheduler)
    elif workers == 1:
        yield from map(function, items)
    else:
        methods = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent) as pool:
            try:
                yield from _windowed(pool.submit, function, items, workers)
            except BrokenExecutor as error:
                raise ValueError("a worker process died, perhaps for lack of memory: try fewer --workers") from error
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _end_with_parent() -> None:
    """End this worker when the process that started it is killed: it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _on_dask(
    function: Callable[[Item], Result], items: Sequence[Item], scheduler: str
) -> Generator[Result, None, None]:
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError(f"--scheduler needs Dask: pip install 'roborefer-spatial[cluster]' ({error})") from error
    with Client(scheduler) as client:
        threads = sum(client.nthreads().values())
        if threads == 0:
            raise ValueError(f"the Dask scheduler at {scheduler} has no workers")

        def submit(run: Callable[..., Any], *arguments: Any) -> Any:
            # not pure: a build that is run again must look at the files again
            return client.submit(run, *arguments, pure=False)

        yield from _windowed(submit, function, items, threads)


def _windowed(
    submit: Callable[..., Any], function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Generator[Result, None, None]:
    """Submit chunks of items, never more than a window ahead, and yield their results in order."""
    waiting: collections.deque[Future[list[Result]]] = collections.deque()
    for start in range(0, len(items), _CHUNK):
        waiting.append(submit(_run_chunk, function, items[start : start + _CHUNK]))
        if len(waiting) > workers * _CHUNKS_AHEAD:
            yield from waiting.popleft().result()
    while waiting:
        yield from waiting.popleft().result()


def _run_chunk(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [function(item) for item in items]
