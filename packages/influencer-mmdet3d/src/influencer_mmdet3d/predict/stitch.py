"""Instances of overlapping tiles become instances of the whole cloud.

Two tiles see the same points where they overlap. Instances of the two that agree there, by intersection over union
of their points in the overlap, are one object. An instance is a sorted list of points, never a mask over the cloud.
Shape letters: ``N`` points of the cloud, ``T`` points of a tile, ``P`` points of an instance, ``K`` instances.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import numpy.typing as npt

from influencer_mmdet3d.data.scratch import MEMORY, PART, Scratch
from influencer_mmdet3d.predict.tiles import Rows, row_type

AGREE = 0.5
"""Least IoU in the overlap of two instances that are one object."""
COVERED = 0.8
"""Share of an instance that lies in a better one of another tile, beyond which it is dropped."""
_MANY = 1 << 22
"""Points of instances that are looked at before the memory of their lists is let go."""


@dataclass(frozen=True)
class Piece:
    """An instance as one tile sees it.

    Attributes
    ----------
    tile : int
        Number of the tile.
    rows : ndarray of integers, shape (P,)
        Points of the cloud, sorted.
    label : int
        Class.
    score : float
    """

    tile: int
    rows: Rows
    label: int
    score: float

    @cached_property
    def ends(self) -> tuple[int, int]:
        """Return its first and its last point."""
        return int(self.rows[0]), int(self.rows[-1])


def stitch(
    pieces: Sequence[Piece],
    tiles: Sequence[Rows],
    agree: float = AGREE,
    covered: float = COVERED,
    pairs: Iterable[tuple[int, int]] | None = None,
    scratch: Scratch = MEMORY,
) -> list[Piece]:
    """Join the pieces of all tiles.

    Parameters
    ----------
    pieces : sequence of Piece
        Of all tiles.
    tiles : sequence of ndarray of integers
        Sorted points of each tile.
    agree, covered : float
        See `AGREE` and `COVERED`.
    pairs : iterable of tuple, optional
        Tiles that may share points, by their numbers; by default any two.
    scratch : Scratch
        Makes lists of points.

    Returns
    -------
    list of Piece
        Best score first; the score of joined pieces is their mean, weighted by points, `tile` that of the largest.
    """
    parent = list(range(len(pieces)))
    by_tile: dict[int, list[int]] = {}
    for number, piece in enumerate(pieces):
        by_tile.setdefault(piece.tile, []).append(number)
    places = _Places(1 + max((int(rows[-1]) for rows in tiles if len(rows)), default=0), scratch)
    for first, second in combinations(range(len(tiles)), 2) if pairs is None else pairs:
        if first in by_tile and second in by_tile:
            common = places.mark(tiles[first]).among(tiles[second])
            if len(common):
                places.mark(common)
                for a, b in _agreeing(pieces, by_tile[first], by_tile[second], places, agree):
                    parent[_root(parent, a)] = _root(parent, b)
        scratch.release()
    groups: dict[int, list[Piece]] = {}
    for number, piece in enumerate(pieces):
        groups.setdefault(_root(parent, number), []).append(piece)
    joined = [_join(group, scratch) for group in groups.values()]
    for number, piece in enumerate(joined):
        if piece.ends and number % 64 == 0:  # the ends are looked up here and kept
            scratch.release()
    joined.sort(key=lambda piece: (-piece.score, piece.ends[0]))
    return _without_covered(joined, covered, places, scratch) if len(tiles) > 1 else joined


class _Places:
    """A set of points of a cloud, and the place of each in it; whether it holds a point is looked up, not searched.

    An entry for each point of the cloud is above `_floor` where the point is in the set: a new set raises the floor
    instead of clearing the entries.
    """

    def __init__(self, count: int, scratch: Scratch) -> None:
        self._entries, self._scratch = scratch.full(count, 0, np.int64), scratch
        self._floor, self.size = 0, 0

    def mark(self, rows: Rows) -> _Places:
        """Take sorted points as the set."""
        self._floor, self.size = self._floor + self.size, len(rows)
        for start in range(0, len(rows), PART):
            own = rows[start : start + PART]
            self._entries[own] = np.arange(self._floor + start + 1, self._floor + start + 1 + len(own))
        return self

    def of(self, rows: Rows) -> npt.NDArray[np.int64]:
        """Return the places in the set of those points that are in it."""
        places = self._entries[rows] - (self._floor + 1)
        return places[places >= 0]

    def among(self, rows: Rows) -> Rows:
        """Return those points that are in the set."""
        return rows[self._entries[rows] > self._floor]

    def count(self, rows: Rows) -> int:
        """Return how many of sorted points are in the set."""
        found = int(np.count_nonzero(self._entries[rows[:PART]] > self._floor))
        for start in range(PART, len(rows), PART):
            self._scratch.release()
            found += int(np.count_nonzero(self._entries[rows[start : start + PART]] > self._floor))
        return found


def _root(parent: list[int], number: int) -> int:
    while parent[number] != number:
        parent[number] = parent[parent[number]]
        number = parent[number]
    return number


def _agreeing(
    pieces: Sequence[Piece], first: Sequence[int], second: Sequence[int], common: _Places, agree: float
) -> list[tuple[int, int]]:
    """Return pairs of one class that are each other's best, by IoU among the points that both tiles see."""
    inside = {number: common.of(pieces[number].rows) for number in (*first, *second)}
    first = [number for number in first if len(inside[number])]
    second = [number for number in second if len(inside[number])]
    if not first or not second:
        return []
    iou = np.zeros((len(first), len(second)))
    for i, a in enumerate(first):
        mask = np.zeros(common.size, bool)
        mask[inside[a]] = True
        for j, b in enumerate(second):
            if pieces[a].label == pieces[b].label:
                both = int(np.count_nonzero(mask[inside[b]]))
                iou[i, j] = both / (len(inside[a]) + len(inside[b]) - both)
    best_of_first, best_of_second = iou.argmax(1), iou.argmax(0)
    return [
        (first[i], second[j])
        for i, j in enumerate(best_of_first)
        if iou[i, j] >= agree and iou[i, j] > 0 and best_of_second[j] == i
    ]


def _join(group: list[Piece], scratch: Scratch) -> Piece:
    if len(group) == 1:
        return group[0]
    largest = max(group, key=lambda piece: len(piece.rows))
    weights = [len(piece.rows) for piece in group]
    score = float(np.average([piece.score for piece in group], weights=weights))
    return Piece(largest.tile, _union([piece.rows for piece in group], scratch), largest.label, score)


def _union(lists: list[Rows], scratch: Scratch) -> Rows:
    """Return the points of sorted lists, sorted, each once; a range of the cloud after the other."""
    begin, end, total = (
        min(int(rows[0]) for rows in lists),
        1 + max(int(rows[-1]) for rows in lists),
        sum(map(len, lists)),
    )
    union = scratch.empty(total, row_type(end))
    filled, step = 0, max(PART, (end - begin) * PART // total)  # some `PART` points of the lists at a time
    for start in range(begin, end, step):
        bounds = [_between(rows, start, min(start + step, end)) for rows in lists]
        own = np.unique(np.concatenate([rows[low:high] for rows, (low, high) in zip(lists, bounds)]))
        union[filled : filled + len(own)] = own
        filled += len(own)
        scratch.release()
    return union[:filled]


def _between(rows: Rows, start: int, end: int) -> tuple[int, int]:
    """Return where those of sorted `rows` begin and end that are at least `start` and below `end`."""
    low, high = np.searchsorted(rows, np.array((start, end), rows.dtype))  # another type would copy all rows
    return int(low), int(high)


def _without_covered(pieces: list[Piece], covered: float, places: _Places, scratch: Scratch) -> list[Piece]:
    """Leave out what lies mostly in a better instance of the same class that another tile saw: a cut-off rest."""
    facts = np.array([(piece.tile, piece.label, len(piece.rows), *piece.ends) for piece in pieces]).reshape(-1, 5)
    tile, label, size, low, high = facts.T
    kept, looked_at = np.zeros(len(pieces), bool), 0
    for number, piece in enumerate(pieces):  # best first
        better = kept[:number] & (tile[:number] != tile[number]) & (label[:number] == label[number])
        better &= (low[:number] <= high[number]) & (low[number] <= high[:number])
        better &= size[:number] >= covered * size[number]  # a smaller one cannot cover it
        others = np.flatnonzero(better)
        if len(others):
            places.mark(piece.rows)
        kept[number] = not any(_covers(pieces[other].rows, piece.rows, covered, places) for other in others)
        looked_at += int(size[others].sum())
        if looked_at > _MANY:
            scratch.release()
            looked_at = 0
    return [piece for piece, stays in zip(pieces, kept) if stays]


def _covers(others: Rows, rows: Rows, covered: float, places: _Places) -> bool:
    """Tell whether a share of sorted `rows`, which are the marked set, is among sorted `others`."""
    low, high = _between(others, rows[0], rows[-1] + 1)
    least = covered * len(rows)
    return bool(high - low >= least and places.count(others[low:high]) >= least)


def deeper(best: npt.NDArray[np.float64], rows: Rows, depth: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Tell which points of a tile lie deeper in it than in any tile before, and remember how deep.

    Parameters
    ----------
    best : ndarray, shape (N,)
        How deep each point of the cloud lies in the tiles before; -inf to begin with. It is changed.
    rows : ndarray of integers, shape (T,)
        Points of the tile.
    depth : ndarray, shape (T,)
        How far they lie from its nearest border.
    """
    found = depth > best[rows]
    best[rows[found]] = depth[found]
    return found
