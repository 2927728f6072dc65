"""One table over models: several evaluations of the same frames, and the constant baseline among them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mapanything_opv2v.evaluation.baselines import CONSTANT
from mapanything_opv2v.evaluation.verdict import SMALLER_IS_BETTER
from mapanything_opv2v.files import read_json, write_bytes, write_json

Means = dict[str, float | None]
"""Mean by figure; None where a model has no such figure."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    means: Means
    loses: Mapping[str, int]
    """Baseline to number of figures in which the model loses to it; empty for a baseline itself."""
    differs: str = ""
    """Data options that are not those of the first line."""


def load_rows(folders: Sequence[Path]) -> list[Row]:
    """Return a line for each evaluation, and one for the constant baseline (of the first that has one).

    Raises
    ------
    ValueError
        If a folder holds no finished evaluation, or they are not of the same frames and options.
    OSError
        If a file cannot be read.
    """
    summaries = {folder: _summary(folder) for folder in folders}
    first_folder, first = next(iter(summaries.items()))
    rows, constant = [], None
    for folder, summary in summaries.items():
        differs = _differences(first["provenance"], summary["provenance"], first_folder, folder)
        baselines = summary.get("baselines", {})
        loses = {name: len(found["loses_in"]) for name, found in baselines.items() if "loses_in" in found}
        rows.append(Row(_name(folder, summary["provenance"]), _means(summary["figures"]), loses, differs))
        if constant is None and "all_figures" in baselines.get(CONSTANT, {}):
            constant = Row(f"{CONSTANT} (no learning)", _means(baselines[CONSTANT]["all_figures"]), {})
    return rows if constant is None else [*rows, constant]


def best(rows: Sequence[Row]) -> dict[str, int]:
    """Return the number of the best line of each figure that more than one line has."""
    found = {}
    for figure, smaller in SMALLER_IS_BETTER.items():
        there = [(row.means[figure], number) for number, row in enumerate(rows) if row.means[figure] is not None]
        if len(there) > 1:
            found[figure] = (min if smaller else max)(there, key=lambda item: item[0] or 0.0)[1]
    return found


def write_files(folder: Path, rows: Sequence[Row]) -> None:
    """Write `models.csv` and `models.json`."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["model", *SMALLER_IS_BETTER])
    for row in rows:
        table.writerow([row.name, *("" if v is None else repr(v) for v in row.means.values())])
    write_bytes(folder / "models.csv", text.getvalue().encode())
    plain = [{"model": r.name, "means": r.means, "loses": dict(r.loses), "differs": r.differs} for r in rows]
    write_json(folder / "models.json", plain)


def _summary(folder: Path) -> dict[str, Any]:
    path = folder / "summary.json"
    if not path.is_file():
        raise ValueError(f"{folder}: no summary.json; give folders that `evaluate` has finished")
    summary = read_json(path)
    if not isinstance(summary, dict) or not {"figures", "provenance"} <= set(summary):
        raise ValueError(f"{path}: no summary of an evaluation")
    return summary


def _differences(first: Mapping[str, Any], other: Mapping[str, Any], first_folder: Path, folder: Path) -> str:
    for key, text in (("frames_sha256", "other frames"), ("options", "other options of the figures")):
        if first.get(key) != other.get(key):
            raise ValueError(f"{folder} was evaluated on {text} than {first_folder}; a table needs the same ones")
    data, there = first.get("data") or {}, other.get("data") or {}
    listed = [f"{key} {there.get(key)}" for key in sorted({*data, *there}) if data.get(key) != there.get(key)]
    return ", ".join(listed)


def _name(folder: Path, provenance: Mapping[str, Any]) -> str:
    inputs = "+".join(["images", *provenance.get("inputs", ())])
    return f"{folder.resolve().name}: {provenance.get('checkpoint') or 'predictions'} ({inputs})"


def _means(figures: Mapping[str, Any]) -> Means:
    return {name: figures.get(name, {}).get("mean") for name in SMALLER_IS_BETTER}
