"""Samples whose outputs are not finite, left out of a step instead of ending the run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from influencer_mmdet3d.loss.sample import Sample

MODES = ("raise", "skip")
IN_A_ROW = 20
"""Steps in a row that may leave samples out; a run that is broken rather than unlucky ends after them."""


class Sieve:
    """Parts samples with finite outputs from the others, and counts the steps in which there were others.

    Parameters
    ----------
    owner : str
        The class that the user called, for messages.
    say : callable
        Takes a message and its level.
    """

    def __init__(self, owner: str, say: Callable[..., None]) -> None:
        self.row = 0
        self._owner, self._say = owner, say

    def split(self, samples: Sequence[Sample]) -> tuple[list[Sample], Tensor | None]:
        """Return the samples to train on, and a zero that keeps the outputs of the others in the graph.

        Reads every output once and waits for the device.

        Raises
        ------
        FloatingPointError
            When more than `IN_A_ROW` steps in a row had to leave samples out.
        """
        finite = torch.stack([_finite(sample) for sample in samples]).tolist()
        if all(finite):
            self.row = 0
            return list(samples), None
        self.row += 1
        left = [index for index, fine in enumerate(finite) if not fine]
        said = f"samples {left} of {len(samples)} have outputs that are not finite"
        if self.row > IN_A_ROW:
            raise FloatingPointError(
                f"{self._owner}: {said}, and so it was in the {IN_A_ROW} steps before: the run has diverged. Go "
                "back to an earlier checkpoint with a lower learning rate, gradient clipping, or bf16 instead of fp16"
            )
        self._say(f"{self._owner}: {said}; skipped (nonfinite='skip')", logging.WARNING)
        outputs = [x for index in left for x in _outputs(samples[index])]
        nothing = sum((torch.where(x.isfinite(), x, 0).sum() * 0.0 for x in outputs), outputs[0].new_zeros(()))
        return [sample for sample, fine in zip(samples, finite) if fine], nothing.float()


def _outputs(sample: Sample) -> list[Tensor]:
    return [*sample.masks, *sample.classes, *sample.scores]


def _finite(sample: Sample) -> Tensor:
    return torch.stack([x.detach().isfinite().all() for x in _outputs(sample)]).all()
