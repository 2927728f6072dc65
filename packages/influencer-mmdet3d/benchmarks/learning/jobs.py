"""Cells over processes and devices: each process trains one cell after the other, cells that are there are left out."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

from learning.cell import Cell, train_cell
from learning.data import ROLES, pool_file, write_pool
from learning.settings import Settings

_device = torch.device("cpu")


def make_rooms(kinds: Sequence[str], settings: Settings, folder: Path, jobs: int) -> None:
    """Make the rooms that are missing, a process for each difficulty and role."""
    wanted = [(folder, kind, role, settings) for kind in kinds for role in ROLES]
    missing = [one for one in wanted if not pool_file(*one).exists()]
    if missing:
        with ProcessPoolExecutor(min(jobs, len(missing)), multiprocessing.get_context("spawn")) as pool:
            for made in [pool.submit(write_pool, *one) for one in missing]:
                made.result()


def _begin(devices: Sequence[str], counter: Any) -> None:
    """Give this process a device of its own turn, and one CPU thread."""
    global _device
    with counter.get_lock():
        number = counter.value
        counter.value += 1
    _device = torch.device(devices[number % len(devices)])
    if _device.type == "cuda":
        torch.cuda.set_device(_device)
    torch.set_num_threads(1)


def _train(cell: Cell, settings: Settings, out: Path) -> tuple[dict[str, Any], float]:
    begin = time.perf_counter()
    return train_cell(cell, settings, out, _device), time.perf_counter() - begin


def run_cells(
    cells: Sequence[Cell],
    settings: Settings,
    out: Path,
    devices: Sequence[str],
    jobs: int,
    seconds: float,
    say: Callable[[str], None],
) -> tuple[int, int]:
    """Train cells in their order, `jobs` at a time.

    Parameters
    ----------
    cells, settings, out
        What to train, and where results go; rooms must be there already.
    devices : sequence of str
        Processes take them in turn.
    jobs : int
        Number of processes.
    seconds : float
        No cell is begun that would end later than this, judged by the slowest one so far.
    say : callable
        Takes one line for each cell.

    Returns
    -------
    (int, int)
        Cells that failed, and cells that were not begun: no time was left, or a process was lost (killed, say, for
        want of memory).
    """
    begin, slowest, failed, broken = time.perf_counter(), 0.0, 0, False
    waiting, running = list(reversed(cells)), dict[Future[tuple[dict[str, Any], float]], Cell]()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _begin, (list(devices), context.Value("i", 0))) as pool:
        while waiting or running:
            late = time.perf_counter() - begin + slowest > seconds
            while waiting and len(running) < jobs and not late and not broken:
                try:
                    running[pool.submit(_train, waiting[-1], settings, out)] = waiting[-1]
                except BrokenProcessPool:
                    broken = True
                    break
                waiting.pop()
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                cell = running.pop(future)
                at = f"[{len(cells) - len(waiting) - len(running)}/{len(cells)}, {time.perf_counter() - begin:.0f} s]"
                error = future.exception()
                if error is not None:
                    failed += 1
                    say(f"{at} {cell}: {type(error).__name__}: {error}")
                    continue
                result, took = future.result()
                slowest = max(slowest, took)
                last = result["curve"][-1]
                say(
                    f"{at} {cell}: AP {last['ap']:.3f} AP50 {last['ap50']:.3f}, without NMS {last['raw_ap']:.3f}, "
                    f"loss {last['loss']:.2f}, {last['seconds']:.0f} s of training, {took:.0f} s in all"
                )
    return failed, len(waiting)
