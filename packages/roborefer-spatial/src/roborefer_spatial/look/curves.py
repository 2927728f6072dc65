"""Success curves: which share of the visible objects is answered within a distance, for every distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from roborefer_spatial.scoring.score import Bools, Floats, Scores

LIMIT = 0.25
"""Largest distance shown, as a fraction of the query image's width and height."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""

_DASHES = ("none", "6 3", "2 2", "8 3 2 3")
_W, _H, _LEFT, _TOP, _RIGHT, _BOTTOM = 640, 360, 56, 16, 16, 44


@dataclass(frozen=True, slots=True)
class Curve:
    """A name and a step function: `success[i]` from `distance[i]` on, 0 before the first."""

    name: str
    distance: Floats
    success: Floats


def success_curve(name: str, scores: Scores, chosen: Bools) -> Curve:
    """Return the curve of the chosen samples with a visible object.

    Distances are in the query image's frame, so that curves of side-by-side and of separate images compare.
    An answer of several points counts with its mean distance. What is not a point on the query image never
    succeeds, so the curve may end below 1.
    """
    visible = chosen & scores.visible
    on_query = np.array([reason == "points" for reason in scores.reason], dtype=bool)
    distance = np.sort(scores.l2_query[visible & on_query & ~np.isnan(scores.l2_query)])
    share = np.arange(1, len(distance) + 1) / max(1, int(visible.sum()))
    return Curve(name, distance, share)


def svg(curves: Sequence[Curve]) -> str:
    """Return the curves as an SVG element; names are escaped."""
    parts = [
        f'<svg class="curves" viewBox="0 0 {_W} {_H + 20 * len(curves)}" role="img" '
        'xmlns="http://www.w3.org/2000/svg" font-size="12" font-family="sans-serif">',
        "<title>Success curves</title>",
    ]
    for tick in range(6):
        y, x = _y(tick / 5), _x(LIMIT * tick / 5)
        parts.append(f'<line x1="{_LEFT}" x2="{_W - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick * 20} %</text>')
        parts.append(f'<text x="{x:.1f}" y="{_H - _BOTTOM + 18}" text-anchor="middle">{LIMIT * tick / 5:.2f}</text>')
    parts.append(
        f'<text x="{_W / 2}" y="{_H - 8}" text-anchor="middle">'
        "distance to the true point (fraction of the query image's width and height)</text>"
    )
    for index, curve in enumerate(curves):
        colour, dash = COLOURS[index % len(COLOURS)], _DASHES[index // len(COLOURS) % len(_DASHES)]
        style = f'stroke="{colour}" stroke-dasharray="{dash}" stroke-width="2"'
        parts.append(f'<path d="{_path(curve)}" fill="none" {style}/>')
        y = _H + 20 * index + 8
        parts.append(f'<line x1="{_LEFT}" x2="{_LEFT + 28}" y1="{y - 4}" y2="{y - 4}" {style}/>')
        parts.append(f'<text x="{_LEFT + 36}" y="{y}">{escape(curve.name)}</text>')
    return "".join([*parts, "</svg>"])


def at(curve: Curve, distance: float) -> float:
    """Return the success within a distance."""
    index = int(np.searchsorted(curve.distance, distance, side="right"))
    return float(curve.success[index - 1]) if index else 0.0


def _x(distance: float) -> float:
    return _LEFT + (_W - _LEFT - _RIGHT) * distance / LIMIT


def _y(success: float) -> float:
    return _H - _BOTTOM - (_H - _TOP - _BOTTOM) * success


def _path(curve: Curve) -> str:
    """Return the curve at 200 distances as an SVG path."""
    places = np.linspace(0, LIMIT, 201)
    points = [f"{_x(float(d)):.1f},{_y(at(curve, float(d))):.1f}" for d in places]
    return "M" + " L".join(points)
