"""A fixed number of steps an epoch: the same on any number of GPUs, before and after a resume.

A step is one batch on every process. All processes of a step draw the same resolution and view count, so that
none waits for another, and different samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from mapanything_opv2v.samples.choose import sample_rng

Index = tuple[int, ...]
"""(sample, resolution number) or (sample, resolution number, view count number). `sample // samples` is how often
the set has been used up before, `sample % samples` its place in the set."""


def steps_of_epoch(
    *,
    steps_per_epoch: int | None,
    max_sets_per_epoch: int | None,
    designed_for_gpus: int,
    largest_batch: int,
) -> int:
    """Return the steps of an epoch.

    Parameters
    ----------
    steps_per_epoch
        The steps themselves; None derives them.
    max_sets_per_epoch
        Multi-view sets that an epoch may draw on `designed_for_gpus` GPUs, counted as the host's sampler does, with
        the largest batch: 40,000 sets in batches of at most 2 on 4 GPUs are 5,000 steps. None sets no limit.
    designed_for_gpus
        GPUs that the sets are meant for, whatever the number the run has.
    largest_batch
        Sets in the largest batch of one GPU.

    Raises
    ------
    ValueError
        If neither is given, a value is below 1, no step remains, or the steps need more sets than allowed.
    """
    given = {"steps_per_epoch": steps_per_epoch, "max_sets_per_epoch": max_sets_per_epoch}
    for name, value in {**given, "designed_for_gpus": designed_for_gpus}.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f"{name}={value!r}: expected an integer of at least 1")
    if max_sets_per_epoch is None:
        if steps_per_epoch is None:
            raise ValueError("neither steps_per_epoch nor max_sets_per_epoch is given: set one of them")
        return steps_per_epoch
    sets_per_step = largest_batch * designed_for_gpus
    steps = max_sets_per_epoch // sets_per_step
    if steps == 0:
        raise ValueError(
            f"max_sets_per_epoch={max_sets_per_epoch} is less than one step of {largest_batch} sets on each of "
            f"designed_for_gpus={designed_for_gpus} GPUs; raise it to at least {sets_per_step}"
        )
    if steps_per_epoch is None:
        return steps
    if steps_per_epoch > steps:
        raise ValueError(
            f"steps_per_epoch={steps_per_epoch} needs {steps_per_epoch * sets_per_step} sets, more than "
            f"max_sets_per_epoch={max_sets_per_epoch}; raise it, or set it to null"
        )
    return steps_per_epoch


class FixedStepsSampler:
    """Yields `steps` batches of indices for one process; what it yields depends on the arguments and the epoch only.

    Parameters
    ----------
    steps
        Batches of an epoch.
    samples
        Size of the set. Where an epoch draws more, the set is shuffled anew and used again.
    batch_sizes
        Samples of a batch by view count number.
    resolutions
        How many resolutions there are to draw from.
    world_size, rank
        Number of processes, and which one this is.
    """

    def __init__(
        self,
        *,
        steps: int,
        samples: int,
        batch_sizes: Sequence[int],
        resolutions: int = 1,
        world_size: int = 1,
        rank: int = 0,
    ) -> None:
        if samples < 1:
            raise ValueError("the data set is empty: there is nothing to draw from")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank={rank} is not a process of world_size={world_size}")
        self.steps, self.samples, self.batch_sizes = steps, samples, tuple(batch_sizes)
        self.resolutions, self.world_size, self.rank = resolutions, world_size, rank
        self.epoch: int | None = None

    def __len__(self) -> int:
        """Return the number of steps."""
        return self.steps

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch to draw."""
        self.epoch = int(epoch)

    def __iter__(self) -> Iterator[list[Index]]:
        """Yield one list of indices per step.

        Raises
        ------
        ValueError
            If no epoch was set.
        """
        if self.epoch is None:
            raise ValueError("FixedStepsSampler: call set_epoch before drawing; every epoch is another order")
        epoch = self.epoch
        rng = sample_rng("fixed steps", epoch)

        @lru_cache(maxsize=2)
        def order(repetition: int) -> np.ndarray:
            return sample_rng("order of the set", epoch, repetition).permutation(self.samples)

        def sample(number: int) -> int:
            repetition, place = divmod(number, self.samples)
            return repetition * self.samples + int(order(repetition)[place])

        drawn = 0  # by all processes, so far
        for _ in range(self.steps):
            resolution, count = int(rng.integers(self.resolutions)), int(rng.integers(len(self.batch_sizes)))
            size = self.batch_sizes[count]
            tail = (resolution, count) if len(self.batch_sizes) > 1 else (resolution,)
            first = drawn + self.rank * size
            yield [(sample(number), *tail) for number in range(first, first + size)]
            drawn += self.world_size * size
