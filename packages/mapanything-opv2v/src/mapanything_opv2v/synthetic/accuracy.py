"""How far a panorama is from the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mapanything_opv2v.panorama import Panorama
from mapanything_opv2v.synthetic import TruePanorama


@dataclass(frozen=True)
class RangeErrors:
    """Differences in range where both panoramas have one.

    Attributes
    ----------
    median_m, mean_m : float
        Of the absolute difference, metres.
    median_relative : float
        Of the absolute difference over the true range.
    recall : float
        Share of the pixels with a true range that have one.
    ghosts : float
        Share of all pixels that have a range where truth is sky.
    """

    median_m: float
    mean_m: float
    median_relative: float
    recall: float
    ghosts: float


def range_errors(panorama: Panorama, truth: TruePanorama) -> RangeErrors:
    """Compare ranges.

    Raises
    ------
    ValueError
        If no pixel has a range in both.
    """
    both = panorama.has_range & (truth.range_m > 0)
    if not both.any():
        raise ValueError("no pixel has a range in both the panorama and the truth")
    expected = truth.range_m[both].astype(np.float64)
    error = np.abs(panorama.range_m[both] - expected)
    return RangeErrors(
        median_m=float(np.median(error)),
        mean_m=float(error.mean()),
        median_relative=float(np.median(error / expected)),
        recall=float(both.sum() / (truth.range_m > 0).sum()),
        ghosts=float((panorama.has_range & truth.sky).mean()),
    )


def psnr_db(image: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8], where: npt.NDArray[Any]) -> float:
    """Return the peak signal-to-noise ratio in dB over the pixels `where` (H, W) of two (H, W, 3) images."""
    difference = image[where].astype(np.float64) - truth[where]
    return float(10 * np.log10(255**2 / max(float(np.mean(difference**2)), 1e-12)))
