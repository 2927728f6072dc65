"""Intervals of proportions that are right at the ends: Wilson's, with an effective number of samples.

Resampling scenes says nothing where every scene has the same result: 0 hits of 28 give draws of 0 only, and
the interval [0, 0]. Wilson's interval (Wilson, JASA 22, 1927) inverts the normal test of a proportion and is
[0, 0.12] there. Samples of one scene are not independent, so it is taken at the effective number of samples
(Kish, Survey Sampling, 1965; Dean and Pagano, J. Survey Stat. Methodol. 3, 2015): the number of independent
samples that would scatter as much as the scenes do.
"""

from __future__ import annotations

import math
from statistics import NormalDist


def interval(proportion: float, count: float, level: float) -> tuple[float, float]:
    """Return Wilson's interval of a proportion of `count` independent samples (need not be whole).

    >>> [round(v, 3) for v in interval(0.0, 28, 0.95)]
    [0.0, 0.121]
    """
    if count <= 0 or not 0 <= proportion <= 1:
        raise ValueError(f"a proportion is in 0..1 and its count above 0, got {proportion} of {count}")
    z = NormalDist().inv_cdf((1 + level) / 2)
    spread = z * math.sqrt(proportion * (1 - proportion) / count + z * z / (4 * count * count))
    middle, scale = proportion + z * z / (2 * count), 1 + z * z / count
    low, high = (middle - spread) / scale, (middle + spread) / scale
    return (0.0 if proportion == 0 else max(0.0, low)), (1.0 if proportion == 1 else min(1.0, high))


def effective_count(proportion: float, variance: float, samples: float, scenes: float) -> float:
    """Return the number of independent samples that scatter as much as `variance` of the proportion.

    At most `samples`. Where the proportion is 0 or 1 the scenes show no scatter to judge by: then the number
    of scenes with such samples, as if those of one scene always shared one result. At least 1.
    """
    if not 0 < proportion < 1 or variance <= 0:
        return max(1.0, min(samples, scenes))
    return max(1.0, min(samples, proportion * (1 - proportion) / variance))
