"""The curriculum in the host's trainer: its files become a mixture, its order the sampler."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from roborefer_spatial.curriculum import Curriculum, draw_rows, rank_rows
from roborefer_spatial.host.api import import_host
from roborefer_spatial.host.data.registry import register_file
from roborefer_spatial.host.options import LaunchOptions

logger = logging.getLogger(__name__)


class CurriculumSampler(Sampler[int]):
    """Row indices of one process, stage after stage; one pass over it is the whole run.

    Parameters
    ----------
    curriculum : Curriculum
        The stages.
    pools : sequence of (n,) int64
        Row indices of each stage in the whole data set.
    rank, world_size, batch_size, accumulation : int
        As the trainer has them; one step takes world_size x batch_size x accumulation rows.
    seed : int
        Decides the order.
    """

    def __init__(
        self, curriculum: Curriculum, pools: Sequence[np.ndarray], *,
        rank: int, world_size: int, batch_size: int, accumulation: int, seed: int,
    ) -> None:  # fmt: skip
        self.curriculum, self.pools, self.seed = curriculum, pools, seed
        self.rank, self.world_size, self.batch_size, self.accumulation = (
            rank,
            world_size,
            batch_size,
            accumulation,
        )

    def __len__(self) -> int:
        return self.curriculum.max_steps * self.batch_size * self.accumulation

    def __iter__(self) -> Iterator[int]:
        per_step = self.world_size * self.batch_size * self.accumulation
        for number, (steps, pool) in enumerate(zip(self.curriculum.steps, self.pools, strict=True)):
            rows = draw_rows(pool, steps * per_step, (self.seed, number))
            yield from rank_rows(rows, rank=self.rank, world_size=self.world_size, batch_size=self.batch_size)


def with_curriculum(options: LaunchOptions, curriculum: Curriculum) -> LaunchOptions:
    """Return options whose host command line fits the curriculum: `--max_steps` is its last step.

    Raises
    ------
    ValueError
        If the command line asks for another number of steps or for other data.
    """
    given = options.value("--max_steps")
    if given is not None and given != str(curriculum.max_steps):
        raise ValueError(f"--max_steps {given}, but the curriculum ends at step {curriculum.max_steps}; leave it out")
    for flag in ("--data_path", "--data_mixture"):
        if options.value(flag):
            raise ValueError(f"{flag} {options.value(flag)} and a curriculum: only one of them can be obeyed")
    words = (*options.host_arguments, "--max_steps", str(curriculum.max_steps), "--data_mixture", "")
    return replace(options, host_arguments=words, curriculum=curriculum)


def install_curriculum(options: LaunchOptions) -> None:
    """Make the imported host train on the options' curriculum."""
    assert options.curriculum is not None
    curriculum = options.curriculum
    train = import_host("llava.train.train")
    trainer = import_host("llava.train.llava_trainer").LLaVATrainer
    make = train.make_supervised_data_module
    pools: list[np.ndarray] = []

    @functools.wraps(make)
    def make_supervised_data_module(tokenizer: Any, data_args: Any, training_args: Any) -> Any:
        folders = {"image_folder": data_args.image_folder, "depth_path": options.depth_path}
        names = {path: register_file(path, whole=True, **folders) for path in curriculum.files}
        data_args.data_mixture = "+".join(names.values())
        module = make(tokenizer=tokenizer, data_args=data_args, training_args=training_args)
        # The host sorts the names of a mixture, and so its rows.
        sizes = dict(zip(sorted(names.values()), training_args.sample_lens, strict=True))
        starts = dict(zip(sizes, np.cumsum([0, *sizes.values()])))
        pools[:] = [_pool(stage.data, names, starts, sizes) for stage in curriculum.stages]
        _log_stages(curriculum, pools, training_args)
        return module

    def get_train_sampler(self: Any) -> CurriculumSampler:
        return CurriculumSampler(
            curriculum, pools, rank=self.args.process_index, world_size=self.args.world_size,
            batch_size=self.args.train_batch_size, accumulation=self.args.gradient_accumulation_steps,
            seed=self.args.data_seed if self.args.data_seed is not None else self.args.seed,
        )  # fmt: skip

    train.make_supervised_data_module = make_supervised_data_module
    trainer._get_train_sampler = get_train_sampler


def _pool(files: Sequence[Path], names: dict[Path, str], starts: dict[str, int], sizes: dict[str, int]) -> np.ndarray:
    ranges = [np.arange(starts[names[file]], starts[names[file]] + sizes[names[file]]) for file in files]
    return np.concatenate(ranges).astype(np.int64)


def _log_stages(curriculum: Curriculum, pools: Sequence[np.ndarray], training_args: Any) -> None:
    per_step = training_args.world_size * training_args.train_batch_size * training_args.gradient_accumulation_steps
    for stage, steps, pool in zip(curriculum.stages, curriculum.steps, pools):
        logger.info(
            "stage %s: to step %d, %d rows, %.2f passes",
            stage.name,
            stage.max_steps,
            len(pool),
            steps * per_step / len(pool),
        )
