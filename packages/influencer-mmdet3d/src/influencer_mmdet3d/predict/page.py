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

from influencer_mmdet3d.predict.results import Predictions

STEPS = 65535
"""Coordinates are whole steps of 16 bits: of the cloud's largest side, one 65535th."""


def write_page(name: str, points: npt.NDArray[np.float32], found: Predictions, least: float, most: int) -> str:
    """Return the page as text.

    Parameters
    ----------
    name : str
        Of the cloud.
    points : ndarray, shape (N, 6)
        x, y, z in metres near the origin, colours 0 to 255.
    found : Predictions
        Of the cloud.
    least : float
        Score from which instances are shown to begin with.
    most : int
        M at most; of a larger cloud a random sample is shown.
    """
    rows = np.random.default_rng(0).permutation(len(points))[:most]  # in random order: the first ones are a sample
    low = points[:, :3].min(0)
    step = float(max(np.ptp(points[:, :3], axis=0).max(), 1e-3)) / STEPS
    steps = np.clip(np.rint((points[rows, :3] - low) / step), 0, STEPS)
    instance = found.instance_of_points()
    data: dict[str, Any] = {
        "count": len(rows),
        "total": len(points),
        "step": step,
        "top": float((np.quantile(points[:, 2], 0.995) - low[2]) / step),
        "xyz": _base64(steps.astype("<u2")),
        "rgb": _base64(points[rows, 3:].astype(np.uint8)),
        "instance": _base64(instance[rows].astype("<i4")),
        "semantic": _base64(found.semantic[rows].astype("<i2")),
        "classes": list(found.class_names),
        "semantic_names": list(found.semantic_names),
        "instances": [_record(found, points, number) for number in range(len(found))],
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


def _record(found: Predictions, points: npt.NDArray[np.float32], number: int) -> list[Any]:
    """Return class, score, points and size in metres of an instance."""
    rows = found.points_of(number)
    size = np.ptp(points[rows, :3], axis=0)
    return [int(found.labels[number]), round(float(found.scores[number]), 4), len(rows), size.round(2).tolist()]


def _base64(values: npt.NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
