"""Which views of an object are asked about together: (reference A, query B), and how many of them.

Choices among pairs are ranked by a hash of stable keys, so that neither other objects nor other pairs change
which ones are kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from roborefer_spatial.tasks.masks import SEED_BITS, sample_seed

Pair = tuple[int, int]

MODES = ("anchor", "allpairs")


def ordered_pairs(numbers: Sequence[int], references: Sequence[int]) -> list[Pair]:
    """Return (A, B) for every reference A and every other view B, in the order given."""
    return [(a, b) for a in references for b in numbers if a != b]


def limit_pairs(pairs: Sequence[Pair], limit: int | None, seed: int, *keys: str) -> list[Pair]:
    """Return at most `limit` pairs in their order (all for None); which ones depends on seed and keys."""
    if limit is None or len(pairs) <= limit:
        return list(pairs)
    ranked = sorted(pairs, key=lambda pair: _rank(seed, "limit", *keys, pair))
    kept = set(ranked[:limit])
    return [pair for pair in pairs if pair in kept]


def thin_negatives(
    pairs: Sequence[Pair], visible: Sequence[bool], ratio: float | None, seed: int, *keys: str
) -> list[Pair]:
    """Return the pairs with about `ratio` not visible ones for every visible one; None keeps all.

    For one object the number kept is ratio x visible, rounded up or down by chance so that its expectation is
    exact: 3 visible pairs at ratio 0.5 keep 1 or 2. All visible pairs are kept.
    """
    negatives = [pair for pair, seen in zip(pairs, visible) if not seen]
    if ratio is None:
        return list(pairs)
    chance = sample_seed(seed, "ratio", *keys) / 2**SEED_BITS
    wanted = math.floor(ratio * (len(pairs) - len(negatives)) + chance)
    kept = set(sorted(negatives, key=lambda pair: _rank(seed, "negative", *keys, pair))[:wanted])
    return [pair for pair, seen in zip(pairs, visible) if seen or pair in kept]


def _rank(seed: int, purpose: str, *keys: str | Pair) -> int:
    return sample_seed(seed, purpose, *map(str, keys))
