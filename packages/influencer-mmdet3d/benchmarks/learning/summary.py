"""The table of a comparison: means, paired tests against one of the criteria, steps to reach its AP."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from learning.settings import DIFFICULTIES

REFERENCE = "hungarian"
"""What the others are compared with, unless told otherwise."""
ENOUGH = 5  # pairs of seeds

Curves = dict[int, list[dict[str, float]]]
"""Seed: curve."""

Results = dict[str, dict[str, Curves]]
"""Difficulty, criterion: curves."""


class Row(NamedTuple):
    """One criterion at one difficulty; NaN where there is nothing to compare.

    Attributes
    ----------
    seeds, pairs : int
        Trainings, and how many of their seeds the reference has too.
    ap, ap_deviation, ap50, ap25 : float
        After the last step, with NMS: means over seeds, and the sample's standard deviation of AP.
    ratio, low, high : float
        Mean AP over the reference's on the seeds that both have, and the 95 % interval of the mean difference in AP.
    p_t, p_wilcoxon : float
        Two-sided paired t-test and Wilcoxon signed-rank test on these seeds.
    steps : float
        Step at which the mean curve reaches the reference's mean AP at the end, both over the common seeds.
    share : float
        The same as a share of the training.
    raw_ap, gap : float
        Mean AP without NMS, and how much is missing to AP with NMS.
    gap_change, p_gap : float
        Mean difference of the gap to the reference's on the common seeds, and its two-sided paired t-test.
    """

    difficulty: str
    criterion: str
    seeds: int
    pairs: int
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
    share: float
    raw_ap: float
    gap: float
    gap_change: float
    p_gap: float


class Wanted(NamedTuple):
    """Which cells a summary takes; None means all."""

    criteria: Sequence[str] | None = None
    difficulties: Sequence[str] | None = None
    seeds: Sequence[int] | None = None

    def holds(self, file: Mapping[str, Any]) -> bool:
        """Say whether a cell's file is one of them."""
        parts = ((self.criteria, "criterion"), (self.difficulties, "difficulty"), (self.seeds, "seed"))
        return all(wanted is None or file[key] in wanted for wanted, key in parts)


_ALL = Wanted()


def load(out: Path, wanted: Wanted = _ALL) -> tuple[Results, str]:
    """Read cells of a folder; return their curves, and a line that says what they were trained with.

    Raises
    ------
    ValueError
        If there is none, or settings differ between cells.
    """
    files = [json.loads(path.read_text()) for path in sorted((out / "cells").glob("*.json"))]
    files = [file for file in files if wanted.holds(file)]
    if not files:
        raise ValueError(f"{out / 'cells'} holds no such cells: run the benchmark with the same --out first")
    settings = files[0]["settings"]
    if any(file["settings"] != settings for file in files):
        raise ValueError(f"{out / 'cells'} holds cells of different settings: they do not compare")
    machines = sorted({f"{file['device']}, torch {file['torch']}" for file in files})
    made_with = f"{len(files)} cells; {'; '.join(machines)}; " + " ".join(f"{k}={v}" for k, v in settings.items())
    results: Results = {}
    for name in DIFFICULTIES:
        for file in files:
            if file["difficulty"] == name:
                seeds = results.setdefault(name, {}).setdefault(file["criterion"], {})
                seeds[file["seed"]] = file["curve"]
    return results, made_with


def final(curves: Curves, metric: str) -> dict[int, float]:
    """Return a metric after the last step, by seed."""
    return {seed: curve[-1][metric] for seed, curve in sorted(curves.items())}


def mean_curve(curves: Curves, metric: str) -> tuple[list[float], list[float]]:
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


def gaps(curves: Curves) -> dict[int, float]:
    """Return what AP loses without NMS after the last step, by seed."""
    raw = final(curves, "raw_ap")
    return {seed: ap - raw[seed] for seed, ap in final(curves, "ap").items()}


def rows(results: Results, against: str = REFERENCE) -> list[Row]:
    """Return the table, by difficulty and falling AP, compared with the criterion `against`."""
    table = []
    for difficulty, criteria in results.items():
        reference = criteria.get(against, {})
        lines = [_row(difficulty, name, curves, reference) for name, curves in criteria.items()]
        table += sorted(lines, key=lambda row: -row.ap)
    return table


def _row(difficulty: str, name: str, curves: Curves, reference: Curves) -> Row:
    common = {seed: curve for seed, curve in curves.items() if seed in reference}
    against, step, share = (math.nan,) * 5, math.nan, math.nan
    gap_change, p_gap = math.nan, math.nan
    if common:
        if curves is not reference:
            against = paired(final(curves, "ap"), final(reference, "ap"))
            _, low, high, p_gap, _ = paired(gaps(curves), gaps(reference))
            gap_change = (low + high) / 2
        steps, values = mean_curve(common, "ap")
        step = reached(steps, values, _mean({seed: reference[seed] for seed in common}, "ap"))
        share = step / steps[-1]
    ap, raw = _mean(curves, "ap"), _mean(curves, "raw_ap")
    deviation = float(np.std([*final(curves, "ap").values()], ddof=1)) if len(curves) > 1 else math.nan
    further = (_mean(curves, "ap50"), _mean(curves, "ap25"))
    return Row(
        difficulty, name, len(curves), len(common), ap, deviation, *further, *against, step, share, raw, ap - raw,
        gap_change, p_gap,
    )  # fmt: skip


def _mean(curves: Curves, metric: str) -> float:
    return float(np.mean([*final(curves, metric).values()]))


def markdown(table: Sequence[Row], against: str = REFERENCE) -> str:
    """Return the table for people, with what is needed to read it below."""
    name = _title(against)
    head = (
        f"| rooms | criterion | seeds | AP (deviation) | AP50 | AP25 | AP / {name}'s | difference, 95 % | p (t) | "
        f"p (Wilcoxon) | {name}'s final AP at step | AP without NMS | gap | gap minus {name}'s | p (t) |"
    )
    lines = [head, "|" + "---|" * 15]
    for row in table:
        deviation = "one seed" if row.seeds == 1 else _number(row.ap_deviation)
        cells: list[Any] = [row.difficulty, row.criterion, row.seeds, f"{row.ap:.3f} ({deviation})"]
        cells += [_number(row.ap50), _number(row.ap25), *_against(row, against)]
        cells += [_number(row.raw_ap), _number(row.gap)]
        cells += ["-" if math.isnan(row.gap_change) else f"{row.gap_change:+.3f}", _number(row.p_gap)]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join([*lines, "", *_notes(table, against)])


def _title(criterion: str) -> str:
    return "Hungarian" if criterion == REFERENCE else criterion


def _against(row: Row, against: str) -> list[str]:
    """Return the cells that compare a row with the reference, each with the reason where there is no figure."""
    at = "not reached" if math.isnan(row.steps) else f"{row.steps:.0f} ({row.share:.0%})"
    if row.criterion == against:
        return ["-"] * 4 + [at]
    if row.pairs == 0:
        return ["no pair"] * 5
    if math.isnan(row.p_t):
        return [_number(row.ratio), *["one pair" if row.pairs == 1 else "all equal"] * 3, at]
    interval = f"{row.low:+.3f} to {row.high:+.3f}"
    return [_number(row.ratio), interval, _number(row.p_t), _number(row.p_wilcoxon), at]


def _notes(table: Sequence[Row], against: str) -> list[str]:
    name = _title(against)
    lines = [
        f"AP after the last step; deviation over seeds. Compared with {name} on the seeds that both have "
        "(pairs): ratio of means, 95 % interval of the mean difference, two-sided paired tests. The step is where the "
        f"mean curve, linear between evaluations and 0 before the first step, reaches {name}'s final AP."
    ]
    if any(0 < row.pairs < ENOUGH for row in table if row.criterion != against):
        lines.append(
            f"Rows with fewer than {ENOUGH} pairs are an exploration: one pair gives no test, two an interval too wide "
            "to say anything, and Wilcoxon's p with n pairs is at least 2^(1 - n): 0.5 with 2, 0.0625 with 5."
        )
    return lines


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
