"""What every form of the loss returns."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class InfluencerTerms(NamedTuple):
    """The three terms of the loss, each a mean: scalars for one scene, (E,) for E layers and samples.

    Attributes
    ----------
    attraction : Tensor
        Over instances.
    repulsion : Tensor
        Over pairs of instances.
    background : Tensor
        Over queries and the points of no instance.
    """

    attraction: Tensor
    repulsion: Tensor
    background: Tensor
