"""`FixedSteps(dataset, ...)`: a data set whose training epoch has a fixed number of steps."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from mapanything.datasets.base.easy_dataset import EasyDataset

from mapanything_opv2v.samples.steps import FixedStepsSampler, steps_of_epoch

logger = logging.getLogger(__name__)


def leaves(dataset: Any) -> Iterator[Any]:
    """Yield the data sets inside wrappers and sums."""
    inner = getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]
    if inner == [None]:
        yield dataset
    for part in inner:
        if part is not None:
            yield from leaves(part)


def scene_count(dataset: Any) -> int:
    """Return how many scenes there are, whatever number the wrappers around them draw."""
    return sum(len(leaf) for leaf in leaves(dataset))


class FixedSteps(EasyDataset):
    """Draws `steps_per_epoch` batches an epoch, on any number of GPUs.

    Takes the place of `N @ dataset` in `dataset.train_dataset`. The host counts N / largest batch / GPUs steps
    instead, so another number of GPUs is another schedule.

    Parameters
    ----------
    dataset : EasyDataset
        Where samples come from; used again and again until the steps are done.
    steps_per_epoch, max_sets_per_epoch, designed_for_gpus
        See `samples.steps.steps_of_epoch`; one of the first two is needed.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        steps_per_epoch: int | None = None,
        max_sets_per_epoch: int | None = None,
        designed_for_gpus: int = 1,
    ) -> None:
        self.dataset = dataset
        self._limits: dict[str, Any] = {
            "steps_per_epoch": steps_per_epoch,
            "max_sets_per_epoch": max_sets_per_epoch,
            "designed_for_gpus": designed_for_gpus,
        }
        steps_of_epoch(**self._limits, largest_batch=1)  # bad values are told before the data is read

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self.dataset)

    def __repr__(self) -> str:
        """Return the call."""
        limits = ", ".join(f"{name}={value}" for name, value in self._limits.items() if value is not None)
        return f"FixedSteps({self.dataset!r}, {limits})"

    @property
    def num_views(self) -> int | list[int]:
        """Return the view counts of the set."""
        return self.dataset.num_views

    @property
    def _resolutions(self) -> list[tuple[int, int]]:
        return self.dataset._resolutions

    def set_epoch(self, epoch: int) -> None:
        """Tell the set the epoch."""
        self.dataset.set_epoch(epoch)

    def make_sampler(
        self,
        *,
        shuffle: bool = True,
        world_size: int = 1,
        rank: int = 0,
        drop_last: bool = True,
        max_num_of_images_per_gpu: int | None = None,
        use_dynamic_sampler: bool = True,
        batch_size: int | None = None,
    ) -> FixedStepsSampler:
        """Return the sampler of one process, and log its length on the first.

        Raises
        ------
        ValueError
            If it is asked for anything but shuffled full batches by image budget, as training loaders are.
        """
        if not (shuffle and drop_last and use_dynamic_sampler) or batch_size is not None:
            raise ValueError(
                f"FixedSteps is for training loaders: {shuffle=}, {drop_last=}, {use_dynamic_sampler=}, {batch_size=}"
            )
        if max_num_of_images_per_gpu is None:
            raise ValueError("FixedSteps: max_num_of_images_per_gpu is missing (train_params.max_num_of_imgs_per_gpu)")
        counts = self.num_views if isinstance(self.num_views, list) else [self.num_views]
        sizes = [max(1, max_num_of_images_per_gpu // count) for count in counts]
        steps = steps_of_epoch(**self._limits, largest_batch=max(sizes))
        if rank == 0:
            logger.info(
                "train sampler: %d steps an epoch on any number of GPUs (here %d), batches of %s sets for view "
                "counts %s, %d scenes",
                steps,
                world_size,
                sizes,
                counts,
                scene_count(self),
            )
        return FixedStepsSampler(
            steps=steps,
            samples=len(self),
            batch_sizes=sizes,
            resolutions=len(self._resolutions),
            world_size=world_size,
            rank=rank,
        )

    def __getitem__(self, idx: tuple[int, ...]) -> list[dict[str, Any]]:
        """Return a sample of `FixedStepsSampler`; every time the set is used again, its samples are drawn anew."""
        repetition, place = divmod(int(idx[0]), len(self))
        for leaf in leaves(self):
            leaf._set_seed_offset(repetition)
        return self.dataset[(place, *idx[1:])]
