"""Pieces of furniture for `rooms`, made of a few solids each."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from roborefer_spatial.synthetic.raycast import Shape, Solid

Rgb = tuple[float, float, float]
WOOD: tuple[Rgb, ...] = ((0.55, 0.36, 0.20), (0.68, 0.49, 0.30), (0.40, 0.26, 0.16), (0.80, 0.66, 0.48))


@dataclass(frozen=True)
class Thing:
    """A piece of furniture: its name, solids in the world frame, and the circle (x, y, r) it stands on."""

    name: str
    solids: list[Solid]
    circle: tuple[float, float, float]


Part = tuple[Shape, tuple[float, float, float], tuple[float, float, float], Rgb, float]


def _legs(x: float, y: float, height: float, thick: float, rgb: Rgb) -> list[Part]:
    half = (thick, thick, height / 2)
    return [("box", (i * x, j * y, height / 2), half, rgb, 0.1) for i in (-1, 1) for j in (-1, 1)]


def _table(rgb: Rgb, wood: Rgb) -> list[Part]:
    return [("box", (0, 0, 0.73), (0.70, 0.42, 0.025), wood, 0.1), *_legs(0.64, 0.36, 0.72, 0.03, wood)]


def _chair(rgb: Rgb, wood: Rgb) -> list[Part]:
    seat: list[Part] = [("box", (0, 0, 0.45), (0.23, 0.23, 0.035), rgb, 0.0)]
    return [
        *seat,
        ("box", (0, 0.22, 0.72), (0.22, 0.025, 0.24), rgb, 0.0),
        *_legs(0.20, 0.20, 0.43, 0.02, wood),
    ]


def _sofa(rgb: Rgb, wood: Rgb) -> list[Part]:
    dark: Rgb = (rgb[0] * 0.85, rgb[1] * 0.85, rgb[2] * 0.85)
    arms: list[Part] = [("box", (i * 0.82, 0, 0.30), (0.10, 0.42, 0.30), dark, 0.0) for i in (-1, 1)]
    cushions: list[Part] = [("box", (i * 0.37, -0.06, 0.40), (0.34, 0.34, 0.08), rgb, 0.0) for i in (-1, 1)]
    base: list[Part] = [("box", (0, 0, 0.17), (0.75, 0.42, 0.15), dark, 0.0)]
    return [*base, ("box", (0, 0.34, 0.52), (0.75, 0.10, 0.30), rgb, 0.0), *arms, *cushions]


def _shelf(rgb: Rgb, wood: Rgb) -> list[Part]:
    boards: list[Part] = [("box", (0, 0, 0.05 + 0.42 * i), (0.42, 0.16, 0.02), wood, 0.1) for i in range(5)]
    sides: list[Part] = [("box", (i * 0.42, 0, 0.87), (0.02, 0.17, 0.87), wood, 0.1) for i in (-1, 1)]
    books: list[Part] = []
    for i in range(4):
        for j in range(5):
            hue = colorsys.hsv_to_rgb((0.13 * j + 0.29 * i) % 1, 0.55, 0.4 + 0.1 * ((i + j) % 4))
            height = 0.11 + 0.03 * ((2 * i + j) % 3)
            books.append(("box", (-0.3 + 0.07 * j, 0, 0.07 + 0.42 * i + height), (0.03, 0.12, height), hue, 0.0))
    return [*boards, *sides, *books]


def _lamp(rgb: Rgb, wood: Rgb) -> list[Part]:
    metal: Rgb = (0.30, 0.30, 0.32)
    foot: list[Part] = [("cylinder", (0, 0, 0.02), (0.15, 0.15, 0.02), metal, 0.0)]
    pole: Part = ("cylinder", (0, 0, 0.70), (0.018, 0.018, 0.68), metal, 0.0)
    return [*foot, pole, ("cylinder", (0, 0, 1.45), (0.20, 0.20, 0.15), (0.98, 0.93, 0.75), 0.0)]


def _plant(rgb: Rgb, wood: Rgb) -> list[Part]:
    pot: list[Part] = [("cylinder", (0, 0, 0.16), (0.16, 0.16, 0.16), rgb, 0.0)]
    leaves: list[Part] = [
        (
            "ellipsoid",
            (0.17 * np.cos(a), 0.17 * np.sin(a), 0.62 + 0.05 * a),
            (0.13, 0.13, 0.24),
            (0.18, 0.45, 0.2),
            0.3,
        )
        for a in (0.0, 1.3, 2.6, 3.9, 5.2)
    ]
    return [*pot, ("cylinder", (0, 0, 0.42), (0.025, 0.025, 0.14), (0.35, 0.26, 0.15), 0.0), *leaves]


def _ball(rgb: Rgb, wood: Rgb) -> list[Part]:
    return [("ellipsoid", (0, 0, 0.28), (0.28, 0.28, 0.28), rgb, 0.0)]


def _bin(rgb: Rgb, wood: Rgb) -> list[Part]:
    return [("cylinder", (0, 0, 0.22), (0.17, 0.17, 0.22), rgb, 0.0)]


def _boxes(rgb: Rgb, wood: Rgb) -> list[Part]:
    card: Rgb = (0.72, 0.56, 0.38)
    lower: list[Part] = [("box", (0, 0, 0.20), (0.32, 0.26, 0.20), card, 0.0)]
    return [*lower, ("box", (0.04, -0.02, 0.53), (0.22, 0.20, 0.13), rgb, 0.0)]


KINDS: dict[str, tuple[float, Callable[[Rgb, Rgb], list[Part]]]] = {
    "table": (0.85, _table), "chair": (0.36, _chair), "sofa": (1.05, _sofa), "shelf": (0.5, _shelf),
    "lamp": (0.3, _lamp), "plant": (0.36, _plant), "ball": (0.34, _ball), "bin": (0.28, _bin),
    "boxes": (0.42, _boxes),
}  # fmt: skip
"""Furniture name to (radius in metres of the circle it needs, maker of its parts)."""


def place(name: str, x: float, y: float, yaw: float, rgb: Rgb, wood: Rgb) -> Thing:
    """Return a piece of furniture (a key of KINDS) at (x, y) in metres, turned by yaw, in two colours."""
    radius, maker = KINDS[name]
    return Thing(name, [_stand(part, x, y, yaw) for part in maker(rgb, wood)], (x, y, radius))


def _stand(part: Part, x: float, y: float, yaw: float) -> Solid:
    """Place a part of a thing at (x, y), turned by yaw."""
    shape, center, half, rgb, grain = part
    cos, sin = np.cos(yaw), np.sin(yaw)
    at = (x + cos * center[0] - sin * center[1], y + sin * center[0] + cos * center[1], center[2])
    return Solid(shape, at, half, rgb, yaw, grain)
