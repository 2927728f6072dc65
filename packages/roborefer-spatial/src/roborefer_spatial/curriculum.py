"""A staged curriculum: which files are trained on until which step, and the order of rows that follows.

One run, one optimizer and one learning-rate schedule go through all stages; a stage ends when the global step
reaches its cumulative `max_steps`. Every row index follows from the seed, the stage and the pass, so that a
resumed
run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes
    ----------
    name : str
        For logs.
    data : tuple of Path
        Training files; their rows are shuffled together.
    max_steps : int
        Global step at which the stage ends (cumulative, as `--max-steps` counts).
    """

    name: str
    data: tuple[Path, ...]
    max_steps: int


@dataclass(frozen=True)
class Curriculum:
    """Stages in order, with rising `max_steps`."""

    stages: tuple[Stage, ...]

    @property
    def max_steps(self) -> int:
        """Global step at which the last stage ends."""
        return self.stages[-1].max_steps

    @property
    def files(self) -> tuple[Path, ...]:
        """Every training file once, in order of first use."""
        return tuple(dict.fromkeys(path for stage in self.stages for path in stage.data))

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps of each stage by itself."""
        ends = [stage.max_steps for stage in self.stages]
        return tuple(end - start for start, end in zip([0, *ends], ends))


def load_curriculum(path: str | os.PathLike[str], data_root: str | os.PathLike[str] | None = None) -> Curriculum:
    """Read a curriculum YAML.

    Parameters
    ----------
    path : path
        `stages:` with a list of `name`, `data` (file or list of files) and `max_steps` (cumulative);
        optionally
        `data_root`, relative to the YAML, which relative files start from (default: the YAML's folder).
    data_root : path or None
        Overrides the YAML's `data_root`.

    Raises
    ------
    ValueError
        Naming the file, the stage and the key.
    """
    path = Path(path)
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError(f"{path}: cannot be read as a curriculum (nested too deeply)") from error
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: not UTF-8, no date, too many digits
        raise ValueError(f"{path}: cannot be read as a curriculum ({error})") from error
    where = str(path)
    _check_keys(document, {"stages", "data_root"}, where)
    stages = document.get("stages")
    if not isinstance(stages, list) or not stages:
        raise ValueError(f"{where}, stages: must be a list of stages, got {stages!r}")
    root = Path(data_root) if data_root is not None else path.resolve().parent / str(document.get("data_root") or "")
    read = tuple(_stage(stage, root, f"{where}, stages[{index}]") for index, stage in enumerate(stages))
    for before, after in itertools.pairwise(read):
        if after.max_steps <= before.max_steps:
            raise ValueError(
                f"{where}: stage {after.name!r} ends at step {after.max_steps}, the stage before it at "
                f"{before.max_steps}; max_steps is cumulative and must rise"
            )
    return Curriculum(read)


def _stage(value: Any, root: Path, where: str) -> Stage:
    _check_keys(value, {"name", "data", "max_steps"}, where)
    name, data, max_steps = (value.get(key) for key in ("name", "data", "max_steps"))
    if not isinstance(name, str) or not name:
        raise ValueError(f"{where}, name: must be a text, got {name!r}")
    names = [data] if isinstance(data, str) else data
    if not isinstance(names, list) or not names or not all(isinstance(item, str) and item for item in names):
        raise ValueError(f"{where}, data: must be a file or a list of files, got {data!r}")
    if isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1:
        raise ValueError(f"{where}, max_steps: must be a positive integer, got {max_steps!r}")
    files = tuple(root / item for item in names)
    for file in files:
        if not os.path.isfile(file):  # noqa: PTH113  (Path.is_file raises for a name that is too long)
            raise ValueError(f"{where}, data: {file} does not exist")
    if len(set(files)) < len(files):
        raise ValueError(f"{where}, data: a file is listed twice; rows are drawn evenly, so it would do nothing")
    return Stage(name, files, max_steps)


def _check_keys(value: Any, known: set[str], where: str) -> None:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: must be a mapping, got {type(value).__name__}")
    if unknown := set(value) - known:
        raise ValueError(f"{where}: unknown key {sorted(map(str, unknown))}; known: {sorted(known)}")


def draw_rows(pool: NDArray[np.int64], count: int, seed: Sequence[int]) -> NDArray[np.int64]:
    """Draw `count` row indices: the pool in a random order, then in another one, until there are enough.

    Parameters
    ----------
    pool : (n,) int64
        Row indices of a stage.
    count : int
        How many are wanted.
    seed : sequence of int
        Stable keys; the number of the pass is added.

    Returns
    -------
    (count,) int64
        Every row of the pool occurs floor(count / n) or ceil(count / n) times.
    """
    passes = -(-count // len(pool))
    orders = [np.random.default_rng([*seed, number]).permutation(pool) for number in range(passes)]
    return np.concatenate(orders)[:count] if orders else np.empty(0, np.int64)


def rank_rows(rows: NDArray[np.int64], *, rank: int, world_size: int, batch_size: int) -> Iterator[int]:
    """Yield one process's share of an order: batch k of the run goes to process k mod world_size."""
    batches = rows.reshape(-1, world_size, batch_size)
    yield from (int(row) for row in batches[:, rank].reshape(-1))
