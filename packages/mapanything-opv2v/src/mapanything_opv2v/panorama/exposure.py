"""One gain per camera, so that neighbours are equally bright where they overlap.

Gains multiply pixel values as they stand in the files (a change of exposure does so in gamma-encoded values too, by
another power). Nothing is known of a camera without overlap: it keeps its brightness.

Legend: C cameras, H rows and W columns of a panorama in which each camera stands alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt

MIN_PIXELS = 150
"""Overlaps with fewer pixels of that panorama say nothing."""

MAX_GAIN = 2.0
"""Largest factor up or down; what asks for more is no matter of exposure."""

_DARK, _BRIGHT = 8.0, 247.0  # beyond, pixels are black or saturated and tell no ratio
_BLUR_PX = 2.0  # parallax moves things by so much
_PRIOR = 0.05**2 / 0.2**2
"""Overlaps tell a ratio to 5 %, cameras differ from the rig's mean by 20 %: errors of single overlaps do not add up
around a rig (as Brown and Lowe's gain compensation does it)."""

_NOTHING = 1e-9  # holds cameras without overlap

Pairs = Mapping[tuple[int, int], tuple[float, int]]
"""Pair of cameras to the logarithm of first / second brightness, and the number of pixels that say so."""


def overlap_ratios(alone: Sequence[npt.NDArray[np.uint8]], seen: Sequence[npt.NDArray[np.bool_]]) -> Pairs:
    """Compare brightness where two cameras overlap.

    Parameters
    ----------
    alone : sequence of (H, W, 3) uint8
        Each camera's image in the panorama.
    seen : sequence of (H, W) bool
        Where it has one.
    """
    gray = []
    for image, mask in zip(alone, seen):
        value = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
        weight = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), _BLUR_PX)
        smooth = cv2.GaussianBlur(np.where(mask, value, 0).astype(np.float32), (0, 0), _BLUR_PX)
        gray.append(np.divide(smooth, weight, out=np.zeros_like(smooth), where=weight > 1e-3))
    found = {}
    for i, j in itertools.combinations(range(len(gray)), 2):
        both = seen[i] & seen[j]
        for value in (gray[i], gray[j]):
            both = both & (value > _DARK) & (value < _BRIGHT)
        count = int(np.count_nonzero(both))
        if count >= MIN_PIXELS:
            found[i, j] = (float(np.median(np.log(gray[i][both]) - np.log(gray[j][both]))), count)
    return found


def camera_gains(pairs: Pairs, cameras: int) -> npt.NDArray[np.float64]:
    """Return factors (C,) that bring neighbours together; as little change as possible, 1 without overlap.

    Examples
    --------
    >>> camera_gains({(0, 1): (math.log(4.0), 1000)}, 3).round(1).tolist()
    [0.5, 2.0, 1.0]
    """
    total = sum(count for _, count in pairs.values()) or 1
    normal, right = np.eye(cameras) * _NOTHING, np.zeros(cameras)
    for (i, j), (ratio, count) in pairs.items():
        row, both = np.zeros(cameras), np.zeros(cameras)
        row[i], row[j] = 1, -1
        both[[i, j]] = _PRIOR
        normal += (np.outer(row, row) + np.diag(both)) * count / total
        right -= row * ratio * count / total
    logs = np.linalg.solve(normal, right)
    return np.exp(np.clip(logs, -math.log(MAX_GAIN), math.log(MAX_GAIN)))


def steps(pairs: Pairs, gains: npt.NDArray[np.float64] | None = None) -> dict[tuple[int, int], float]:
    """Return by how much brightness jumps from one camera to the next: |ratio - 1| by pair, after gains if given."""
    factors = np.ones(1 + max((j for _, j in pairs), default=0)) if gains is None else gains
    return {(i, j): abs(math.exp(ratio) * factors[i] / factors[j] - 1) for (i, j), (ratio, _) in pairs.items()}


def apply_gain(image: npt.NDArray[np.uint8], gain: float) -> npt.NDArray[np.uint8]:
    """Return an image multiplied by a gain."""
    table = np.clip(np.rint(np.arange(256) * gain), 0, 255).astype(np.uint8)
    return table[image]
