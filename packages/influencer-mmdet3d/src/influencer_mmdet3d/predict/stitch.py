"""Instances of overlapping tiles become instances of the whole cloud.

Two tiles see the same points where they overlap. Instances of the two that agree there, by intersection over union
of their points in the overlap, are one object. An instance is a sorted list of points, never a mask over the cloud.
Shape letters: ``N`` points of the cloud, ``P`` points of an instance, ``K`` instances.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from influencer_mmdet3d.predict.tiles import Rows

AGREE = 0.5
"""Least IoU in the overlap of two instances that are one object."""
COVERED = 0.8
"""Share of an instance that lies in a better one of another tile, beyond which it is dropped."""


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


def stitch(
    pieces: Sequence[Piece], tiles: Sequence[Rows], agree: float = AGREE, covered: float = COVERED
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

    Returns
    -------
    list of Piece
        Best score first; the score of joined pieces is their mean, weighted by points, `tile` that of the largest.
    """
    parent = list(range(len(pieces)))
    by_tile: dict[int, list[int]] = {}
    for number, piece in enumerate(pieces):
        by_tile.setdefault(piece.tile, []).append(number)
    for first in sorted(by_tile):
        for second in sorted(other for other in by_tile if other > first):
            common = np.intersect1d(tiles[first], tiles[second], assume_unique=True)
            if len(common):
                for a, b in _agreeing(pieces, by_tile[first], by_tile[second], common, agree):
                    parent[_root(parent, a)] = _root(parent, b)
    groups: dict[int, list[Piece]] = {}
    for number, piece in enumerate(pieces):
        groups.setdefault(_root(parent, number), []).append(piece)
    joined = [_join(group) for group in groups.values()]
    joined.sort(key=lambda piece: (-piece.score, piece.rows[0]))
    return _without_covered(joined, covered) if len(tiles) > 1 else joined


def _root(parent: list[int], number: int) -> int:
    while parent[number] != number:
        parent[number] = parent[parent[number]]
        number = parent[number]
    return number


def _agreeing(
    pieces: Sequence[Piece], first: Sequence[int], second: Sequence[int], common: Rows, agree: float
) -> list[tuple[int, int]]:
    """Return pairs of one class that are each other's best, by IoU among the points that both tiles see."""
    inside = {number: _within(pieces[number].rows, common) for number in (*first, *second)}
    first = [number for number in first if len(inside[number])]
    second = [number for number in second if len(inside[number])]
    if not first or not second:
        return []
    iou = np.zeros((len(first), len(second)))
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            if pieces[a].label == pieces[b].label:
                both = len(_within(inside[a], inside[b]))
                iou[i, j] = both / (len(inside[a]) + len(inside[b]) - both)
    best_of_first, best_of_second = iou.argmax(1), iou.argmax(0)
    return [
        (first[i], second[j])
        for i, j in enumerate(best_of_first)
        if iou[i, j] >= agree and iou[i, j] > 0 and best_of_second[j] == i
    ]


def _within(rows: Rows, others: Rows) -> Rows:
    """Return those of sorted `rows` that are among sorted `others`."""
    if not len(others):
        return rows[:0]
    place = np.searchsorted(others, rows)
    place[place == len(others)] = 0
    return rows[others[place] == rows]


def _join(group: list[Piece]) -> Piece:
    if len(group) == 1:
        return group[0]
    largest = max(group, key=lambda piece: len(piece.rows))
    weights = [len(piece.rows) for piece in group]
    score = float(np.average([piece.score for piece in group], weights=weights))
    rows = np.unique(np.concatenate([piece.rows for piece in group]))
    return Piece(largest.tile, rows, largest.label, score)


def _without_covered(pieces: list[Piece], covered: float) -> list[Piece]:
    """Leave out what lies mostly in a better instance of the same class that another tile saw: a cut-off rest."""
    kept: list[Piece] = []
    for piece in pieces:  # best first
        rest = any(
            other.tile != piece.tile
            and other.label == piece.label
            and other.rows[0] <= piece.rows[-1]
            and piece.rows[0] <= other.rows[-1]
            and len(_within(piece.rows, other.rows)) >= covered * len(piece.rows)
            for other in kept
        )
        if not rest:
            kept.append(piece)
    return kept


def deepest(tile_depths: Iterable[tuple[Rows, npt.NDArray[np.float64]]], count: int) -> npt.NDArray[np.int32]:
    """Return for each of `count` points the number of the tile in which it lies farthest from a border.

    Parameters
    ----------
    tile_depths : iterable of tuple
        Points of each tile, and how deep they lie in it; taken one after the other.
    count : int
        N.
    """
    best, winner = np.full(count, -np.inf), np.full(count, -1, np.int32)
    for number, (rows, depth) in enumerate(tile_depths):
        better = depth > best[rows]
        best[rows[better]] = depth[better]
        winner[rows[better]] = number
    return winner
