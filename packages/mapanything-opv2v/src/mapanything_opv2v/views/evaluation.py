"""The page of one evaluation: the model's figures beside those of baselines, and who is better."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    return NOT_THERE if value is None else f"{value:.4g}"


def _beside(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table of judged figures; cells in which the model loses are marked."""
    compared = {name: found["figures"] for name, found in summary["baselines"].items() if "figures" in found}
    rows, bad, good = [], [], []
    for figure, smaller in SMALLER_IS_BETTER.items():
        mean = summary["figures"].get(figure, {}).get("mean")
        if mean is None:
            continue
        row = [figure, "smaller" if smaller else "larger", number(mean)]
        for found in (figures.get(figure) for figures in compared.values()):
            if found is not None:
                (good if found["better"] else bad).append([len(rows), len(row)])
            row.append(NOT_THERE if found is None else number(found["baseline"]))
        rows.append(row)
    return {
        "title": "Beside what takes no learning",
        "head": ["mean", "better is", "model", *compared],
        "rows": rows,
        "bad": bad,
        "good": good,
        "note": "constant: one relative pose and one range image per role of a view, fitted on the training split. "
        "view0_copied: the model's own view 0 for every view. Red: the model is not better.",
    }


def _all(summary: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("mean", "median", "std", "p90", "frames")
    rows = [
        [name, *(number(found[key]) for key in keys)] for name, found in summary["figures"].items() if found["frames"]
    ]
    return {"title": "All figures", "head": ["figure", *keys], "rows": rows}
