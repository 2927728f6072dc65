"""The table of `host_learning.py`: means over seeds, and `influence` against the host's criterion on the same seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

REFERENCE = "host"

Results = dict[str, dict[str, dict[int, dict[str, Any]]]]
"""Model, criterion, seed: a cell's file."""


class Paired(NamedTuple):
    """Differences of two criteria over the seeds that both have; NaN where there is nothing to compare.

    Attributes
    ----------
    seeds : int
        Seeds that both have.
    mean, deviation : float
        Of the differences; the deviation is the sample's.
    p : float
        Two-sided paired t-test.
    """

    seeds: int
    mean: float
    deviation: float
    p: float


def load(out: Path) -> Results:
    """Read all cells of a folder.

    Raises
    ------
    ValueError
        If there is none, or cells of a model differ in settings, or those of a criterion in its options.
    """
    results: Results = {}
    for path in sorted((out / "cells").glob("*.json")):
        cell = json.loads(path.read_text())
        criteria = results.setdefault(cell["model"], {})
        others = [other for seeds in criteria.values() for other in seeds.values()]
        own = list(criteria.get(cell["criterion"], {}).values())
        if any(other["settings"] != cell["settings"] for other in others):
            raise ValueError(f"{path} has other settings than cells beside it: they do not compare")
        if any(other["options"] != cell["options"] for other in own):
            raise ValueError(f"{path} has other options of the criterion than its other seeds: train them again")
        criteria.setdefault(cell["criterion"], {})[cell["seed"]] = cell
    if not results:
        raise ValueError(f"{out / 'cells'} holds no cells: run the benchmark with the same --out first")
    return results


def values(cells: Mapping[int, Mapping[str, Any]], scenes: str, metric: str) -> dict[int, float]:
    """Return a metric on 'held_out' (also 'without_nms') or 'training' scenes, by seed."""
    return {seed: cell[scenes][metric] for seed, cell in cells.items()}


def spread(numbers: Sequence[float]) -> tuple[float, float]:
    """Return mean and sample's standard deviation; NaN where there are too few."""
    mean = float(np.mean(numbers)) if numbers else math.nan
    return mean, float(np.std(numbers, ddof=1)) if len(numbers) > 1 else math.nan


def paired(own: Mapping[int, float], other: Mapping[int, float]) -> Paired:
    """Compare on common seeds."""
    from scipy import stats

    common = sorted(own.keys() & other.keys())
    differences = [own[seed] - other[seed] for seed in common]
    mean, deviation = spread(differences)
    p = float(stats.ttest_1samp(differences, 0.0).pvalue) if deviation > 0 else math.nan
    return Paired(len(common), mean, deviation, p)


def markdown(results: Results) -> str:
    """Return the table for people, and what it was measured on."""
    head = (
        "| model | criterion | seeds | held-out AP (deviation) | AP50 | AP25 | without NMS AP | "
        "training scenes AP (deviation) | AP50 | held-out AP minus host's (deviation) | p | "
        "AP without NMS minus host's with NMS (deviation) | p | s per run |"
    )
    lines = [head, "|" + "---|" * 14]
    for model, criteria in results.items():
        for name in sorted(criteria, key=lambda name: name != REFERENCE):
            lines.append("| " + " | ".join([model, name, *_row(criteria, name)]) + " |")
    cells = [cell for criteria in results.values() for seeds in criteria.values() for cell in seeds.values()]
    devices = sorted({cell["device"] for cell in cells})
    steps = ", ".join(
        f"{model} {next(iter(next(iter(criteria.values())).values()))['settings']['steps']} steps"
        for model, criteria in results.items()
    )
    return "\n".join([*lines, "", f"{steps}; {'; '.join(devices)}"])


def _row(criteria: Mapping[str, Mapping[int, Mapping[str, Any]]], name: str) -> list[str]:
    cells = criteria[name]
    row = [str(len(cells)), _with_deviation(*spread(list(values(cells, "held_out", "ap").values())))]
    row += [_number(spread(list(values(cells, "held_out", metric).values()))[0]) for metric in ("ap50", "ap25")]
    row.append(_number(spread(list(values(cells, "without_nms", "ap").values()))[0]))
    row.append(_with_deviation(*spread(list(values(cells, "training", "ap").values()))))
    row.append(_number(spread(list(values(cells, "training", "ap50").values()))[0]))
    if name == REFERENCE or REFERENCE not in criteria:
        row += ["-"] * 4
    else:
        for scenes in ("held_out", "without_nms"):
            test = paired(values(cells, scenes, "ap"), values(criteria[REFERENCE], "held_out", "ap"))
            row += [_with_deviation(test.mean, test.deviation, "+.3f"), _number(test.p)]
    return [*row, f"{spread([cell['seconds'] for cell in cells.values()])[0]:.0f}"]


def _number(value: float, form: str = ".3f") -> str:
    return "-" if math.isnan(value) else format(value, form)


def _with_deviation(mean: float, deviation: float, form: str = ".3f") -> str:
    return f"{_number(mean, form)} ({_number(deviation)})"
