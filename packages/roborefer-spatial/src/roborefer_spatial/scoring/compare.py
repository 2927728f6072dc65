"""`roborefer-spatial compare`: two models on the same samples.

The samples are the same, so they are compared in pairs: the difference of a score has an interval from
resampling whole scenes, the same for both (a paired cluster bootstrap), and McNemar's exact test (Psychometrika
12, 1947) asks of the samples where only one of them is right whether it is as often the one as the other.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roborefer_spatial import files, terminal
from roborefer_spatial.scoring import evaluate
from roborefer_spatial.scoring.metrics import BOOTSTRAP
from roborefer_spatial.scoring.score import Scores

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Model A against model B on one set.

    Attributes
    ----------
    samples
        How many.
    a, b, difference
        Share of right answers (the fraction of hits of a visible object, NOT_VISIBLE where it is not), and
        B minus A.
    interval
        95 % interval of the difference, from scenes resampled for both; None for a single scene.
    only_a, only_b, both, neither
        Samples wholly right (score 1) in only one, in both, in neither.
    p_value
        McNemar's exact test of `only_a` against `only_b`, two-sided.
    """

    samples: int
    a: float
    b: float
    difference: float
    interval: tuple[float, float] | None
    only_a: int
    only_b: int
    both: int
    neither: int
    p_value: float


def right(scores: Scores) -> Floats:
    """Return (N,) the score of each sample: 0..1 for a visible object, 0 or 1 for one out of view."""
    return np.where(scores.visible, np.nan_to_num(scores.hit), scores.said_not_visible.astype(float))


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the exact two-sided p-value; 1 without a discordant pair.

    >>> mcnemar(1, 9)
    0.021484375
    """
    count, less = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(count, k) for k in range(less + 1)) / 2**count
    return min(1.0, 2 * tail) if count else 1.0


def compared(a: Floats, b: Floats, scenes: Sequence[Any], *, bootstrap: int, seed: int) -> Comparison:
    """Compare the scores of two models, (N,) each, sample by sample."""
    numbers: dict[Any, int] = {}
    codes = np.array([numbers.setdefault(scene, len(numbers)) for scene in scenes])
    count, interval = len(numbers), None
    if count > 1 and bootstrap:
        draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), bootstrap)
        sums = draws @ np.bincount(codes, weights=b - a, minlength=count)
        ends = np.percentile(sums / (draws @ np.bincount(codes, minlength=count)), [2.5, 97.5])
        interval = (float(ends[0]), float(ends[1]))
    right_a, right_b = a == 1, b == 1
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    return Comparison(
        samples=len(a),
        a=float(a.mean()),
        b=float(b.mean()),
        difference=float((b - a).mean()),
        interval=interval,
        only_a=only_a,
        only_b=only_b,
        both=int((right_a & right_b).sum()),
        neither=int((~right_a & ~right_b).sum()),
        p_value=mcnemar(only_a, only_b),
    )


def by_set(a: Scores, b: Scores, *, bootstrap: int, seed: int) -> dict[str, Comparison]:
    """Compare two models on every task and split; both must be scored on the same samples."""
    assert [sample.id for sample in a.samples] == [sample.id for sample in b.samples]
    names = np.array([f"{sample.task}/{sample.split}" for sample in a.samples])
    score_a, score_b = right(a), right(b)
    result = {}
    for name in dict.fromkeys(names.tolist()):
        index = np.flatnonzero(names == name)
        chosen = [a.samples[int(i)] for i in index]
        scenes = [(sample.split, sample.scene) for sample in chosen]
        result[name] = compared(score_a[index], score_b[index], scenes, bootstrap=bootstrap, seed=seed)
    return result


def disagreements(a: Scores, b: Scores) -> list[dict[str, Any]]:
    """Return the samples where one is right and the other is not, with both answers."""
    score_a, score_b = right(a), right(b)
    return [
        {
            "id": sample.id,
            "right": "a" if score_a[i] == 1 else "b",
            "truth": sample.answer,
            "a": a.texts[i],
            "b": b.texts[i],
            "reason_a": a.reason[i],
            "reason_b": b.reason[i],
        }
        for i, sample in enumerate(a.samples)
        if (score_a[i] == 1) != (score_b[i] == 1)
    ]


def table(sets: dict[str, Comparison], names: tuple[str, str]) -> str:
    """Return what was found, for people."""
    lines = []
    for name, one in sets.items():
        ends = "(no interval: a single scene, or --bootstrap 0)"
        if one.interval:
            ends = f"[{one.interval[0]:+.4f}, {one.interval[1]:+.4f}] (95 %, scenes resampled in pairs)"
        lines += [
            f"{name}: {one.samples} samples",
            f"  A {names[0]}: {one.a:.4f}",
            f"  B {names[1]}: {one.b:.4f}",
            f"  B - A: {one.difference:+.4f} {ends}",
            f"  only A right {one.only_a}, only B right {one.only_b}, both {one.both}, neither {one.neither}; "
            f"McNemar p = {one.p_value:.4g}",
        ]
    return "\n".join(lines)


def _write_report(args: argparse.Namespace, a: Scores, b: Scores) -> None:
    from roborefer_spatial.look.report import Run, side_by_side, write_report

    names = [path.stem for path in args.predictions]
    if names[0] == names[1]:
        names = [str(path) for path in args.predictions]
    runs = [Run(name, scores) for name, scores in zip(names, (a, b))]
    title, start = f"{names[0]} against {names[1]}", side_by_side(names[0], names[1])
    write_report(runs, args.report, title=title, bootstrap=args.bootstrap, start=start, progress=not args.quiet)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `roborefer-spatial compare`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "example:\n"
        "  roborefer-spatial compare --samples tasks/t1_val_multi.json --predictions a.jsonl b.jsonl \\\n"
        "      --differ differ.jsonl --report compare.html"
    )
    add = parser.add_argument
    add("--samples", type=Path, required=True, help="sample file of `build`")
    add("--predictions", type=Path, nargs=2, required=True, metavar=("A", "B"), help="the two models' answer files")
    add("--differ", type=Path, help="JSONL file to write: the samples where only one of them is right")
    add("--report", type=Path, metavar="HTML", help="page to write: these samples with both answers side by side")
    add(
        "--bootstrap",
        type=int,
        default=BOOTSTRAP,
        help="resamples for the 95 %% interval; 0: none (default: %(default)s)",
    )
    add("--seed", type=int, default=0, help="of the resamples (default: 0)")
    add("--json", action="store_true", help="print one JSON object instead of text")
    add("--quiet", action="store_true", help="show no progress")
    evaluate.add_score_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run `roborefer-spatial compare`."""
    if args.bootstrap < 0:
        raise ValueError(f"--bootstrap is {args.bootstrap}: expected 0 or more")
    a, b = (
        evaluate.load_scores(
            args.samples,
            path,
            evaluate.score_options(args, path),
            image_folder=args.image_folder,
            workers=args.workers,
            progress=not args.quiet,
        )
        for path in args.predictions
    )
    sets = by_set(a, b, bootstrap=args.bootstrap, seed=args.seed)
    if args.differ:
        with files.atomic_open(args.differ) as stream:
            stream.writelines((json.dumps(row, ensure_ascii=False) + "\n").encode() for row in disagreements(a, b))
    if args.report:
        _write_report(args, a, b)
    found = {name: asdict(one) for name, one in sets.items()}
    names = (str(args.predictions[0]), str(args.predictions[1]))
    print(json.dumps(found, indent=2) if args.json else table(sets, names))
    return terminal.DONE
