"""`roborefer-spatial evaluate`: sample files and answer files in, metrics out."""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np

from roborefer_spatial import __version__, files, predictions, terminal
from roborefer_spatial.answers import Boxes, PointOrder, Units
from roborefer_spatial.sample import load_samples
from roborefer_spatial.scoring import fit, lmms_rule, notes_rule
from roborefer_spatial.scoring.metrics import BOOTSTRAP, SUCCESS, Metrics, by_set
from roborefer_spatial.scoring.score import Frame, Multi, ScoreOptions, Scores, score


@contextlib.contextmanager
def collection_paused() -> Iterator[None]:
    """Pause the cyclic garbage collector: over millions of rows, none in a cycle, it takes a third."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@collection_paused()
def load_scores(
    sample_file: Path,
    answer_file: Path,
    options: ScoreOptions,
    *,
    image_folder: Path | None = None,
    limit: int | None = None,
    workers: int = 4,
    progress: bool = False,
) -> Scores:
    """Read a sample file and its answers, and score them; the ValueErrors of both, and of `score`.

    `limit` keeps the first samples, and the answers to them.
    """
    samples = load_samples(sample_file, image_folder=image_folder)
    rows = predictions.read(answer_file)
    if not rows:
        raise ValueError(f"{answer_file}: holds no answers, so there is nothing to score; make it with `predict`")
    if limit is not None:
        left_out = {sample.id for sample in samples[limit:]}
        samples, rows = samples[:limit], [row for row in rows if row.id not in left_out]
    try:
        return score(samples, rows, options, workers=workers, progress=progress)
    except ValueError as error:
        raise ValueError(f"{answer_file} against {sample_file}: {error}") from error


def evaluation(scores: Scores, options: ScoreOptions, *, bootstrap: int, seed: int) -> dict[str, Any]:
    """Return the JSON document of an evaluation, without results.

    "sets" has the metrics of every task and split; "metrics" is that of the only one, or None for several,
    whose coordinate frames may differ.
    """
    sets = by_set(scores, bootstrap=bootstrap, seed=seed)
    return {
        "version": __version__,
        "options": {**asdict(options), "bootstrap": bootstrap, "seed": seed},
        "metrics": next(iter(sets.values())) if len(sets) == 1 else None,
        "sets": sets,
    }


def result_rows(scores: Scores) -> list[dict[str, Any]]:
    """Return one JSON-able row per sample: answer, what it says, and how it scored."""
    columns = {
        name: [None if np.isnan(value) else float(value) for value in getattr(scores, name)]
        for name in ("hit", "hit_raw", "hit_dilated", "l2", "l2_query")
    }
    return [
        {
            "id": sample.id,
            "pred_text": scores.texts[i],
            "pred_not_visible": bool(scores.said_not_visible[i]),
            "pred_points": [list(point) for point in scores.points[i]],
            "reason": scores.reason[i],
            "form": scores.form[i],
            "gt_text": sample.answer,
            "hit_mask": columns["hit"][i],
            "hit_mask_raw": columns["hit_raw"][i],
            "hit_mask_dilated": columns["hit_dilated"][i],
            "l2_error": columns["l2"][i],
            "l2_error_query": columns["l2_query"][i],
        }
        for i, sample in enumerate(scores.samples)
    ]


_COLUMNS: tuple[tuple[str, str], ...] = (
    ("Hit@Mask", "hit_at_mask"),
    ("of answered", "hit_at_mask_answered"),
    ("chance", "chance_hit_at_mask"),
    ("NV prec.", "not_visible_precision"),
    ("NV recall", "not_visible_recall"),
    ("NV F1", "not_visible_f1"),
    ("mean L2", "mean_l2_error"),
    *((name.replace("success_0", "S@."), name) for name in SUCCESS),
)


def table(sets: dict[str, Metrics]) -> str:
    """Return a summary for people: one line per set; under Hit@Mask its 95 % interval."""
    header = ["set", "N", "visible", *(title for title, _ in _COLUMNS), "not understood"]
    rows: list[list[str]] = []
    for name, metrics in sets.items():
        failures = sum(metrics["parse_failures"].values())
        values = [_number(metrics[key]) for _, key in _COLUMNS]
        rows.append([name, str(metrics["total"]), str(metrics["visible_gt"]), *values, str(failures)])
        interval = metrics.get("intervals", {}).get("hit_at_mask")
        if interval:
            rows.append(["", "", "", f"[{interval[0]:.3f}, {interval[1]:.3f}]"] + [""] * len(_COLUMNS))
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)).rstrip() for row in [header, *rows]]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _text(sets: dict[str, Metrics], beside: dict[str, Any]) -> str:
    """Return the strict score, and below it what other rules give."""
    parts = [table(sets)]
    if "notes_rule" in beside:
        parts.append(notes_rule.table(beside["notes_rule"]))
    for tool in lmms_rule.TOOLS:
        for answer_file, found in beside.get(tool.replace("-", "_"), {}).items():
            parts.append(f"{answer_file}: {lmms_rule.table(found, tool)}")
    return "\n\n".join(parts)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def add_score_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how answers are read and counted."""
    add = parser.add_argument
    default = ScoreOptions()
    add(
        "--units",
        choices=get_args(Units),
        help="what plain numbers mean (default: as the profile beside the answers has it, otherwise 0..1)",
    )
    add(
        "--point-order",
        choices=get_args(PointOrder),
        help='of JSON "point": yx for Gemini (default: as the profile has it, otherwise xy)',
    )
    add(
        "--boxes",
        choices=get_args(Boxes),
        help="a box where a point was asked for (default: as the profile has it, otherwise refuse)",
    )
    add(
        "--frame",
        choices=get_args(Frame),
        help="whose pixels --units pixel means: the original image's, or those of the image as the model saw it "
        "(default: as the profile has it, otherwise original)",
    )
    add(
        "--multi",
        choices=get_args(Multi),
        default=default.multi,
        help="several points: mean of hits, or the first",
    )
    add("--image-folder", type=Path, help="where relative paths start (default: the sample file's folder)")
    add("--workers", type=int, default=4, help="threads that decode masks (default: 4)")


def score_options(args: argparse.Namespace, answer_file: Path | None = None) -> ScoreOptions:
    """Return the options that `add_score_arguments` read; what was left out is as the answers' profile has it."""
    if args.workers < 1:
        raise ValueError(f"--workers is {args.workers}: expected at least 1")
    said = {name: getattr(args, name) for name in _OF_A_PROFILE if getattr(args, name) is not None}
    recorded = {} if answer_file is None else recorded_profile(answer_file)
    if "units" in said and said["units"] != "pixel":
        recorded.pop("frame", None)  # it is about pixels
    read = {name: recorded[name] for name in _OF_A_PROFILE if name in recorded} | said
    return ScoreOptions(multi=args.multi, **read)


_OF_A_PROFILE = ("units", "point_order", "boxes", "frame")


def recorded_profile(answer_file: Path) -> dict[str, Any]:
    """Return the profile that `predict` recorded beside its answers; empty without one."""
    record = answer_file.with_name(answer_file.name + ".run.json")
    if not record.is_file():
        return {}
    try:
        profile = files.read_json(record).get("profile") or {}
        return dict(profile)
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{record}: not a record of `predict` ({error})") from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `roborefer-spatial evaluate`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Score answers. Needs neither torch nor a GPU."
    parser.epilog = (
        "example:\n"
        "  roborefer-spatial evaluate --samples tasks/t1_val_multi.json --predictions answers.jsonl \\\n"
        "      --out metrics.json"
    )
    add = parser.add_argument
    add("--samples", type=Path, nargs="+", required=True, help="sample file(s) of `build`")
    add(
        "--predictions",
        type=Path,
        nargs="+",
        required=True,
        help="answer file(s) of `predict`, in the same order",
    )
    add("--out", type=Path, help="JSON file of metrics")
    add("--results", type=Path, help="JSONL file with one row per sample")
    add(
        "--bootstrap",
        type=int,
        default=BOOTSTRAP,
        help="resamples for the 95 %% intervals; 0: none (default: %(default)s)",
    )
    add("--seed", type=int, default=0, help="of the resamples (default: 0)")
    add(
        "--rule",
        choices=("notes",),
        help="beside the strict score, that of the research notes' rule, which older figures were made with",
    )
    add(
        "--also",
        nargs="+",
        choices=tuple(lmms_rule.TOOLS),
        default=[],
        help="beside the strict score, what those tools' parsers of points would have scored, and where they differ",
    )
    add("--json", action="store_true", help="print the metrics as JSON instead of a table")
    add("--quiet", action="store_true", help="show no progress")
    add_score_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run `roborefer-spatial evaluate`."""
    score_options(args)  # what is wrong in itself is said before anything is read
    if args.bootstrap < 0:
        raise ValueError(f"--bootstrap is {args.bootstrap}: expected 0 or more")
    sets: dict[str, Metrics] = {}
    rows: list[dict[str, Any]] = []
    document: dict[str, Any] = {}
    notes: list[str] = []
    beside: dict[str, Any] = {}
    for sample_file, answer_file in paired(args.samples, args.predictions):
        options = score_options(args, answer_file)
        scores = load_scores(
            sample_file,
            answer_file,
            options,
            image_folder=args.image_folder,
            workers=args.workers,
            progress=not args.quiet,
        )
        notes += [f"{answer_file.name}: {line}" for line in fit.remarks(scores, options)]
        if args.rule:
            beside.setdefault("notes_rule", {}).update(notes_rule.by_set(scores, workers=args.workers))
        for tool in args.also:
            found = lmms_rule.compared(scores, tool, workers=args.workers)
            beside.setdefault(tool.replace("-", "_"), {})[str(answer_file)] = found
        document = evaluation(scores, options, bootstrap=args.bootstrap, seed=args.seed)
        for name, metrics in document["sets"].items():
            if name in sets:
                raise ValueError(f"{sample_file}: {name} was in an earlier file; score the two separately")
            sets[name] = metrics
        rows += result_rows(scores) if args.results else []
    document.update(sets=sets, metrics=next(iter(sets.values())) if len(sets) == 1 else None, **beside)
    if args.out:
        files.write_json(args.out, document)
    if args.results:
        with files.atomic_open(args.results) as stream:
            stream.writelines((json.dumps(row, ensure_ascii=False) + "\n").encode() for row in rows)
    print(json.dumps(document, indent=2, allow_nan=False) if args.json else _text(sets, beside))
    for note in notes:
        print(note, file=sys.stderr if args.json else sys.stdout)
    return terminal.DONE


def paired(sample_files: Sequence[Path], answer_files: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Pair sample files with answer files; ValueError unless there are equally many."""
    if len(sample_files) != len(answer_files):
        raise ValueError(
            f"--samples names {len(sample_files)} file(s) and --predictions {len(answer_files)}: give one "
            "answer file per sample file, in the same order"
        )
    return list(zip(sample_files, answer_files))
