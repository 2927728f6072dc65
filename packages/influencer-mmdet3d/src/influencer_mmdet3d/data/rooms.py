"""Synthetic indoor rooms as labelled point clouds: flat patches, laid out, coloured and sampled.

Coordinates are metres, z up, the room's smallest corner at the origin. Shape letters:
``N`` points, ``P`` patches (parallelograms), ``K`` instances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from influencer_mmdet3d.data.furniture import BUILDERS, FLOOR_CLASSES, WALL_CLASSES, box, rectangle

CLASSES = (
    "ceiling", "floor", "wall", "beam", "column", "window", "door",
    "table", "chair", "sofa", "bookcase", "board", "clutter",
)  # fmt: skip
"""The 13 S3DIS classes in the host's order; a class's position is its label."""

LAYOUTS = ("spread", "crowded")
CELL = 1.3
"""Side of a floor cell and width of a wall slot, in metres: one object each, so that nothing overlaps."""
TOUCHING = 0.52
"""Side of a cell in the 'crowded' layout, in metres: chairs are 0.5 to 0.55 m wide, so neighbours touch."""
MARGIN = 0.4
"""Free strip along the walls, in metres: bookcases and the columns in the corners stand there."""

_SHARES = {
    "beam": 0.03, "column": 0.04, "window": 0.09, "door": 0.07, "table": 0.15, "chair": 0.28,
    "sofa": 0.06, "bookcase": 0.08, "board": 0.06, "clutter": 0.14,
}  # fmt: skip
_COLOURS = {
    "ceiling": [(228, 226, 220)],
    "floor": [(150, 128, 104), (122, 122, 126)],
    "wall": [(214, 208, 196)],
    "beam": [(196, 190, 180)],
    "column": [(186, 182, 176)],
    "window": [(150, 178, 196)],
    "door": [(138, 98, 62), (104, 110, 118)],
    "table": [(158, 116, 72), (196, 190, 182)],
    "chair": [(52, 54, 62), (44, 74, 122), (128, 44, 40)],
    "sofa": [(118, 40, 44), (70, 84, 70)],
    "bookcase": [(128, 92, 58), (108, 104, 100)],
    "board": [(236, 238, 236), (34, 68, 50)],
    "clutter": [(198, 152, 46), (60, 130, 92), (170, 72, 120), (90, 90, 96)],
}


@dataclass(frozen=True)
class Room:
    """One labelled point cloud.

    Attributes
    ----------
    points : ndarray of float32, shape (N, 6)
        x, y, z in metres and red, green, blue as whole numbers 0 to 255.
    semantic : ndarray of int64, shape (N,)
        Label of each point, a position in `CLASSES`.
    instance : ndarray of int64, shape (N,)
        Instance of each point, 1 to K; every instance has points of one class.
    superpoint : ndarray of int64, shape (N,)
        Over-segmentation by flat patch and cell of `superpoint_size`, contiguous from 0.
    """

    points: npt.NDArray[np.float32]
    semantic: npt.NDArray[np.int64]
    instance: npt.NDArray[np.int64]
    superpoint: npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Thing:
    """One instance before sampling: its class and its patches (P, 3, 3) as rows origin, edge u, edge v."""

    name: str
    patches: npt.NDArray[np.float64]

    @property
    def areas(self) -> npt.NDArray[np.float64]:
        return np.linalg.norm(np.cross(self.patches[:, 1], self.patches[:, 2]), axis=1)


def make_room(
    rng: np.random.Generator,
    *,
    points: int = 20_000,
    objects: tuple[int, int] = (10, 60),
    layout: str = "spread",
    noise: float = 0.005,
    superpoint_size: float = 0.3,
) -> Room:
    """Make one room with floor, ceiling, four walls and a drawn number of further objects.

    Parameters
    ----------
    rng : numpy.random.Generator
        The only source of randomness.
    points : int
        Number of points N; at least 16 for each of the `objects[1]` + 6 possible instances.
    objects : (int, int)
        Smallest and largest number of objects besides floor, ceiling and walls, both included.
    layout : {'spread', 'crowded'}
        'spread' gives every object its own cell of 1.3 m; 'crowded' fills a block with objects of
        one class (chairs) that touch each other, which is what instance segmentation fails at.
    noise : float
        Standard deviation of the scanner noise on each coordinate, in metres.
    superpoint_size : float
        Side of the cells that cut flat patches into superpoints, in metres; nothing else depends on it.

    Returns
    -------
    Room

    Raises
    ------
    ValueError
        If an argument is out of its range; the message gives the range.
    """
    low, high = objects
    if not 2 <= low <= high <= 500:
        raise ValueError(f"objects must be (low, high) with 2 <= low <= high <= 500, got {objects}")
    if points < 16 * (high + 6):
        raise ValueError(
            f"points={points} is too few for up to {high} objects: at least {16 * (high + 6)} needed "
            f"(16 for each instance); raise points or lower objects"
        )
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {LAYOUTS}, got {layout!r}")
    if not 0 <= noise <= 0.1:
        raise ValueError(f"noise is a standard deviation in metres within 0 to 0.1, got {noise}")
    if not 0.05 <= superpoint_size <= 10:
        raise ValueError(f"superpoint_size is the side of a cell in metres within 0.05 to 10, got {superpoint_size}")
    things = _furnish(rng, int(rng.integers(low, high + 1)), layout)
    return _sample(rng, things, points, noise, superpoint_size)


def _furnish(rng: np.random.Generator, count: int, layout: str) -> list[_Thing]:
    """Draw the objects, size the room so that all fit, and put each into a place of its own."""
    names = _draw_classes(rng, count, layout)
    on_floor = [name for name in names if name in FLOOR_CLASSES]
    on_wall = [name for name in names if name in WALL_CLASSES]
    pitch = TOUCHING if layout == "crowded" else CELL
    nx = int(np.ceil(np.sqrt(len(on_floor) * rng.uniform(0.8, 1.6))))
    ny = int(np.ceil(len(on_floor) / nx))
    nx, ny = (max(n, int(np.ceil(2 * CELL / pitch))) for n in (nx, ny))
    while 2 * (_slots(nx * pitch) + _slots(ny * pitch)) < len(on_wall):
        nx, ny = nx + 1, ny + 1
    height = rng.uniform(2.6, 3.3)
    size = np.array([nx * pitch + 2 * MARGIN, ny * pitch + 2 * MARGIN, height])
    things = [
        _Thing("floor", rectangle((0, 0, 0), (size[0], 0, 0), (0, size[1], 0))),
        _Thing("ceiling", rectangle((0, 0, height), (size[0], 0, 0), (0, size[1], 0))),
    ]
    things += _walls(rng, size, on_wall)
    cells = rng.permutation(nx * ny) if layout == "spread" else np.arange(nx * ny)
    for cell, name in zip(cells, on_floor, strict=False):
        centre = MARGIN + (np.array([cell % nx, cell // nx]) + 0.5) * pitch
        things.append(_floor_object(rng, name, centre, layout))
    things += _columns_and_beams(rng, size, names)
    return things


def _slots(length: float) -> int:
    """Return how many wall objects fit side by side on `length` metres."""
    return max(1, int(length / CELL + 1e-9))


def _draw_classes(rng: np.random.Generator, count: int, layout: str) -> list[str]:
    """Return `count` class names; always a table and a chair: the host drops rooms without furniture."""
    if layout == "crowded":
        chairs = max(2, int(count * 0.8))
        names = ["chair"] * chairs + list(rng.choice(sorted(WALL_CLASSES), count - chairs))
    else:
        names = ["table", "chair", *rng.choice(list(_SHARES), count - 2, p=list(_SHARES.values()))]
    limits = {"column": 4, "beam": 3}
    kept: list[str] = []
    for name in map(str, names):
        full = name in limits and kept.count(name) >= limits[name]
        kept.append("clutter" if full else name)
    return kept


def _walls(rng: np.random.Generator, size: npt.NDArray[np.float64], names: list[str]) -> list[_Thing]:
    """Four walls cut into slots; a slot with a door, window or board has a hole behind that object."""
    corners = np.array([[0, 0], [size[0], 0], [size[0], size[1]], [0, size[1]]], dtype=float)
    alongs = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], dtype=float)
    lengths = [size[0], size[1], size[0], size[1]]
    slots = [(side, slot) for side in range(4) for slot in range(_slots(lengths[side] - 2 * MARGIN))]
    chosen = dict(zip((slots[i] for i in rng.permutation(len(slots))), names, strict=False))
    walls, objects = [], []
    for side, (corner, along, length) in enumerate(zip(corners, alongs, lengths, strict=True)):
        count = _slots(length - 2 * MARGIN)
        width = (length - 2 * MARGIN) / count
        patches = [_panel(0.0, MARGIN, size[2], None), _panel(length - MARGIN, MARGIN, size[2], None)]
        for slot in range(count):
            start, name, hole = MARGIN + slot * width, chosen.get((side, slot)), None
            if name is not None:
                local = BUILDERS[name](rng)
                low, high = _extent(local)
                if name != "bookcase":
                    hole = (low[0] + width / 2, high[0] + width / 2, low[2], high[2])
                local[:, 0, 0] += start + width / 2
                objects.append(_Thing(name, _to_side(local, corner, along)))
            patches.append(_panel(start, width, size[2], hole))
        walls.append(_Thing("wall", _to_side(np.concatenate(patches), corner, along)))
    return walls + objects


def _extent(patches: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the smallest and largest corner (3,) of patches (P, 3, 3)."""
    origin, u, v = patches[:, 0], patches[:, 1], patches[:, 2]
    corners = np.concatenate([origin, origin + u, origin + v, origin + u + v])
    return corners.min(0), corners.max(0)


def _panel(
    start: float, width: float, height: float, hole: tuple[float, float, float, float] | None
) -> npt.NDArray[np.float64]:
    """Return the wall of one slot in wall coordinates (along, inward, up) around `hole` (x0, x1, z0, z1)."""
    if hole is None:
        return rectangle((start, 0, 0), (width, 0, 0), (0, 0, height))
    x0, x1, z0, z1 = hole
    parts = [
        rectangle((start, 0, 0), (x0, 0, 0), (0, 0, height)),
        rectangle((start + x1, 0, 0), (width - x1, 0, 0), (0, 0, height)),
        rectangle((start + x0, 0, z1), (x1 - x0, 0, 0), (0, 0, height - z1)),
        rectangle((start + x0, 0, 0), (x1 - x0, 0, 0), (0, 0, z0)),
    ]
    return np.concatenate(parts)


def _to_side(
    patches: npt.NDArray[np.float64], corner: npt.NDArray[np.float64], along: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Map patches from wall coordinates (along, inward, up) to the room."""
    rotation = np.array([[along[0], along[1], 0], [-along[1], along[0], 0], [0, 0, 1]])
    moved = patches @ rotation
    moved[:, 0, :2] += corner
    return moved


def _floor_object(rng: np.random.Generator, name: str, centre: npt.NDArray[np.float64], layout: str) -> _Thing:
    patches = BUILDERS[name](rng)
    quarter = 0 if layout == "crowded" else int(rng.integers(4))
    yaw = quarter * np.pi / 2 + (0 if layout == "crowded" else rng.normal(0, 0.08))
    rotation = np.array([[np.cos(yaw), np.sin(yaw), 0], [-np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    patches = patches @ rotation
    jitter = np.zeros(2) if layout == "crowded" else rng.uniform(-0.05, 0.05, 2)
    patches[:, 0, :2] += centre + jitter
    return _Thing(name, patches)


def _columns_and_beams(rng: np.random.Generator, size: npt.NDArray[np.float64], names: list[str]) -> list[_Thing]:
    """Columns stand in the corners, beams hang across the room at different places."""
    width, depth, height = size
    things = []
    corners = rng.permutation(4)[: names.count("column")]
    for corner in corners:
        side = rng.uniform(0.24, 0.36)
        x, y = (corner % 2) * (width - side), (corner // 2) * (depth - side)
        things.append(_Thing("column", box((x, y, 0), (side, side, height))))
    for index in range(names.count("beam")):
        across, drop = rng.uniform(0.2, 0.35), rng.uniform(0.18, 0.28)
        y = depth * (index + 0.7) / 3.4
        things.append(_Thing("beam", box((0, y, height - drop), (width, across, drop))))
    return things


def _sample(rng: np.random.Generator, things: list[_Thing], count: int, noise: float, superpoint_size: float) -> Room:
    """Draw `count` points from the patches by area, with a floor of points for every instance."""
    areas = np.array([thing.areas.sum() for thing in things])
    least = min(64, count // (2 * len(things)))
    shares = rng.multinomial(count - least * len(things), areas / areas.sum()) + least
    columns: list[list[npt.NDArray[np.float64]]] = [[], [], [], [], []]
    patch_base = 0
    for index, (thing, share) in enumerate(zip(things, shares, strict=True)):
        patch = rng.choice(len(thing.patches), share, p=thing.areas / thing.areas.sum())
        uv = rng.random((share, 2))
        chosen = thing.patches[patch]
        xyz = chosen[:, 0] + uv[:, :1] * chosen[:, 1] + uv[:, 1:] * chosen[:, 2]
        rgb = _colour(rng, thing.name, chosen)
        label = np.full(share, CLASSES.index(thing.name))
        for column, values in zip(
            columns, (xyz, rgb, label, np.full(share, index + 1), patch + patch_base), strict=True
        ):
            column.append(values)
        patch_base += len(thing.patches)
    xyz, rgb, semantic, instance, patch = (np.concatenate(column) for column in columns)
    cell = np.floor(xyz / superpoint_size).astype(np.int64)
    superpoint = np.unique(np.column_stack([patch, cell]), axis=0, return_inverse=True)[1].reshape(-1)
    xyz = xyz + rng.normal(0, noise, xyz.shape)
    order = rng.permutation(count)
    points = np.column_stack([xyz - xyz.min(0), rgb]).astype(np.float32)
    return Room(
        points[order],
        semantic[order].astype(np.int64),
        instance[order].astype(np.int64),
        superpoint[order].astype(np.int64),
    )


def _colour(rng: np.random.Generator, name: str, chosen: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return (n, 3) colours 0 to 255: a colour of the class, changed per instance, shaded by the normal."""
    palette = _COLOURS[name]
    base = np.array(palette[int(rng.integers(len(palette)))], dtype=float) + rng.normal(0, 12, 3)
    normal = np.cross(chosen[:, 1], chosen[:, 2])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    shade = 0.72 + 0.28 * np.abs(normal @ np.array([0.35, 0.2, 0.91]))
    rgb = base * shade[:, None] + rng.normal(0, 7, (len(chosen), 3))
    return np.clip(np.rint(rgb), 0, 255)
