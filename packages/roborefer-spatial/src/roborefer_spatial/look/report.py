"""An offline page of scored answers: metrics, success curves, and a gallery to look at hits and misses."""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import numpy as np

from roborefer_spatial import files, terminal
from roborefer_spatial.look.curves import success_curve, svg
from roborefer_spatial.look.thumbnails import Thumbnails
from roborefer_spatial.sample import Sample
from roborefer_spatial.scoring import evaluate
from roborefer_spatial.scoring.metrics import BOOTSTRAP, Metrics, by_set
from roborefer_spatial.scoring.score import REASONS, Scores

EMBED_LIMIT_BYTES = 256 << 20

_COLUMNS = (
    ("Hit@Mask", "hit_at_mask"),
    ("chance", "chance_hit_at_mask"),
    ("NOT_VISIBLE precision", "not_visible_precision"),
    ("recall", "not_visible_recall"),
    ("F1", "not_visible_f1"),
    ("mean L2", "mean_l2_error"),
    ("Success@0.02", "success_002"),
    ("@0.05", "success_005"),
    ("@0.10", "success_010"),
)
_CAPTIONS = {
    "t1_multi": ("A, marked", "B"),
    "t1_concat": ("A, marked | B",),
    "t2a_multi": ("A, marked", "B"),
    "t2b_multi": ("original", "inpainted"),
}


@dataclass(frozen=True, slots=True)
class Run:
    """Scored answers under a name, such as the model's."""

    name: str
    scores: Scores


_NO_BAR = (
    "No baseline is shown: predict --backend matcher answers the same questions without a language model, and "
    "--baseline puts its answers beside these."
)


def write_report(
    runs: Sequence[Run],
    out: Path,
    *,
    title: str,
    embed: bool = True,
    image_px: int = 320,
    bootstrap: int = BOOTSTRAP,
    start: Mapping[str, str] | None = None,
    note: str = "",
    progress: bool = False,
) -> None:
    """Write the page.

    Parameters
    ----------
    runs
        What to show; names must differ.
    out
        The HTML file.
    title
        Its heading.
    embed
        One self-contained file; false writes the pictures into the folder `<out stem>_files` beside it.
    image_px
        Longest side of the pictures.
    bootstrap
        Resamples for the intervals; 0 for none.
    start
        What the page's controls say when it is opened without filters in its address: id of a control (run,
        set, outcome, reason, low, high, pair, order, search) -> value.
    note
        A sentence below the table.
    progress
        Show a bar.

    Raises
    ------
    ValueError
        No runs or equal names, an image that cannot be read, or more pictures than one file can hold.
    """
    names = [run.name for run in runs]
    if not runs or len(set(names)) != len(names):
        raise ValueError(f"a report needs runs with different names, got {names}")
    folder = None if embed else out.with_name(out.stem + "_files")
    thumbnails = Thumbnails(image_px, folder, EMBED_LIMIT_BYTES)
    items: list[dict[str, Any]] = []
    count = sum(len(run.scores) for run in runs)
    with terminal.progress(description="drawing samples", unit="sample", total=count, quiet=not progress) as bar:
        for run in runs:
            for index in range(len(run.scores)):
                items.append(_item(run, index, thumbnails))
                bar.update()
    sets = {run.name: by_set(run.scores, bootstrap=bootstrap) for run in runs}
    page = _page(
        title,
        _table(sets, note),
        _curves(runs, sets),
        {"items": items, "reasons": REASONS, "start": dict(start or {})},
        thumbnails.sources,
    )
    files.write_bytes(out, page.encode())


def side_by_side(a: str, b: str) -> dict[str, str]:
    """Return the `start` that shows, of two runs, the samples where one is right and the other is not."""
    return {"pair": json.dumps(["one", a, b], ensure_ascii=False, separators=(",", ":"))}


def _item(run: Run, index: int, thumbnails: Thumbnails) -> dict[str, Any]:
    scores, sample = run.scores, run.scores.samples[index]
    l2 = float(scores.l2[index])
    score = float(scores.hit[index]) if sample.visible else float(scores.said_not_visible[index])
    return {
        "id": sample.id,
        "run": run.name,
        "set": _set_name(sample),
        "scene": sample.scene,
        "images": [thumbnails.image(path) for path in sample.image],
        "captions": _CAPTIONS[sample.task],
        "mask": thumbnails.mask(sample),
        "truth": sample.answer_point,
        "truthText": sample.answer,
        "points": scores.points[index],
        "text": scores.texts[index],
        "prompt": sample.prompt,
        "reason": scores.reason[index],
        "outcome": _outcome(sample.visible, bool(scores.said_not_visible[index]), score),
        "score": score,
        "l2": None if np.isnan(l2) else l2,
    }


def _set_name(sample: Sample) -> str:
    return f"{sample.task}/{sample.split}"


def _outcome(visible: bool, said_not_visible: bool, score: float) -> str:
    if not visible:
        return "correct NOT_VISIBLE" if said_not_visible else "missed NOT_VISIBLE"
    if said_not_visible:
        return "wrong NOT_VISIBLE"
    return "hit" if score == 1 else "partly hit" if score > 0 else "miss"


def _table(sets: dict[str, dict[str, Metrics]], note: str) -> str:
    head = "".join(
        f"<th>{title}</th>" for title in ("run, set", "samples", *(title for title, _ in _COLUMNS), "not understood")
    )
    rows = []
    for run, metrics_of in sets.items():
        for name, metrics in metrics_of.items():
            cells = [escape(f"{run}: {name}"), str(metrics["total"])]
            cells += [_cell(metrics, key) for _, key in _COLUMNS]
            cells.append(str(sum(metrics["parse_failures"].values())))
            rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    some = any(
        any(metrics.get("intervals", {}).values()) for metrics_of in sets.values() for metrics in metrics_of.values()
    )
    small = (
        "Small: 95 % interval; of shares by Wilson, at the number of independent samples that the scenes show."
        if some
        else "No intervals: they need two scenes or more, and resamples (--bootstrap)."
    )
    legend = (
        f"<p class='legend'>{small} L2 and Success of concat sets are in fractions of the whole image, the curves in "
        f"fractions of the query image.{' ' * bool(note)}{escape(note)}</p>"
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>{legend}"


def _cell(metrics: Metrics, key: str) -> str:
    if metrics[key] is None:
        return "-"
    interval = metrics.get("intervals", {}).get(key)
    small = f" <small>{interval[0]:.2f} to {interval[1]:.2f}</small>" if interval else ""
    return f"{metrics[key]:.3f}{small}"


def _curves(runs: Sequence[Run], sets: dict[str, dict[str, Metrics]]) -> str:
    curves = []
    for run in runs:
        labels = np.array([_set_name(sample) for sample in run.scores.samples])
        for name, metrics in sets[run.name].items():
            if metrics["visible_gt"]:
                curves.append(success_curve(f"{run.name}: {name}", run.scores, labels == name))
    return svg(curves) if curves else "<p>No visible object among the samples.</p>"


def _page(title: str, table: str, curves: str, data: dict[str, Any], pictures: list[str]) -> str:
    css, script = _asset("gallery.css"), _asset("gallery.js")
    # only this script and this style can act on the page, whatever the answers contain
    policy = f"default-src 'none'; img-src data: file: 'self'; style-src {_hash(css)}; script-src {_hash(script)}"
    page = _asset("gallery.html")
    parts = {
        "policy": escape(policy, quote=True),
        "title": escape(title),
        "css": css,
        "table": table,
        "curves": curves,
        "data": _json(data),
        "pictures": _json(pictures),
        "script": script,
    }
    pieces = page.split("{{")
    result = [pieces[0]]
    for piece in pieces[1:]:
        name, rest = piece.split("}}", 1)
        result += [parts[name], rest]
    return "".join(result)


def _asset(name: str) -> str:
    return (package_files("roborefer_spatial.look") / "page" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _json(value: Any) -> str:
    """Return JSON that cannot end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `roborefer-spatial report`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "example:\n"
        "  roborefer-spatial report --samples tasks/t1_val_multi.json --predictions answers.jsonl \\\n"
        "      --out report.html"
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
    add(
        "--baseline",
        type=Path,
        nargs="+",
        default=[],
        help="answer file(s) of `predict --backend matcher`, one for each different file of --samples, in order: "
        "the bar, as runs of their own",
    )
    add("--names", nargs="+", help="names of the runs (default: the answer files' names)")
    add("--out", type=Path, required=True, help="HTML file to write")
    add("--title", default="x3 spatial tasks", help="heading of the page")
    add(
        "--images",
        choices=("embed", "folder"),
        default="embed",
        help="one self-contained file, or pictures beside it",
    )
    add("--image-px", type=int, default=320, help="longest side of the pictures (default: 320)")
    add(
        "--bootstrap",
        type=int,
        default=BOOTSTRAP,
        help="resamples for the 95 %% intervals; 0: none (default: %(default)s)",
    )
    add("--limit", type=int, help="show the first N samples of each file only")
    add("--quiet", action="store_true", help="show no progress")
    evaluate.add_score_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run `roborefer-spatial report`."""
    pairs = evaluate.paired(args.samples, args.predictions)
    names = args.names or [answer_file.stem for _, answer_file in pairs]
    if len(names) != len(pairs):
        raise ValueError(f"--names gives {len(names)} name(s) for {len(pairs)} file(s)")
    if args.baseline:
        asked = list(dict.fromkeys(sample_file for sample_file, _ in pairs))  # two models share a file of questions
        if len(args.baseline) != len(asked):
            raise ValueError(
                f"--baseline names {len(args.baseline)} file(s), and --samples {len(asked)} different one(s): one "
                "for each"
            )
        pairs += zip(asked, args.baseline)
        names = [*names, *(f"baseline {file.stem}" for file in args.baseline)]
    runs = [
        Run(
            name,
            evaluate.load_scores(
                sample_file,
                answer_file,
                evaluate.score_options(args, answer_file),
                image_folder=args.image_folder,
                limit=args.limit,
                workers=args.workers,
                progress=not args.quiet,
            ),
        )
        for name, (sample_file, answer_file) in zip(names, pairs)
    ]
    write_report(
        runs,
        args.out,
        title=args.title,
        embed=args.images == "embed",
        image_px=args.image_px,
        bootstrap=args.bootstrap,
        note="" if args.baseline or any("matcher" in name for name in names) else _NO_BAR,
        progress=not args.quiet,
    )
    print(f"{args.out}: {sum(len(run.scores) for run in runs)} samples, {args.out.stat().st_size / 1e6:.1f} MB")
    return terminal.DONE
