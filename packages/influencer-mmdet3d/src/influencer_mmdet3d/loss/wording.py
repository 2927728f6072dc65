"""How messages name what a caller gave: plain samples here, an adapter's own words where there is a host."""

from __future__ import annotations

import logging
from typing import NamedTuple

_log = logging.getLogger("influencer_mmdet3d")


class Wording(NamedTuple):
    """The words of one caller.

    Attributes
    ----------
    owner : str
        The class that the user called.
    labels : str
        Labels of a sample; `{sample}` stands for its number.
    heads : tuple of str
        Mask logits, class logits and scores.
    last, earlier : str
        The last layer, and one before it; `{layer}` stands for its number.
    """

    owner: str = "InfluencerSetLoss"
    labels: str = "sample {sample}: labels"
    heads: tuple[str, str, str] = ("masks", "classes", "scores")
    last: str = "the last layer"
    earlier: str = "layer {layer}"

    def layer(self, layer: int, layers: int) -> str:
        """Return the name of a layer."""
        return self.last if layer == layers - 1 else self.earlier.format(layer=layer)

    def label_error(self, sample: int, instance: int, label: int, num_classes: int) -> ValueError:
        """Return the error for a label outside [0, num_classes)."""
        return ValueError(
            f"{self.labels.format(sample=sample)}: instance {instance} has label {label}, expected "
            f"0..{num_classes - 1} (num_classes={num_classes}); `influencer-mmdet3d check` finds such scenes"
        )

    def finite_error(self, layer: int, layers: int, sample: int, head: int, groups: int = 1) -> FloatingPointError:
        """Return the error for outputs that are not finite.

        `head` is the place in `heads`; with groups, `sample` counts every group of every scene.
        """
        where = f"sample {sample}" if groups == 1 else f"sample {sample // groups}, group {sample % groups}"
        return FloatingPointError(
            f"{self.layer(layer, layers)}, {where}: {self.heads[head]} holds values that are not finite; lower "
            "the learning rate, clip gradients, or switch fp16 to bf16 or fp32"
        )


PLAIN = Wording()
MASKS, CLASSES, SCORES = range(3)
"""Places in `Wording.heads`."""


def say(message: str, level: int = logging.INFO) -> None:
    """Log a message; an adapter may have a logger of its own."""
    _log.log(level, message)
