"""The demo's self-contained page: figures, curves and a point-cloud view that turns in any browser."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from influencer_mmdet3d.data.rooms import CLASSES
from influencer_mmdet3d.demo.compare import WRONG, Shown, found_instances
from influencer_mmdet3d.demo.train import CRITERIA, TrainedRun, by_criterion

PALETTE = (
    (170, 214, 180), (150, 160, 190), (120, 190, 200), (225, 205, 90), (190, 110, 190), (110, 130, 240),
    (200, 170, 90), (165, 105, 200), (225, 60, 60), (190, 110, 100), (30, 165, 100), (70, 70, 80), (130, 130, 60),
)  # fmt: skip
"""One colour 0 to 255 for each of `CLASSES`."""


def room_data(name: str, points: npt.NDArray[np.float32], shown: dict[str, Shown]) -> dict[str, Any]:
    """Return what the page needs of one room: millimetres, colours and labellings in base64.

    Parameters
    ----------
    name : str
        What the room is called.
    points : ndarray, shape (N, 6)
        Metres from the room's corner (at most 32 m), colours 0 to 255.
    shown : dict
        'truth' and a labelling of each criterion.
    """
    millimetres = np.clip(np.rint(points[:, :3] * 1000), -32768, 32767).astype("<i2")
    return {
        "name": name,
        "count": len(points),
        "xyz": _base64(millimetres.tobytes()),
        "rgb": _base64(np.clip(np.rint(points[:, 3:]), 0, 255).astype(np.uint8).tobytes()),
        "shown": {
            key: {
                "instance": _base64(view.instance.astype("<i2").tobytes()),
                "label": _base64(view.label.tobytes()),
                "scores": view.scores,
                "matched": view.matched,
                "missed": view.missed,
                "wrong": view.wrong,
            }
            for key, view in shown.items()
        },
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def write_page(
    *,
    title: str,
    summary: str,
    note: str,
    synthetic: str,
    command: str,
    runs: Sequence[TrainedRun],
    rooms: Sequence[dict[str, Any]],
    curves: bytes,
) -> str:
    """Return the page as text.

    Parameters
    ----------
    title, summary, note, synthetic, command : str
        Plain text; escaped here.
    runs : sequence of TrainedRun
        For the table of figures.
    rooms : sequence of dict
        From `room_data`.
    curves : bytes
        A PNG.
    """
    data = {
        "rooms": list(rooms),
        "classes": list(CLASSES),
        "palette": PALETTE,
        "wrong": WRONG,
        "views": {"truth": "ground truth", **{name: CRITERIA[name] for name in by_criterion(runs)}, "photo": "colour"},
    }
    # in a script element only "<" can end the element early; in JSON it may be written as an escape
    embedded = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    page = (files("influencer_mmdet3d") / "demo" / "page.html").read_text(encoding="utf-8")
    parts = {
        "TITLE": html.escape(title),
        "SUMMARY": html.escape(summary),
        "NOTE": html.escape(note),
        "SYNTHETIC": html.escape(synthetic),
        "COMMAND": html.escape(command),
        "TABLE": _table(runs),
        "CURVES": _base64(curves),
        "VIEWER": (files("influencer_mmdet3d") / "predict" / "viewer.js").read_text(encoding="utf-8"),
        "DATA": embedded,
    }
    for name, value in parts.items():
        page = page.replace(f"__{name}__", value)
    return page


def _table(runs: Sequence[TrainedRun]) -> str:
    several = len({run.seed for run in runs}) > 1
    rows = []
    for name, group in by_criterion(runs).items():
        for run in group:
            found, total = found_instances(run.rooms)
            cells = [f"{run.final[key]:.3f}" for key in ("ap", "ap50", "ap25")]
            title = f"{CRITERIA[name]}, seed {run.seed}" if several else CRITERIA[name]
            rows.append([title, f"{found} of {total}", *cells, f"{run.cpu_seconds:.0f} s"])
    head = ["criterion", "found", "AP", "AP50", "AP25", "processor time"]
    lines = [_row("th", head), *(_row("td", row) for row in rows)]
    return f"<div class='wide'><table>{''.join(lines)}</table></div>"


def _row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"
