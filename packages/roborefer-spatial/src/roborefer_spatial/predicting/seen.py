"""The size at which a model is given an image, where its processor resizes it and its answers are in pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resize:
    """The rule of Qwen's processors: sides are multiples of `factor`, the area is within two limits.

    Attributes
    ----------
    factor
        Patch size times merge size.
    min_pixels, max_pixels
        Limits of the area in pixels.
    """

    factor: int
    min_pixels: int
    max_pixels: int

    def __post_init__(self) -> None:
        if self.factor < 1 or not 0 < self.min_pixels <= self.max_pixels:
            raise ValueError(f"resize: factor at least 1 and 0 < min_pixels <= max_pixels, got {self}")

    def size(self, size_wh: tuple[int, int]) -> tuple[int, int]:
        """Return the (width, height) that an image of size_wh gets."""
        width, height = size_wh
        factor = self.factor
        new_w, new_h = (round(side / factor) * factor for side in (width, height))
        if new_w * new_h > self.max_pixels:
            shrink = math.sqrt(width * height / self.max_pixels)
            new_w, new_h = (max(factor, math.floor(s / shrink / factor) * factor) for s in (width, height))
        elif new_w * new_h < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (width * height))
            new_w, new_h = (math.ceil(side * grow / factor) * factor for side in (width, height))
        return new_w, new_h
