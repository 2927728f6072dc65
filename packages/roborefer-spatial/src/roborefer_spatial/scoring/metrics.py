"""From scored samples to metrics with intervals. numpy only.

Every metric but the standard deviation and the median is a ratio of two sums over samples. That makes both
denominators explicit, and lets the bootstrap resample whole scenes: samples of one scene share images and
objects, so they are not independent.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roborefer_spatial.answers import FAILURES
from roborefer_spatial.sample import Sample
from roborefer_spatial.scoring import wilson
from roborefer_spatial.scoring.points import Ints, numbered
from roborefer_spatial.scoring.score import THRESHOLDS, Scores

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Metrics = dict[str, Any]

SUCCESS = tuple(f"success_{round(limit * 100):03d}" for limit in THRESHOLDS)
"""success_002, success_005, success_010."""

LEVEL = 0.95

BOOTSTRAP = 1000
"""Resamples of the scenes for an interval, unless told otherwise."""

PROPORTIONS = frozenset(
    {
        "overall_accuracy", "not_visible_accuracy", "not_visible_precision", "not_visible_recall", "not_visible_f1",
        "hit_at_mask", "hit_at_mask_answered", "hit_at_mask_raw", "hit_at_mask_dilated",
        *(name + suffix for name in SUCCESS for suffix in ("", "_query", "_answered")),
    }
)  # fmt: skip
"""Metrics that are shares of samples."""


def by_set(scores: Scores, *, bootstrap: int = BOOTSTRAP, seed: int = 0) -> dict[str, Metrics]:
    """Return the metrics of every task and split among the samples, such as "t1_multi/val".

    Parameters
    ----------
    scores
        Scored samples.
    bootstrap
        Resamples of the scenes for the 95 % intervals; 0 leaves them out.
    seed
        Decides the resamples.
    """
    sets, codes = numbered(map(operator.attrgetter("task", "split"), scores.samples))
    return {
        f"{task}/{split}": metrics(scores, codes == code, bootstrap=bootstrap, seed=seed)
        for (task, split), code in sets.items()
    }


def metrics(scores: Scores, chosen: Bools, *, bootstrap: int = BOOTSTRAP, seed: int = 0) -> Metrics:
    """Return the metrics of the chosen samples, which must be of one coordinate frame.

    Parameters
    ----------
    scores
        N scored samples.
    chosen
        (N,) which of them count.
    bootstrap, seed
        See `by_set`.

    Returns
    -------
    dict
        The research scripts' metrics under their names, the ones that make them trustworthy, "reasons" and "forms"
        (counts), and "intervals" (metric -> [low, high]). A metric without a denominator is None.

    Raises
    ------
    ValueError
        Samples of several coordinate frames: their distances cannot be averaged.
    """
    index = np.flatnonzero(chosen)
    samples, reasons, forms = _rows(scores, index)
    frames = set(map(operator.attrgetter("coord_frame"), samples))
    if len(frames) != 1:
        raise ValueError(f"metrics need samples of one coordinate frame, got {sorted(frames) or 'no samples'}")
    ratios = _ratios(scores)
    if len(index) < len(scores):
        part = _each_once(lambda column: column[index])
        ratios = {name: (part(top), part(bottom)) for name, (top, bottom) in ratios.items()}
    del forms[""]
    scenes, scene_codes = numbered(map(operator.attrgetter("split", "scene"), samples))
    result = {
        **_counts(scores, index),
        "scenes": len(scenes),
        **{name: _divide(top.sum(), bottom.sum()) for name, (top, bottom) in ratios.items()},
        **_spread(scores, index),
        "coord_frame": next(iter(frames)),
        "reasons": dict(reasons.most_common()),
        "parse_failures": {reason: reasons[reason] for reason in FAILURES if reasons[reason]},
        "forms": dict(forms.most_common()),
    }
    if bootstrap:
        result["intervals"] = _intervals(ratios, scene_codes, len(scenes), bootstrap=bootstrap, seed=seed)
    return result


def _rows(scores: Scores, index: NDArray[np.int64]) -> tuple[Sequence[Sample], Counter[str], Counter[str]]:
    """Return the chosen samples, and how often each reason and form occurs among them."""
    if len(index) == len(scores):
        return scores.samples, Counter(scores.reason), Counter(scores.form)
    rows = index.tolist()
    return (
        [scores.samples[i] for i in rows],
        Counter([scores.reason[i] for i in rows]),
        Counter([scores.form[i] for i in rows]),
    )


def _ratios(scores: Scores) -> dict[str, tuple[Floats, Floats]]:
    """Return metric -> (numerator, denominator), each (N,)."""
    visible, said_nv, said_points = scores.visible, scores.said_not_visible, scores.said_points
    hidden = ~visible
    correct_nv = hidden & said_nv
    answered = visible & said_points
    pairs: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {
        "overall_accuracy": (np.where(visible, scores.hit, correct_nv), np.ones(len(scores))),
        "not_visible_accuracy": (correct_nv, hidden),
        "not_visible_precision": (correct_nv, said_nv),
        "not_visible_recall": (correct_nv, hidden),
        "not_visible_f1": (2.0 * correct_nv, said_nv * 1.0 + hidden),
        "hit_at_mask": (scores.hit, visible),
        "hit_at_mask_answered": (np.where(answered, scores.hit, 0), answered),
        "hit_at_mask_raw": (scores.hit_raw, ~np.isnan(scores.hit_raw)),
        "hit_at_mask_dilated": (scores.hit_dilated, ~np.isnan(scores.hit_dilated)),
        "chance_hit_at_mask": (scores.chance, visible),
    }
    for suffix, l2, success in (
        ("", scores.l2, scores.success),
        ("_query", scores.l2_query, scores.success_query),
    ):
        pairs[f"mean_l2_error{suffix}"] = (l2, ~np.isnan(l2))
        for name, column in zip(SUCCESS, success.T):
            pairs[name + suffix] = (column, visible)
            if not suffix:
                pairs[name + "_answered"] = (np.where(answered, column, 0), answered)
    number = _each_once(np.nan_to_num)
    real = _each_once(lambda column: np.asarray(column, np.float64))
    return {name: (number(top), real(bottom)) for name, (top, bottom) in pairs.items()}


def _each_once(function: Callable[[NDArray[Any]], Floats]) -> Callable[[NDArray[Any]], Floats]:
    """Return the function with its results kept: metrics share denominators."""
    kept: dict[int, tuple[NDArray[Any], Floats]] = {}

    def once(column: NDArray[Any]) -> Floats:
        if id(column) not in kept:
            kept[id(column)] = column, function(column)  # the column is kept, so that no other gets its id
        return kept[id(column)][1]

    return once


def _counts(scores: Scores, index: NDArray[np.int64]) -> Metrics:
    visible = scores.visible[index]
    hits = float(np.nansum(scores.hit[index]))
    return {
        "total": len(index),
        "gt_not_visible": int((~visible).sum()),
        "visible_gt": int(visible.sum()),
        "pred_not_visible": int(scores.said_not_visible[index].sum()),
        "hit_at_mask_count": int(hits) if hits.is_integer() else hits,
        "hit_at_mask_total": int(visible.sum()),
        "hit_at_mask_answered_total": int((visible & scores.said_points[index]).sum()),
        "hit_at_mask_raw_total": int((~np.isnan(scores.hit_raw[index])).sum()),
        "hit_at_mask_dilated_total": int((~np.isnan(scores.hit_dilated[index])).sum()),
        "l2_count": int((~np.isnan(scores.l2[index])).sum()),
    }


def _spread(scores: Scores, index: NDArray[np.int64]) -> Metrics:
    """Return standard deviation (population) and median of the distances."""
    result: Metrics = {}
    for suffix, column in (("", scores.l2), ("_query", scores.l2_query)):
        values = column[index][~np.isnan(column[index])]
        result[f"std_l2_error{suffix}"] = float(values.std()) if values.size else None
        result[f"median_l2_error{suffix}"] = float(np.median(values)) if values.size else None
    return result


def _divide(top: float, bottom: float) -> float | None:
    return float(top / bottom) if bottom else None


def intervals(
    ratios: dict[str, tuple[Floats, Floats]],
    scenes: Sequence[tuple[str, str]],
    *,
    bootstrap: int,
    seed: int,
) -> dict[str, list[float] | None]:
    """Return 95 % intervals of ratios, from resampling whole scenes with replacement.

    Cluster bootstrap (Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8): a
    draw takes as many scenes as there are, and every sample of each. Distances have the percentile interval
    of the draws. Proportions (`PROPORTIONS`) have Wilson's interval, at the number of independent samples
    that would scatter as much as the draws do (see `wilson`): unlike percentiles it is right at 0 and 1. A
    metric that is undefined in some draw, or that comes from a single scene, has no interval (None).

    Parameters
    ----------
    ratios
        metric -> ((N,) numerators, (N,) denominators).
    scenes
        N scene names.
    bootstrap
        Number of draws.
    seed
        Decides the draws.
    """
    numbers, codes = numbered(scenes)
    return _intervals(ratios, codes, len(numbers), bootstrap=bootstrap, seed=seed)


def _intervals(
    ratios: dict[str, tuple[Floats, Floats]], codes: Ints, count: int, *, bootstrap: int, seed: int
) -> dict[str, list[float] | None]:
    """Return the same for (N,) numbers of scenes, of which there are `count`."""
    if count < 2:
        return dict.fromkeys(ratios)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), bootstrap).astype(float)
    tail = 100 * (1 - LEVEL) / 2
    result: dict[str, list[float] | None] = {}
    by_scene = _each_once(lambda column: np.bincount(codes, weights=column, minlength=count).astype(np.float64))
    for name, (top, bottom) in ratios.items():
        tops, bottoms = draws @ by_scene(top), draws @ by_scene(bottom)
        if not (bottoms > 0).all():
            result[name] = None
        elif name in PROPORTIONS:
            scenes = int(np.count_nonzero(by_scene(bottom)))
            result[name] = _wilson(top, bottom, scenes, float((tops / bottoms).var()) * count / (count - 1))
        else:
            result[name] = [float(value) for value in np.percentile(tops / bottoms, [tail, 100 - tail])]
    return result


def _wilson(top: Floats, bottom: Floats, scenes: int, variance: float) -> list[float]:
    """Return Wilson's interval of sum(top) / sum(bottom), of so many scenes, whose variance over them is given."""
    proportion = min(1.0, float(top.sum() / bottom.sum()))
    samples = int(np.count_nonzero(bottom))
    return list(wilson.interval(proportion, wilson.effective_count(proportion, variance, samples, scenes), LEVEL))
