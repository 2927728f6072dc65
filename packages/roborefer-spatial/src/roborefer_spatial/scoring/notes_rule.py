"""The research evaluator's rule, for figures that were made with it: `evaluate --rule notes`.

It is written anew from its description, and printed beside the strict score, never instead of it:

- NOT_VISIBLE anywhere in an answer wins, whatever else it says;
- of points only the first `[(x, y)]` counts, two plain numbers; every other form is unread;
- numbers are clamped to 0..1, so that a point outside can hit what touches the edge;
- the pixel of x is `round(x * (width - 1))`; the mask is the dilated one, or else the raw one;
- L2, success and Hit@Mask have the visible objects whose answer has such a point as denominator; answers that
  were not read, and NOT_VISIBLE for an object in view, count nowhere.

An answer about a side-by-side image is first taken to the frame of B; the research builder's own side-by-side
files, whose truth stood in B's frame, could not be scored in one frame at all.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roborefer_spatial.sample import Point, Sample
from roborefer_spatial.scoring.points import frames_of, inside_masks, locate
from roborefer_spatial.scoring.score import THRESHOLDS, Scores

_POINT = re.compile(r"\[\(\s*([0-9.]+)\s*,\s*([0-9.]+)\s*\)\]")
_NAMES = ("success_002", "success_005", "success_010")


def read(text: str | None) -> Point | str | None:
    """Return what the rule reads: a point clamped to 0..1, "NOT_VISIBLE", or None.

    >>> read("[(640, 0.25)]"), read("(0.1, 0.2)"), read("[(0.1, 0.2)], or not_visible?")
    ((1.0, 0.25), None, 'NOT_VISIBLE')
    """
    if text is None:
        return None
    if "NOT_VISIBLE" in text.upper():
        return "NOT_VISIBLE"
    found = _POINT.search(text)
    try:
        return None if found is None else (_clamped(float(found[1])), _clamped(float(found[2])))
    except ValueError:  # such as "1.2.3"
        return None


def _clamped(value: float) -> float:
    return min(1.0, max(0.0, value))


def by_set(scores: Scores, *, workers: int = 4) -> dict[str, dict[str, Any]]:
    """Return the rule's metrics of every task and split, under the names of the research scripts."""
    answers = [read(text) for text in scores.texts]
    hits = _hits(scores, answers, workers)
    names = np.array([f"{sample.task}/{sample.split}" for sample in scores.samples])
    return {
        name: _metrics(scores, answers, hits, np.flatnonzero(names == name)) for name in dict.fromkeys(names.tolist())
    }


def _in_query(sample: Sample, point: Point) -> Point:
    if sample.concat is None:
        return point
    x, y = sample.concat.full_to_right(*point)
    return _clamped(x), _clamped(y)


def _hits(scores: Scores, answers: list[Point | str | None], workers: int) -> NDArray[np.float64]:
    """Return (N,) 1 for a hit, 0 for a miss, NaN where the rule scores nothing."""
    chosen = [i for i, said in enumerate(answers) if scores.visible[i] and isinstance(said, tuple)]
    samples = [scores.samples[i] for i in chosen]
    xy = np.zeros((len(chosen), 2))
    for row, (i, sample) in enumerate(zip(chosen, samples)):
        said = answers[i]
        assert isinstance(said, tuple)
        pixel = [round(v * (side - 1)) for v, side in zip(_in_query(sample, said), sample.query_size)]
        point = ((pixel[0] + 0.5) / sample.query_size[0], (pixel[1] + 0.5) / sample.query_size[1])
        xy[row] = sample.concat.right_to_full(*point) if sample.concat else point
    frames, codes = frames_of(samples)
    points = locate(frames, codes, np.arange(len(chosen)), xy)
    inside, _ = inside_masks(points, samples, [s.mask_dilated_path or s.mask_path for s in samples], workers=workers)
    hits = np.full(len(answers), np.nan)
    hits[chosen] = inside
    return hits


def _metrics(
    scores: Scores, answers: list[Point | str | None], hits: NDArray[np.float64], index: NDArray[np.int64]
) -> dict[str, Any]:
    rows = index.tolist()
    hidden = [i for i in rows if not scores.visible[i]]
    scored = [i for i in rows if not np.isnan(hits[i])]
    distances = np.array([_distance(scores.samples[i], answers[i]) for i in scored])
    count = int(hits[scored].sum()) if scored else 0
    return {
        "total": len(rows),
        "gt_not_visible": len(hidden),
        "visible_gt": len(rows) - len(hidden),
        "not_visible_accuracy": _share(sum(answers[i] == "NOT_VISIBLE" for i in hidden), len(hidden)),
        "mean_l2_error": float(distances.mean()) if scored else None,
        "std_l2_error": float(distances.std()) if scored else None,
        "median_l2_error": float(np.median(distances)) if scored else None,
        **{name: _share(int((distances <= limit).sum()), len(scored)) for name, limit in zip(_NAMES, THRESHOLDS)},
        "hit_at_mask": _share(count, len(scored)),
        "hit_at_mask_count": count,
        "hit_at_mask_total": len(scored),
    }


def _distance(sample: Sample, said: Point | str | None) -> float:
    assert isinstance(said, tuple) and sample.answer_point is not None
    truth, answer = _in_query(sample, sample.answer_point), _in_query(sample, said)
    return float(np.hypot(answer[0] - truth[0], answer[1] - truth[1]))


def _share(count: int, total: int) -> float | None:
    return count / total if total else None


def table(sets: dict[str, dict[str, Any]]) -> str:
    """Return what the rule gives, a line for each set."""
    lines = ["by the research notes' rule (clamped, first point only, unread answers left out of the denominators):"]
    for name, found in sets.items():
        shown = {
            "Hit@Mask": f"{_text(found['hit_at_mask'])} ({found['hit_at_mask_count']} of {found['hit_at_mask_total']})",
            "NOT_VISIBLE accuracy": _text(found["not_visible_accuracy"]),
            "mean L2": _text(found["mean_l2_error"]),
            **{f"S@.{key[-2:]}": _text(found[key]) for key in _NAMES},
        }
        lines.append(f"  {name}: " + ", ".join(f"{key} {value}" for key, value in shown.items()))
    return "\n".join(lines)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
