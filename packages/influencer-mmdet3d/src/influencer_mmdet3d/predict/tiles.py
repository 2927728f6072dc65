"""Overlapping tiles of a large cloud, each thin enough for the model, and the way back to all its points.

Shape letters: ``N`` points of the cloud, ``T`` points of a tile, ``M`` points of a tile that the model sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from influencer_mmdet3d.data.scratch import MEMORY, Scratch

Indices = npt.NDArray[np.int64]
Rows = npt.NDArray[np.signedinteger[Any]]
"""Numbers of points of a cloud: in 32 bits wherever they fit, since lists of them are most of what `predict` holds."""

_CLOSE = 0.01
"""Metres: tiles that are no farther apart may share points, whatever was rounded."""


def row_type(count: int) -> type[np.signedinteger[Any]]:
    """Return the type that numbers `count` points."""
    return np.int32 if count < 2**31 else np.int64


@dataclass(frozen=True)
class Tile:
    """A square part of a cloud, seen from above.

    Attributes
    ----------
    name : str
        Column and row, for instance '0_2'.
    low, high : tuple of float
        Corners (x, y) in metres.
    rows : ndarray of integers, shape (T,)
        Points of the cloud that lie in it, in the cloud's order.
    """

    name: str
    low: tuple[float, float]
    high: tuple[float, float]
    rows: Rows

    def depth(self, xy: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Return how far points (T, 2) lie inside the tile's nearest border."""
        inside = np.concatenate([xy - np.asarray(self.low), np.asarray(self.high) - xy], 1)
        return inside.min(1).astype(np.float64)


def cut(length: float, tile: float, overlap: float) -> list[tuple[float, float]]:
    """Return the intervals that cover [0, length]: as few as suffice, equally far apart, none longer than `tile`.

    Neighbours overlap by at least `overlap`.
    """
    if length <= tile:
        return [(0.0, length)]
    count = int(np.ceil((length - overlap) / (tile - overlap) - 1e-9))
    starts = np.linspace(0.0, length - tile, count)
    return [*((float(start), float(start + tile)) for start in starts[:-1]), (float(starts[-1]), length)]


class Table(Protocol):
    """Points (N, 3 or more) of which parts can be asked for: an array, or what makes them when asked."""

    def __len__(self) -> int:
        """Return N."""

    def __getitem__(self, rows: slice, /) -> npt.NDArray[np.floating]:
        """Return some of the points."""


def tiles(points: Table, tile: float, overlap: float, scratch: Scratch = MEMORY) -> list[Tile]:
    """Return the tiles of a cloud that hold points.

    Parameters
    ----------
    points : array-like, shape (N, 3 or more)
        x, y, z in metres, and perhaps more.
    tile, overlap : float
        Longest side and least overlap, in metres; a cloud that is not longer is one tile.
    scratch : Scratch
        Makes the tiles' lists of points.

    Raises
    ------
    ValueError
        If `overlap` is negative or not below half of `tile`.
    """
    if not 0 <= overlap < tile / 2:
        raise ValueError(f"the overlap must be at least 0 and below half of the tile ({tile:g} m), got {overlap:g} m")
    origin, sides = _origin(points, scratch)
    grid = [cut(side, tile, overlap) for side in sides]
    counts = np.zeros([len(intervals) for intervals in grid], np.int64)
    for i, j, rows in _inside(points, origin, grid, scratch):
        counts[i, j] += len(rows)
    lists = {place: scratch.empty(int(counts[place]), row_type(len(points))) for place in zip(*np.nonzero(counts))}
    filled = np.zeros_like(counts)
    for i, j, rows in _inside(points, origin, grid, scratch):
        lists[i, j][filled[i, j] : filled[i, j] + len(rows)] = rows
        filled[i, j] += len(rows)
    found = []
    for (i, j), rows in lists.items():
        (left, right), (near, far) = grid[0][i], grid[1][j]
        low = (float(origin[0] + left), float(origin[1] + near))
        high = (float(origin[0] + right), float(origin[1] + far))
        found.append(Tile(f"{i}_{j}", low, high, rows))
    return found


def _origin(points: Table, scratch: Scratch) -> tuple[npt.NDArray[np.float64], tuple[float, float]]:
    """Return the least x and y, and the cloud's sides, in float64: the farthest point must not fall out by rounding."""
    lows, highs = [], []
    for part in scratch.parts(len(points)):
        own = points[part]
        lows.append(own[:, :2].min(0))
        highs.append(own[:, :2].max(0))
    low, high = np.min(lows, 0), np.max(highs, 0)
    origin = low.astype(np.float64)
    x, y = high[:1] - origin[0], high[1:] - origin[1]  # as `_inside` subtracts
    return origin, (float(x[0]), float(y[0]))


def _inside(
    points: Table, origin: npt.NDArray[np.float64], grid: list[list[tuple[float, float]]], scratch: Scratch
) -> Iterator[tuple[int, int, Indices]]:
    """Yield column, line and points of each tile, a part of the cloud after the other."""
    for part in scratch.parts(len(points)):
        own = points[part]
        x, y = own[:, 0] - origin[0], own[:, 1] - origin[1]
        for i, (left, right) in enumerate(grid[0]):
            in_column = np.flatnonzero((x >= left) & (x <= right))
            across = y[in_column]
            for j, (near, far) in enumerate(grid[1]):
                rows = in_column[(across >= near) & (across <= far)]
                if len(rows):
                    yield i, j, rows + part.start


def neighbours(parts: list[Tile]) -> list[tuple[int, int]]:
    """Return the pairs of tiles that may share points, by their numbers, the lower one first."""
    low, high = (np.array([getattr(part, name) for part in parts]) for name in ("low", "high"))
    pairs = []
    for number in range(len(parts)):
        apart = ((low[number + 1 :] > high[number] + _CLOSE) | (high[number + 1 :] < low[number] - _CLOSE)).any(1)
        pairs += [(number, number + 1 + int(other)) for other in np.flatnonzero(~apart)]
    return pairs


def thin(points: npt.NDArray[np.float32], most: int, cell: float) -> tuple[npt.NDArray[np.float32], Indices, float]:
    """Return at most `most` points, each the mean of those in one cell of a grid.

    Parameters
    ----------
    points : ndarray, shape (T, 6)
        x, y, z in metres, and colours.
    most : int
        If there are no more points, they are returned as they are.
    cell : float
        Side of the cells to begin with, in metres; it grows by a half until the points are few enough.

    Returns
    -------
    points : ndarray, shape (M, 6)
    inverse : ndarray of int64, shape (T,)
        Which of them stands for each point.
    cell : float
        Side of the cells; 0 if nothing was joined.
    """
    if len(points) <= most:
        return points, np.arange(len(points)), 0.0
    low = points[:, :3].min(0).astype(np.float64)
    while True:
        cells = np.floor((points[:, :3] - low) / cell).astype(np.int64)
        keys = np.ravel_multi_index(cells.T, cells.max(0) + 1)
        _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
        if len(counts) <= most:
            break
        cell *= 1.5
    inverse = inverse.reshape(-1)
    sums = np.stack([np.bincount(inverse, points[:, k].astype(np.float64)) for k in range(points.shape[1])], 1)
    return (sums / counts[:, None]).astype(np.float32), inverse, cell
