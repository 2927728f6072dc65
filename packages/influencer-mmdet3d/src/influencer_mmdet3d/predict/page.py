"""The page of a cloud's predictions: one file that shows it in any browser, without a network.

Shape letters: ``N`` points of the cloud, ``M`` points in the page.
"""

from __future__ import annotations

import base64
import html
import json
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from influencer_mmdet3d.data.clouds import Points, bounds
from influencer_mmdet3d.data.scratch import Scratch
from influencer_mmdet3d.predict.results import Predictions

STEPS = 65535
"""Coordinates are whole steps of 16 bits: of the cloud's largest side, one 65535th."""


def write_page(
    name: str, points: Points, found: Predictions, corners: npt.NDArray[np.float64], least: float, most: int
) -> str:
    """Return the page as text.

    Parameters
    ----------
    name : str
        Of the cloud.
    points : Points
        Of the cloud.
    found : Predictions
        Of the cloud.
    corners : ndarray, shape (K, 2, 3)
        Least and greatest coordinates of each instance, in the cloud's own.
    least : float
        Score from which instances are shown to begin with.
    most : int
        M at most; of a larger cloud a random sample is shown.
    """
    rows = _random_order(len(points), found.scratch)[:most]  # the first ones of the page are a sample
    shown = points[rows]
    low, high = (points.placed(corner) for corner in bounds(points.cloud.xyz, found.scratch))
    step = float(max((high - low).max(), 1e-3)) / STEPS
    steps = np.clip(np.rint((shown[:, :3] - low) / step), 0, STEPS)
    instance = found.instance_of_points()
    data: dict[str, Any] = {
        "count": len(rows),
        "total": len(points),
        "step": step,
        "top": float((_top(points, found.scratch) - low[2]) / step),
        "xyz": _base64(steps.astype("<u2")),
        "rgb": _base64(shown[:, 3:].astype(np.uint8)),
        "instance": _base64(instance[rows].astype("<i4")),
        "semantic": _base64(found.semantic[rows].astype("<i2")),
        "classes": list(found.class_names),
        "semantic_names": list(found.semantic_names),
        "instances": [_record(found, number, points.placed(box)) for number, box in enumerate(corners)],
        "least": round(least, 4),
    }
    # in a script element only "<" can end the element early; in JSON it may be written as an escape
    embedded = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    note = "" if len(rows) == len(points) else f"The page holds a random sample of {len(rows):,} points."
    folder = files("influencer_mmdet3d") / "predict"
    page = (folder / "page.html").read_text(encoding="utf-8")
    parts = {
        "TITLE": html.escape(name),
        "NOTE": note,
        "VIEWER": (folder / "viewer.js").read_text(encoding="utf-8"),
        "DATA": embedded,
    }
    for key, value in parts.items():
        page = page.replace(f"__{key}__", value)
    return page


def _random_order(count: int, scratch: Scratch) -> npt.NDArray[np.int64]:
    rows = scratch.empty(count, np.int64)
    for part in scratch.parts(count):
        rows[part] = np.arange(part.start, part.stop)
    np.random.default_rng(0).shuffle(rows)
    scratch.release()
    return rows


def _top(points: Points, scratch: Scratch) -> float:
    """Return the height below which almost all points lie."""
    heights = scratch.empty(len(points), np.float32)
    for part in scratch.parts(len(points)):
        heights[part] = points[part][:, 2]
    top = np.quantile(heights, 0.995, overwrite_input=True)
    scratch.release()
    return top


def _record(found: Predictions, number: int, box: npt.NDArray[np.float32]) -> list[Any]:
    """Return class, score, points and size in metres of an instance."""
    count, size = len(found.points_of(number)), box[1] - box[0]
    return [int(found.labels[number]), round(float(found.scores[number]), 4), count, size.round(2).tolist()]


def _base64(values: npt.NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
