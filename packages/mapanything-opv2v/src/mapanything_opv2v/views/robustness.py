"""The page of curves: what becomes of a model's figures when things go wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mapanything_opv2v.views.evaluation import NOT_THERE, number
from mapanything_opv2v.views.html import PALETTE, write_page

FIGURES = (
    ("vehicle_translation_m", "vehicle_translation_scaled_m"),
    ("vehicle_rotation_deg", "vehicle_direction_deg"),
    ("depth_relative", "depth_relative_scaled"),
    ("chamfer_raw_m", "depth_within_25pct_scaled"),
    ("completeness_raw_m", "mask_iou"),
)
"""Drawn: the first of each that the model has."""

_SMALL = {"depth_relative", "depth_relative_scaled", "depth_within_25pct_scaled", "mask_iou"}

_NOTES = {
    "drop_agents": "Figures are of the views that are left: fewer views are fewer errors. Look at those of depth.",
    "pose_noise": "Standard deviation; ahead, aside and of heading. The truth is the true pose.",
    "time_offset": "The truth is of the moment at which each view was recorded.",
}

Curves = Mapping[str, Sequence[Mapping[str, Any]]]
"""What is varied to points: `value` and `figures`, by figure the mean of the model and of each baseline."""


def write_robustness(path: Path, curves: Curves, axes: Mapping[str, str]) -> None:
    """Write the page; `axes` says in words what is varied."""
    charts, tables = [], []
    for name, points in curves.items():
        having = Counter(figure for point in points for figure in point["figures"])
        shown = [next((f for f in pair if having[f] > 1), None) for pair in FIGURES]
        figures = [figure for figure in shown if figure]
        drawn = [_chart(figure, axes[name], [p for p in points if figure in p["figures"]]) for figure in figures]
        charts.append({"title": axes[name], "charts": drawn})
        rows = [
            [f"{point['value']:g}", *(number(point["figures"].get(f, {}).get("model")) for f in figures)]
            for point in points
        ]
        tables.append({"title": axes[name], "head": ["value", *figures], "rows": rows, "note": _NOTES[name]})
    write_page(
        path,
        title="Robustness",
        facts={"curves": ", ".join(curves) or NOT_THERE, "frames": "the same at every point"},
        body="tables.html",
        scripts=("tables.js",),
        data={"charts": charts, "tables": tables, "palette": list(PALETTE)},
    )


def _chart(figure: str, axis: str, points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(name for point in points for name in point["figures"][figure])
    series = [
        {
            "name": name,
            "flat": name != "model",
            "points": [[p["value"], p["figures"][figure][name]] for p in points if name in p["figures"][figure]],
        }
        for name in names
    ]
    unit = "share" if figure in _SMALL else figure.rpartition("_")[2].replace("deg", "degrees")
    return {"title": figure, "x": axis, "y": unit, "series": series}
