"""What every form of the loss returns."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class InfluencerTerms(NamedTuple):
    """The three terms, each a mean over what it speaks of; scalars, or (E,) where entries are kept apart."""

    attraction: Tensor
    repulsion: Tensor
    background: Tensor
