"""The table of a comparison: means, paired tests against Hungarian matching, steps to reach its AP."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from learning.settings import DIFFICULTIES

REFERENCE = "hungarian"

Results = dict[str, dict[str, dict[int, list[dict[str, float]]]]]
"""Difficulty, criterion, seed: curve."""


class Row(NamedTuple):
    """One criterion at one difficulty; NaN where there is nothing to compare.

    Attributes
    ----------
    seeds : int
        Trainings.
    ap, ap_deviation, ap50, ap25 : float
        After the last step, with NMS: means over seeds, and the sample's standard deviation of AP.
    ratio, low, high : float
        Mean AP over Hungarian's on the seeds that both have, and the 95 % interval of the mean difference in AP.
    p_t, p_wilcoxon : float
        Two-sided paired t-test and Wilcoxon signed-rank test on these seeds.
    steps : float
        Share of the training after which the mean curve reaches Hungarian's mean AP at the end.
    raw_ap, gap : float
        Mean AP without NMS, and how much is missing to AP with NMS.
    """

    difficulty: str
    criterion: str
    seeds: int
    ap: float
    ap_deviation: float
    ap50: float
    ap25: float
    ratio: float
    low: float
    high: float
    p_t: float
    p_wilcoxon: float
    steps: float
    raw_ap: float
    gap: float


def load(out: Path) -> Results:
    """Read all cells of a folder.

    Raises
    ------
    ValueError
        If there is none, or settings differ between cells.
    """
    files = [json.loads(path.read_text()) for path in sorted((out / "cells").glob("*.json"))]
    if not files:
        raise ValueError(f"{out / 'cells'} holds no cells: run the benchmark with the same --out first")
    if any(file["settings"] != files[0]["settings"] for file in files):
        raise ValueError(f"{out / 'cells'} holds cells of different settings: they do not compare")
    results: Results = {}
    for name in DIFFICULTIES:
        for file in files:
            if file["difficulty"] == name:
                seeds = results.setdefault(name, {}).setdefault(file["criterion"], {})
                seeds[file["seed"]] = file["curve"]
    return results


def final(curves: dict[int, list[dict[str, float]]], metric: str) -> dict[int, float]:
    """Return a metric after the last step, by seed."""
    return {seed: curve[-1][metric] for seed, curve in sorted(curves.items())}


def mean_curve(curves: dict[int, list[dict[str, float]]], metric: str) -> tuple[list[float], list[float]]:
    """Return steps, and the mean of a metric over seeds."""
    values = np.array([[point[metric] for point in curve] for curve in curves.values()])
    steps = [point["step"] for point in next(iter(curves.values()))]
    return steps, values.mean(0).tolist()


def reached(steps: Sequence[float], values: Sequence[float], target: float) -> float:
    """Return the step at which a curve from (0, 0) first reaches a target, between points linearly; else NaN."""
    before, low = 0.0, 0.0
    for step, value in zip(steps, values):
        if value >= target:
            share = 1.0 if value == low else (target - low) / (value - low)
            return before + max(share, 0.0) * (step - before)
        before, low = step, value
    return math.nan


def paired(own: dict[int, float], other: dict[int, float]) -> tuple[float, float, float, float, float]:
    """Return ratio of means, 95 % interval of the mean difference, and p of the t-test and of Wilcoxon's test."""
    from scipy import stats

    common = sorted(own.keys() & other.keys())
    a, b = np.array([own[seed] for seed in common]), np.array([other[seed] for seed in common])
    ratio = float(a.mean() / b.mean()) if len(common) and b.mean() > 0 else math.nan
    if len(common) < 2 or not np.any(a != b):
        return ratio, math.nan, math.nan, math.nan, math.nan
    test = stats.ttest_rel(a, b)
    low, high = test.confidence_interval(0.95)
    return ratio, float(low), float(high), float(test.pvalue), float(stats.wilcoxon(a, b).pvalue)


def rows(results: Results) -> list[Row]:
    """Return the table, by difficulty and falling AP."""
    table = []
    for difficulty, criteria in results.items():
        reference = criteria.get(REFERENCE, {})
        lines = []
        for name, curves in criteria.items():
            ap, raw = final(curves, "ap"), final(curves, "raw_ap")
            mean, without = float(np.mean([*ap.values()])), float(np.mean([*raw.values()]))
            deviation = float(np.std([*ap.values()], ddof=1)) if len(ap) > 1 else math.nan
            against = (math.nan,) * 5
            share = math.nan
            if reference:
                if name != REFERENCE:
                    against = paired(ap, final(reference, "ap"))
                steps, values = mean_curve(curves, "ap")
                share = reached(steps, values, float(np.mean([*final(reference, "ap").values()]))) / steps[-1]
            ap50, ap25 = (float(np.mean([*final(curves, metric).values()])) for metric in ("ap50", "ap25"))
            values_of = (len(ap), mean, deviation, ap50, ap25, *against, share, without, mean - without)
            lines.append(Row(difficulty, name, *values_of))
        table += sorted(lines, key=lambda row: -row.ap)
    return table


def markdown(table: Sequence[Row]) -> str:
    """Return the table for people."""
    head = (
        "| rooms | criterion | seeds | AP (deviation) | AP50 | AP25 | AP / Hungarian's | difference, 95 % | p (t) | "
        "p (Wilcoxon) | Hungarian's AP at | AP without NMS | gap |"
    )
    lines = [head, "|" + "---|" * 13]
    for row in table:
        interval = "-" if math.isnan(row.low) else f"{row.low:+.3f} to {row.high:+.3f}"
        at = "not reached" if math.isnan(row.steps) else f"{row.steps:.0%} of steps"
        cells: list[Any] = [row.difficulty, row.criterion, row.seeds, f"{row.ap:.3f} ({_number(row.ap_deviation)})"]
        cells += [_number(row.ap50), _number(row.ap25), _number(row.ratio), interval]
        cells += [_number(row.p_t), _number(row.p_wilcoxon), at, _number(row.raw_ap), _number(row.gap)]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
