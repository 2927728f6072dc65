"""Score answers against the truth, sample by sample, as columns. numpy only: no torch, no host.

N samples, P points of all answers together. An answer's points are in its sample's `coord_frame`; a point
that is not on the query image (outside, on the reference half of a concatenated image, in its padding) is a
miss.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from roborefer_spatial import answers
from roborefer_spatial.answers import Boxes, Parsed, Point, PointOrder, Units
from roborefer_spatial.predictions import Prediction
from roborefer_spatial.sample import Sample
from roborefer_spatial.scoring.points import Bools, Floats, Ints, Points, frames_of, inside_masks, joined, locate

Multi = Literal["mean", "first"]
Frame = Literal["original", "seen"]

THRESHOLDS = (0.02, 0.05, 0.10)
"""Distances of success_002, success_005 and success_010, as fractions of width and height."""

REASONS: dict[str, str] = {
    answers.POINTS: "point(s) on the query image",
    "not_visible": "says that the object is not visible",
    "out_of_range": "every point lies outside of the image",
    "wrong_side": "every point lies on the reference half or the padding of the concatenated image",
    "missing": "no row for this sample among the answers",
    "error": "the backend failed on this sample",
    **answers.FAILURES,
}
"""What became of an answer -> meaning. All but the first two are a miss, whatever the truth is."""


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """How answers are read and counted.

    Attributes
    ----------
    units, point_order
        See `answers.parse`. Pixels are those of the image answered about.
    multi
        Several points: "mean" counts the fraction that hits (RoboRefer's rule), "first" only the first point.
    boxes
        A box where a point was asked for: "refuse", or its "center".
    frame
        Whose pixels an answer in pixels means: those of the "original" image, or of the image as the model
        was given it ("seen"; its size stands beside the answer).
    """

    units: Units = "normalized"
    point_order: PointOrder = "xy"
    multi: Multi = "mean"
    boxes: Boxes = "refuse"
    frame: Frame = "original"

    def __post_init__(self) -> None:
        for name, kind in (
            ("units", Units),
            ("point_order", PointOrder),
            ("multi", Multi),
            ("boxes", Boxes),
            ("frame", Frame),
        ):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} is {getattr(self, name)!r}; known: {', '.join(get_args(kind))}")


@dataclass(frozen=True, slots=True)
class Scores:
    """Columns of N scored samples, in the order of the samples.

    Attributes
    ----------
    samples, texts
        The questions; the answers' texts (None where there is none).
    reason, form
        Keys of `REASONS`; `Parsed.form`.
    points
        The (x, y) that each answer names, in `coord_frame`.
    visible, said_not_visible, said_points
        (N,) The truth has a point; the answer says NOT_VISIBLE; the answer names a point.
    hit, hit_raw, hit_dilated
        (N,) Fraction of the answer's points inside the mask that the truth was drawn from, inside the mask as
        given, and inside the dilated one. NaN where nothing can be hit: NOT_VISIBLE truth, or no such mask.
    chance
        (N,) Fraction of the query image inside the first of these masks: what a random point would hit.
    l2, l2_query
        (N,) Mean distance of the answer's points from the true one, as fractions of width and height of the
        answer's own image, and of the query image. NaN unless every point lies inside the answer's image.
    success
        (N, 3) Fraction of the answer's points on the query image within `THRESHOLDS`, in the answer's own
        frame; NaN for a NOT_VISIBLE truth.
    success_query
        (N, 3) The same with distances in the query image's frame.
    """

    samples: Sequence[Sample]
    texts: list[str | None]
    reason: list[str]
    form: list[str]
    points: list[tuple[Point, ...]]
    visible: Bools
    said_not_visible: Bools
    said_points: Bools
    hit: Floats
    hit_raw: Floats
    hit_dilated: Floats
    chance: Floats
    l2: Floats
    l2_query: Floats
    success: Floats
    success_query: Floats

    def __len__(self) -> int:
        return len(self.samples)


def score(
    samples: Sequence[Sample],
    predictions: Sequence[Prediction],
    options: ScoreOptions | None = None,
    *,
    workers: int = 4,
    progress: bool = False,
) -> Scores:
    """Score every sample; one without an answer counts as a miss.

    Parameters
    ----------
    samples
        The truth.
    predictions
        The answers, in any order.
    options
        How answers are read and counted.
    workers
        Threads that decode masks.
    progress
        Show bars over the masks.

    Raises
    ------
    ValueError
        An answer to a question that is not among the samples; a mask that is missing, unreadable or of
        another size than the query image; a truth that misses its own mask (masks changed after the build).
    """
    options = options or ScoreOptions()
    texts, parsed = _read(samples, predictions, options)
    said = [answer.points for answer in parsed]
    counted = [points[:1] for points in said] if options.multi == "first" else said
    true_points = [sample.answer_point for sample in samples]
    visible = np.fromiter(map(operator.is_not, true_points, itertools.repeat(None)), bool, len(samples))
    frames, codes = frames_of(samples)
    at = np.flatnonzero(visible)
    truth = locate(frames, codes[at], at, _pairs([point for point in true_points if point is not None]))
    index = np.repeat(np.arange(len(samples)), np.fromiter(map(len, counted), np.int64, len(counted)))
    points = locate(frames, codes[index], index, _pairs(list(itertools.chain.from_iterable(counted))))
    average = _Average(points.sample, visible)
    return Scores(
        samples=samples,
        texts=texts,
        reason=_reasons(parsed, points),
        form=[answer.form for answer in parsed],
        points=said,
        visible=visible,
        said_not_visible=np.fromiter(map(operator.attrgetter("not_visible"), parsed), bool, len(parsed)),
        said_points=np.fromiter(map(bool, said), bool, len(said)),
        **_distances(points, truth, average),
        **_hits(samples, points, truth, average, workers, progress),
    )


def _read(
    samples: Sequence[Sample], predictions: Sequence[Prediction], options: ScoreOptions
) -> tuple[list[str | None], list[Parsed]]:
    """Return every sample's answer text and what it says."""
    rows = _in_order(samples, predictions)
    texts = [None if row is None else row.text for row in rows]
    parsed: list[Parsed | None] = answers.all_as_built(texts) if options.units == "normalized" else [None] * len(texts)
    for index in [index for index, answer in enumerate(parsed) if answer is None]:
        parsed[index] = _parsed(samples[index], rows[index], options)
    return texts, parsed  # type: ignore[return-value]  # none is None any more


_MISSING, _FAILED = Parsed((), False, "missing"), Parsed((), False, "error")


def _parsed(sample: Sample, row: Prediction | None, options: ScoreOptions) -> Parsed:
    """Return what an answer says that need not be written as `build` writes it."""
    if row is None or row.text is None:
        return _MISSING if row is None else _FAILED
    sized = options.units in answers.NEEDS_SIZE or "px" in row.text or "pixel" in row.text
    return answers.parse(
        row.text,
        units=options.units,
        size_wh=_size(sample, row, options) if sized else None,
        point_order=options.point_order,
        boxes=options.boxes,
        images=len(sample.image),
    )


_ID = operator.attrgetter("id")


def _in_order(samples: Sequence[Sample], predictions: Sequence[Prediction]) -> Sequence[Prediction | None]:
    """Return every sample's answer, None where there is none; ValueError for an answer to none of the samples."""
    if len(samples) == len(predictions) and all(map(operator.eq, map(_ID, predictions), map(_ID, samples))):
        return predictions
    rows = {row.id: row for row in predictions}
    unknown = rows.keys() - {sample.id for sample in samples}
    if unknown:
        raise ValueError(
            f"{len(unknown)} of {len(rows)} answers belong to no sample, such as id {min(unknown)!r}: the "
            "answers were made for another sample file"
        )
    return [rows.get(sample.id) for sample in samples]


def _size(sample: Sample, row: Prediction, options: ScoreOptions) -> tuple[int, int]:
    """Return the size whose pixels an answer means; the query image is the last one of the question."""
    if options.frame == "original":
        return sample.answer_size
    if row.seen is None or len(row.seen) != len(sample.image):
        raise ValueError(
            f"the answer of sample {row.id} does not say at which size the model saw its images ('seen'), and its "
            "pixels are those of that size: ask again with `predict` and the model's --profile"
        )
    return row.seen[-1]


def _pairs(points: Sequence[Point]) -> Floats:
    return np.fromiter(itertools.chain.from_iterable(points), np.float64, 2 * len(points)).reshape(-1, 2)


class _Average:
    """Mean over the points of each sample; a visible object without a point is a miss."""

    def __init__(self, sample: Ints, visible: Bools) -> None:
        self.sample, self.visible = sample, visible
        self.lengths = np.bincount(sample, minlength=len(visible))

    def fraction(self, inside: Bools) -> Floats:
        """Return (N,) the fraction of points that are inside: 0 without points, NaN for NOT_VISIBLE truth."""
        count = np.bincount(self.sample, weights=inside, minlength=len(self.visible))
        return np.where(self.visible, count / np.maximum(self.lengths, 1), np.nan)

    def mean(self, values: Floats) -> Floats:
        """Return (N,) the mean value; NaN without points or where any value is NaN."""
        total = np.bincount(self.sample, weights=values, minlength=len(self.visible))
        return np.where(self.lengths > 0, total / np.maximum(self.lengths, 1), np.nan)


def _reasons(parsed: Sequence[Parsed], points: Points) -> list[str]:
    named = np.bincount(points.sample, minlength=len(parsed))
    inside = np.bincount(points.sample, weights=points.inside, minlength=len(parsed))
    on_query = np.bincount(points.sample, weights=points.on_query, minlength=len(parsed))
    reasons = [answer.reason for answer in parsed]
    for index in np.flatnonzero((named > 0) & (on_query == 0)):
        reasons[index] = "wrong_side" if inside[index] else "out_of_range"
    return reasons


def _distances(points: Points, truth: Points, average: _Average) -> dict[str, Floats]:
    result: dict[str, Floats] = {}
    for suffix, of_points, of_truth in (
        ("", points.xy, truth.xy),
        ("_query", points.xy_query, truth.xy_query),
    ):
        if suffix and of_points is points.xy and of_truth is truth.xy:  # the answer's image is the query image
            result |= {name + suffix: column for name, column in result.items()}
            continue
        true_xy = np.full((len(average.visible), 2), np.nan)
        true_xy[truth.sample] = of_truth
        difference = np.where(points.inside[:, None], of_points, np.nan) - true_xy[points.sample]
        distance = np.hypot(difference[:, 0], difference[:, 1])
        near = [average.fraction(points.on_query & (distance <= limit)) for limit in THRESHOLDS]
        result["l2" + suffix] = average.mean(distance)
        result["success" + suffix] = np.stack(near, axis=1)
    return result


def _hits(
    samples: Sequence[Sample], points: Points, truth: Points, average: _Average, workers: int, progress: bool
) -> dict[str, Floats]:
    """Look the points up in both masks. The truth goes through the same lookup and must hit its own mask."""
    both = joined(points, truth)
    masks = map(operator.attrgetter("gt_mask"), samples)
    from_dilated = np.fromiter(map(operator.eq, masks, itertools.repeat("dilated")), bool, len(samples))
    hits: dict[str, Floats] = {}
    coverage: dict[str, Floats] = {}
    truth_hits = np.zeros(len(truth.sample), dtype=bool)
    for kind in ("raw", "dilated"):
        every = map(operator.attrgetter("mask_path" if kind == "raw" else "mask_dilated_path"), samples)
        paths = [path if visible else None for path, visible in zip(every, average.visible.tolist())]
        bar = f"{kind} masks" if progress else None
        inside, coverage[kind] = inside_masks(both, samples, paths, workers=workers, progress=bar)
        hits[kind] = np.where(np.isnan(coverage[kind]), np.nan, average.fraction(inside[: len(points.sample)]))
        mine = from_dilated[truth.sample] == (kind == "dilated")
        truth_hits |= mine & inside[len(points.sample) :]
    if not truth_hits.all():
        sample = samples[truth.sample[np.flatnonzero(~truth_hits)[0]]]
        raise ValueError(
            f"{np.count_nonzero(~truth_hits)} true point(s) miss their own mask, such as that of sample "
            f"{sample.id} ({sample.gt_mask}): masks and samples do not belong together; build again"
        )
    return {
        "hit": np.where(from_dilated, hits["dilated"], hits["raw"]),
        "hit_raw": hits["raw"],
        "hit_dilated": hits["dilated"],
        "chance": np.where(from_dilated, coverage["dilated"], coverage["raw"]),
    }
