"""Pages of figures: one evaluation beside its baselines, and one table over models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mapanything_opv2v.evaluation import models
from mapanything_opv2v.evaluation.verdict import SMALLER_IS_BETTER
from mapanything_opv2v.views.html import PALETTE, write_page

NOT_THERE = "–"


def write_evaluation(path: Path, summary: Mapping[str, Any]) -> None:
    """Write an evaluation's page from its summary."""
    provenance = summary["provenance"]
    inputs = ", ".join(["images", *provenance.get("inputs", ())])
    model = provenance.get("checkpoint") or provenance.get("model") or "predictions on disk"
    write_page(
        path,
        title=f"Evaluation · {model}",
        facts={
            "frames": str(summary["frames"]),
            "failed": str(len(summary["failed"])),
            "the model sees": inputs,
            "split": str((provenance.get("data") or {}).get("split", NOT_THERE)),
        },
        body="tables.html",
        scripts=("tables.js",),
        data={"verdicts": verdicts(summary), "tables": [_beside(summary), _all(summary)], "palette": list(PALETTE)},
    )


def verdicts(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a sentence for each baseline, and whether the model loses to it."""
    found = []
    for name, compared in summary["baselines"].items():
        if "missing" in compared:
            found.append({"text": f"{name}: no baseline: {compared['missing']}", "bad": False})
        else:
            found.append({"text": compared["sentence"], "bad": bool(compared["loses_in"])})
    return found


def number(value: float | None) -> str:
    """Return a figure for a table."""
    if value is None:
        return NOT_THERE
    return f"{value:.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def _beside(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table of judged figures; cells in which the model loses are marked."""
    compared = {name: found["figures"] for name, found in summary["baselines"].items() if "figures" in found}
    rows: list[list[str]] = []
    bad: list[list[int]] = []
    for figure, smaller in SMALLER_IS_BETTER.items():
        mean = summary["figures"].get(figure, {}).get("mean")
        if mean is None:
            continue
        row = [figure, "smaller" if smaller else "larger", number(mean)]
        for found in (figures.get(figure) for figures in compared.values()):
            if found is not None and not found["better"]:
                bad.append([len(rows), len(row)])
            row.append(NOT_THERE if found is None else number(found["baseline"]))
        rows.append(row)
    return {
        "title": "Beside what takes no learning",
        "head": ["mean", "better is", "model", *compared],
        "rows": rows,
        "bad": bad,
        "note": "constant: one relative pose and one range image per role of a view, fitted on the training split. "
        "view0_copied: the model's own view 0 for every view. Red: as good as the model, or better.",
    }


def _all(summary: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("mean", "median", "std", "p90", "frames")
    rows = [
        [name, *(number(found[key]) for key in keys)] for name, found in summary["figures"].items() if found["frames"]
    ]
    return {"title": "All figures", "head": ["figure", *keys], "rows": rows}


def write_models(path: Path, rows: Sequence[models.Row]) -> None:
    """Write the page of one table over models: a line for each figure, a column for each model."""
    leads = models.best(rows)
    lines: list[list[str]] = []
    good: list[list[int]] = []
    for figure, smaller in SMALLER_IS_BETTER.items():
        if any(row.means[figure] is not None for row in rows):
            if figure in leads:
                good.append([len(lines), 2 + leads[figure]])
            better = "smaller" if smaller else "larger"
            lines.append([figure, better, *(number(row.means[figure]) for row in rows)])
    verdicts = [
        {"text": f"{row.name}: loses to {baseline} in {count} figures", "bad": True}
        for row in rows
        for baseline, count in row.loses.items()
        if count
    ]
    notes = [f"{row.name}: {row.differs}" for row in rows if row.differs]
    note = "Means over the same frames; green: best of the line. A dash: the model has no such figure, for want of a "
    note += "metric scale or a mask." + (f" Data options that differ: {'; '.join(notes)}." if notes else "")
    table = {"title": "Models", "head": ["mean", "better is", *(row.name for row in rows)]}
    write_page(
        path,
        title="Models on the same frames",
        facts={"models": str(len(rows))},
        body="tables.html",
        scripts=("tables.js",),
        data={
            "verdicts": verdicts,
            "tables": [{**table, "rows": lines, "good": good, "note": note}],
            "palette": list(PALETTE),
        },
    )
