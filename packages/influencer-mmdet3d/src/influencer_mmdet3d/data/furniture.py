"""Furniture of the synthetic rooms: every object is a set of flat patches.

A patch is three rows ``(origin, edge u, edge v)`` in metres; an object is an array of shape (P, 3, 3).
Floor objects are centred on x = y = 0 and stand on z = 0, facing +y. Wall objects have x along the
wall with its slot's middle at 0, y into the room, z up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Patches = npt.NDArray[np.float64]

FLOOR_CLASSES = frozenset({"table", "chair", "sofa", "clutter"})
WALL_CLASSES = frozenset({"window", "door", "board", "bookcase"})


def rectangle(origin: Sequence[float], u: Sequence[float], v: Sequence[float]) -> Patches:
    """Return one patch, shape (1, 3, 3)."""
    return np.array([[origin, u, v]], dtype=np.float64)


def box(low: Sequence[float], size: Sequence[float]) -> Patches:
    """Return the six sides (6, 3, 3) of an axis-aligned box from its smallest corner and its size."""
    corner, (dx, dy, dz) = np.asarray(low, dtype=np.float64), size
    x, y, z = np.array([dx, 0.0, 0.0]), np.array([0.0, dy, 0.0]), np.array([0.0, 0.0, dz])
    sides = [(corner, x, y), (corner, x, z), (corner, y, z)]
    sides += [(corner + z, x, y), (corner + y, x, z), (corner + x, y, z)]
    return np.array(sides)


def _legs(width: float, depth: float, height: float, thick: float) -> Patches:
    """Return four legs in the corners of a width x depth footprint centred on 0."""
    spots = [(x, y) for x in (-width / 2, width / 2 - thick) for y in (-depth / 2, depth / 2 - thick)]
    return np.concatenate([box((x, y, 0), (thick, thick, height)) for x, y in spots])


def table(rng: np.random.Generator) -> Patches:
    """Top and four legs, 0.8 to 1.15 m wide."""
    width, depth, height = rng.uniform(0.8, 1.15), rng.uniform(0.55, 0.8), rng.uniform(0.68, 0.78)
    top = box((-width / 2, -depth / 2, height - 0.04), (width, depth, 0.04))
    return np.concatenate([top, _legs(width, depth, height - 0.04, 0.05)])


def chair(rng: np.random.Generator) -> Patches:
    """Seat, back and four legs, 0.5 to 0.55 m wide."""
    width, depth = rng.uniform(0.5, 0.55), rng.uniform(0.48, 0.54)
    seat, back = rng.uniform(0.42, 0.48), rng.uniform(0.36, 0.5)
    parts = [
        box((-width / 2, -depth / 2, seat - 0.05), (width, depth, 0.05)),
        box((-width / 2, -depth / 2, seat), (width, 0.05, back)),
        _legs(width, depth, seat - 0.05, 0.04),
    ]
    return np.concatenate(parts)


def sofa(rng: np.random.Generator) -> Patches:
    """Base, back and two arms, 1.0 to 1.2 m wide."""
    width, depth, seat = rng.uniform(1.0, 1.2), rng.uniform(0.75, 0.9), rng.uniform(0.38, 0.46)
    parts = [
        box((-width / 2, -depth / 2, 0), (width, depth, seat)),
        box((-width / 2, -depth / 2, seat), (width, 0.2, 0.4)),
        box((-width / 2, -depth / 2 + 0.2, seat), (0.14, depth - 0.2, 0.2)),
        box((width / 2 - 0.14, -depth / 2 + 0.2, seat), (0.14, depth - 0.2, 0.2)),
    ]
    return np.concatenate(parts)


def clutter(rng: np.random.Generator) -> Patches:
    """A carton, a bin (eight-sided) or a pile of two boxes on the floor, 0.25 to 0.6 m."""
    kind, width, height = int(rng.integers(3)), rng.uniform(0.28, 0.55), rng.uniform(0.25, 0.6)
    if kind == 0:
        return box((-width / 2, -width / 2, 0), (width, width * rng.uniform(0.6, 1.0), height))
    if kind == 1:
        angle = np.arange(8) * np.pi / 4
        ring = 0.5 * width * np.column_stack([np.cos(angle), np.sin(angle), np.zeros(8)])
        edges = np.roll(ring, -1, axis=0) - ring
        return np.stack([ring, edges, np.tile([0.0, 0.0, height], (8, 1))], axis=1)
    low = box((-width / 2, -width / 2, 0), (width, width, height * 0.5))
    return np.concatenate([low, box((-width / 3, -width / 3, height * 0.5), (width / 2, width / 2, height * 0.4))])


def window(rng: np.random.Generator) -> Patches:
    """A thin pane, 0.8 to 1.15 m wide, sill at 0.8 to 1.0 m."""
    width, sill, height = rng.uniform(0.8, 1.15), rng.uniform(0.8, 1.0), rng.uniform(0.9, 1.3)
    return box((-width / 2, 0.0, sill), (width, 0.04, height))


def door(rng: np.random.Generator) -> Patches:
    """A leaf from the floor, 0.8 to 0.95 m wide."""
    width, height = rng.uniform(0.8, 0.95), rng.uniform(2.0, 2.15)
    return box((-width / 2, 0.0, 0.0), (width, 0.05, height))


def board(rng: np.random.Generator) -> Patches:
    """A writing board, 0.9 to 1.15 m wide, from 0.9 m up."""
    width, low, height = rng.uniform(0.9, 1.15), rng.uniform(0.9, 1.05), rng.uniform(0.7, 1.0)
    return box((-width / 2, 0.02, low), (width, 0.03, height))


def bookcase(rng: np.random.Generator) -> Patches:
    """Back, two sides and shelves against the wall, open to the room."""
    width, depth, height = rng.uniform(0.8, 1.1), rng.uniform(0.26, 0.34), rng.uniform(1.5, 2.1)
    left = -width / 2
    parts = [
        rectangle((left, 0.02, 0), (width, 0, 0), (0, 0, height)),
        box((left, 0.02, 0), (0.03, depth, height)),
        box((width / 2 - 0.03, 0.02, 0), (0.03, depth, height)),
    ]
    shelves = int(rng.integers(4, 6))
    for level in np.linspace(0.05, height - 0.03, shelves):
        parts.append(box((left + 0.03, 0.02, level), (width - 0.06, depth, 0.03)))
    return np.concatenate(parts)


BUILDERS: dict[str, Callable[[np.random.Generator], Patches]] = {
    "table": table, "chair": chair, "sofa": sofa, "clutter": clutter,
    "window": window, "door": door, "board": board, "bookcase": bookcase,
}  # fmt: skip
"""Class name to builder; columns and beams depend on the room and are built with it."""
