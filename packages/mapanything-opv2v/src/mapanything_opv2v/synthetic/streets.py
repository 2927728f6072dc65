"""Towns drawn anew from a seed: slopes, streets that cross and end, plots, buildings, trees, light.

CARLA axes, metres, radians here. The main street passes the origin; nothing else is the same in two towns.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mapanything_opv2v.geometry import FloatArray
from mapanything_opv2v.synthetic import raycast
from mapanything_opv2v.synthetic.town import Town, box, generator, ground_height

REACH_M = 140.0
"""Streets are lined with plots so far from their middle."""

ENDLESS_M = 1e6

Rectangle = tuple[float, float, float, float, float]
"""x, y, yaw, half length, half width."""


def draw_town(seed: int, name: str) -> Town:
    """Return the town of a seed and a name."""
    planes = _slopes(generator(seed, name, "slopes"))
    streets = _streets(generator(seed, name, "streets"))
    rng = generator(seed, name, "plots")
    boxes: list[FloatArray] = []
    poles: list[FloatArray] = []
    crowns: list[FloatArray] = []
    for number in range(len(streets)):
        for side in (-1, 1):
            _plots(rng, streets, number, side, planes, boxes, poles, crowns)
    return Town(
        boxes=np.array(boxes),
        cylinders=np.array(poles),
        spheres=np.array(crowns),
        planes=planes,
        streets=streets,
        look=_look(generator(seed, name, "look")),
    )


def _slopes(rng: np.random.Generator) -> FloatArray:
    """Return ground planes: one through the origin, steeper ones farther out; the ground is the highest of them."""
    direction, grade = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.06)
    planes = [(grade * math.cos(direction), grade * math.sin(direction), 0.0)]
    for _ in range(rng.integers(1, 5)):
        direction, grade, start = rng.uniform(0, 2 * math.pi), rng.uniform(0.03, 0.13), rng.uniform(10, 60)
        a, b = planes[0][0] + grade * math.cos(direction), planes[0][1] + grade * math.sin(direction)
        planes.append((a, b, -grade * start))
    return np.array(planes)


def _streets(rng: np.random.Generator) -> FloatArray:
    """Return a main street, one to three that cross it or end at it, and sometimes a parallel one."""
    angle = rng.uniform(0, 2 * math.pi)
    along = np.array([math.cos(angle), math.sin(angle)])
    across = np.array([-along[1], along[0]])
    rows = [(0.0, 0.0, *along, rng.uniform(4.0, 9.0), -ENDLESS_M, ENDLESS_M)]
    at = rng.uniform(-75, -15)
    for _ in range(rng.integers(1, 4)):
        turn = angle + math.pi / 2 + rng.uniform(-0.4, 0.4)
        first, last = -ENDLESS_M, ENDLESS_M
        if rng.random() < 0.4:  # a side street that ends at the main one
            first, last = (0.0, ENDLESS_M) if rng.random() < 0.5 else (-ENDLESS_M, 0.0)
        rows.append((*(at * along), math.cos(turn), math.sin(turn), rng.uniform(3.2, 7.5), first, last))
        at += rng.uniform(30, 80)
    if rng.random() < 0.4:
        away = rng.uniform(38, 75) * (1 if rng.random() < 0.5 else -1)
        rows.append((*(away * across), *along, rng.uniform(3.2, 6.0), -ENDLESS_M, ENDLESS_M))
    return np.array(rows)


def _plots(
    rng: np.random.Generator,
    streets: FloatArray,
    number: int,
    side: int,
    planes: FloatArray,
    boxes: list[FloatArray],
    poles: list[FloatArray],
    crowns: list[FloatArray],
) -> None:
    """Line one side of a street with plots: a building each, or trees, and hedges, walls, lamps at the kerb."""
    street = streets[number]
    yaw = math.atan2(street[3], street[2])
    at = max(-REACH_M, street[5])
    while at < min(REACH_M, street[6]):
        length = rng.uniform(7, 26)
        middle, depth, back = at + length / 2, rng.uniform(6, 16), rng.uniform(2, 9)
        built = rng.random() < 0.72
        if built:
            x, y = beside(street, middle, side * (street[4] + back + depth / 2))
            if not on_street((x, y, yaw, length / 2, depth / 2), streets, 1.5):
                boxes.append(_building(rng, x, y, yaw, length, depth, planes))
        for _ in range(rng.integers(0, 3) if built else rng.integers(1, 6)):
            away = rng.uniform(0.9, back) if built else rng.uniform(1.0, 18.0)
            x, y = beside(street, at + rng.uniform(0, length), side * (street[4] + away))
            if not on_street((x, y, yaw, 0.5, 0.5), streets, 0.3):
                _post(rng, x, y, rng.random() < 0.75, planes, poles, crowns)
        if rng.random() < 0.4:  # a hedge, a wall, a kiosk
            x, y = beside(street, middle, side * (street[4] + rng.uniform(1.0, max(back - 0.5, 1.1))))
            half = np.array([rng.uniform(0.5, length / 2), rng.uniform(0.15, 0.5), rng.uniform(0.3, 1.1)])
            if not on_street((x, y, yaw, half[0], half[1]), streets, 0.3):
                boxes.append(_block(rng, x, y, yaw, half, planes))
        at += length + rng.uniform(0, 10)


def beside(street: npt.NDArray[np.float64], along: float, across: float) -> tuple[float, float]:
    """Return the place so far along and across a street."""
    x, y, dx, dy = street[:4]
    return float(x + along * dx - across * dy), float(y + along * dy + across * dx)


def on_street(rectangle: Rectangle, streets: FloatArray, margin: float) -> bool:
    """Say whether a rectangle comes closer to a street than `margin` metres."""
    x, y, yaw, length, width = rectangle
    c, s = math.cos(yaw), math.sin(yaw)
    dx, dy = x - streets[:, 0], y - streets[:, 1]
    along = dx * streets[:, 2] + dy * streets[:, 3]
    across = dy * streets[:, 2] - dx * streets[:, 3]
    turned_c = np.abs(streets[:, 2] * c + streets[:, 3] * s)
    turned_s = np.abs(streets[:, 2] * s - streets[:, 3] * c)
    beside = np.abs(across) - (length * turned_s + width * turned_c) < streets[:, 4] + margin
    reach = length * turned_c + width * turned_s + margin
    return bool((beside & (along + reach > streets[:, 5]) & (along - reach < streets[:, 6])).any())


def _building(
    rng: np.random.Generator, x: float, y: float, yaw: float, length: float, depth: float, planes: FloatArray
) -> FloatArray:
    """Return a building that reaches 10 m into the ground."""
    height = rng.uniform(3.5, 9) if rng.random() < 0.5 else rng.uniform(8, 24)
    z = ground_height(x, y, planes) + height / 2 - 10
    half = np.array([length / 2, depth / 2, height / 2 + 10])
    texture = int(rng.integers(0, raycast.FACADES + 1))
    return box((x, y, z), turned(yaw), half, _color(rng, 0.25, 0.85), texture, raycast.NONE)


def _block(
    rng: np.random.Generator, x: float, y: float, yaw: float, half: FloatArray, planes: FloatArray
) -> FloatArray:
    """Return something low."""
    z = ground_height(x, y, planes) + half[2] - 1
    green = rng.random() < 0.5
    color = (0.15, rng.uniform(0.25, 0.45), 0.12) if green else _color(rng, 0.2, 0.8)
    return box((x, y, z), turned(yaw), half + np.array([0, 0, 1.0]), color, raycast.PLAIN, raycast.NONE)


def _post(
    rng: np.random.Generator,
    x: float,
    y: float,
    tree: bool,
    planes: FloatArray,
    poles: list[FloatArray],
    crowns: list[FloatArray],
) -> None:
    """Add a tree or a lamp post."""
    z = ground_height(x, y, planes)
    if not tree:
        poles.append(
            np.array([x, y, z - 1, z + rng.uniform(4.0, 9.0), rng.uniform(0.06, 0.16), *[rng.uniform(0.2, 0.6)] * 3])
        )
        return
    height, radius = rng.uniform(2.0, 5.5), rng.uniform(0.9, 2.6)
    poles.append(np.array([x, y, z - 1, z + height, rng.uniform(0.1, 0.3), 0.33, 0.24, 0.17]))
    color = (rng.uniform(0.1, 0.4), rng.uniform(0.28, 0.5), rng.uniform(0.08, 0.2))
    crowns.append(np.array([x, y, z + height + radius * 0.6, 0, radius, *color]))


def turned(yaw: float) -> FloatArray:
    """Return the (3, 3) rotation about the vertical."""
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def _color(rng: np.random.Generator, low: float, high: float) -> tuple[float, float, float]:
    """Return a colour that is more grey than not."""
    grey, tint = rng.uniform(low, high), rng.uniform(-0.15, 0.15, 3)
    red, green, blue = np.clip(grey + tint, 0.05, 0.95)
    return float(red), float(green), float(blue)


def _look(rng: np.random.Generator) -> FloatArray:
    """Return sun, exposure, haze and the colours of ground and sky."""
    azimuth, elevation = rng.uniform(0, 2 * math.pi), math.radians(rng.uniform(12, 75))
    level = math.cos(elevation)
    ambient = rng.uniform(0.4, 0.75)
    warm = (1 - math.sin(elevation)) * rng.uniform(0, 0.15)
    pale = rng.uniform(0.55, 0.92)
    asphalt, cast = rng.uniform(0.22, 0.5), rng.uniform(-0.03, 0.03, 3)
    horizon = np.array([pale + warm, pale + 0.03, pale + 0.08 - warm])
    zenith = horizon - np.array([0.45, 0.28, 0.05]) * rng.uniform(0.1, 1.0)
    return np.array(
        [
            *(math.cos(azimuth) * level, math.sin(azimuth) * level, math.sin(elevation)),
            *(ambient, rng.uniform(0.9, 1.1) - ambient, rng.uniform(0.65, 1.35), rng.uniform(150, 700)),
            *(horizon - 0.06),
            *(asphalt + cast),
            *(rng.uniform(0.25, 0.55), rng.uniform(0.36, 0.52), rng.uniform(0.16, 0.34)),
            *horizon,
            *np.clip(zenith, 0.05, 1.0),
            *rng.uniform(0, 200, 2),
        ]
    )
