"""`N @ dataset` and `N * dataset` that tell the dataset which epoch and which repetition it is in.

The host's own wrappers keep the epoch to themselves, so a dataset inside them cannot vary its views by epoch.
"""

from __future__ import annotations

from typing import Any

from mapanything.datasets.base.easy_dataset import EasyDataset, MulDataset, ResizedDataset


class StepsChecked(EasyDataset):
    """Refuses to make a sampler without a single step: the host would train for nothing and say nothing."""

    def make_sampler(self, *args: Any, **kwargs: Any) -> Any:
        """Return the host's sampler.

        Raises
        ------
        ValueError
            If it has no batch.
        """
        sampler = super().make_sampler(*args, **kwargs)
        if len(sampler) == 0:
            raise ValueError(
                f"an epoch of {len(self)} samples has no full batch ({self.num_views=}, {kwargs}); draw more "
                "samples an epoch (dataset.opv2v.train.samples_per_epoch) or allow fewer images per GPU "
                "(train_params.max_num_of_imgs_per_gpu)"
            )
        return sampler


class EpochResizedDataset(StepsChecked, ResizedDataset):
    """The host's `N @ dataset`, with `set_epoch` handed on."""

    def set_epoch(self, epoch: int) -> None:
        """Draw the epoch's indices, as the host does, and tell the dataset the epoch."""
        super().set_epoch(epoch)
        self.dataset.set_epoch(epoch)


class EpochMulDataset(StepsChecked, MulDataset):
    """The host's `N * dataset`, with `set_epoch` handed on and every repetition drawn anew."""

    _outer_offset = 0

    def set_epoch(self, epoch: int) -> None:
        """Tell the dataset the epoch."""
        self.dataset.set_epoch(epoch)

    def _set_seed_offset(self, offset: int) -> None:
        """Take the repetition of `M @ (N * dataset)`."""
        self._outer_offset = int(offset)

    def __getitem__(self, idx: int | tuple[int, ...]) -> list[dict[str, Any]]:
        """Return a sample; the repetition number varies its random stream."""
        number = int(idx[0] if isinstance(idx, tuple) else idx)
        self.dataset._set_seed_offset(self._outer_offset * self.multiplicator + number % self.multiplicator)
        return super().__getitem__(idx)
