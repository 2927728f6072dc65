"""Build the task sets of an x3 tree: `roborefer-spatial build`."""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from roborefer_spatial import __version__, terminal
from roborefer_spatial.tasks import prompts
from roborefer_spatial.tasks.derived import CONCAT_FORMATS, FOLDERS, MADE_NAME, NAMES
from roborefer_spatial.tasks.object_samples import FAMILIES, BuildOptions, build_uid
from roborefer_spatial.tasks.scenes import REASONS, UidFolder, scan
from roborefer_spatial.tasks.set_files import SetWriter, Tally, write_manifest
from roborefer_spatial.tasks.view_pairs import MODES
from roborefer_spatial.tasks.workers import run_ordered

_DEFAULTS = BuildOptions(out_dir=Path(os.sep))


def _silent(line: str) -> None:
    """Say nothing."""


def build(
    data_root: Path,
    options: BuildOptions,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    prune: bool = False,
    progress: bool = False,
    echo: Callable[[str], None] = _silent,
) -> dict[str, Any]:
    """Build every set of a tree and return the manifest, which is also written.

    Sets and manifest appear only when everything is built; images that are there already are reused.

    Parameters
    ----------
    data_root
        Root of the x3 tree (see `scenes`).
    options
        What to build, and where to.
    workers, scheduler
        Local processes, or the address of a Dask scheduler.
    prune
        Whether to delete made images that no sample of this build uses.
    progress
        Whether to show a progress bar.
    echo
        Told what was built, line by line.

    Raises
    ------
    ValueError
        The tree cannot be used, training and validation share a room, the anchor view does not exist, or no
        sample of Task 1 could be built although it was asked for.
    """
    started = time.perf_counter()
    uids = scan(data_root)
    if options.mode == "anchor" and set(options.families) & {"t1", "t2a"}:
        _check_anchor(uids, options.anchor_k)
    writer, tally = SetWriter(options.out_dir), Tally()
    used: set[Path] = set()
    job = functools.partial(build_uid, options=options)
    with writer.writing(), closing(run_ordered(job, uids, workers=workers, scheduler=scheduler)) as results:
        bar = terminal.progress(results, description="building", unit="object", total=len(uids), quiet=not progress)
        for result in bar:
            tally.add(result)
            writer.add(result)
            if prune:
                used.update(result.images)
        _check_built(writer, tally, options)
    manifest = {
        **_provenance(data_root, options, workers, scheduler),
        "seconds": round(time.perf_counter() - started, 3),
        "sets": writer.describe(),
        **tally.describe(),
        "pruned": _prune(options.out_dir, used) if prune else 0,
    }
    write_manifest(options.out_dir, manifest)
    _report(manifest, options, echo)
    return manifest


def _check_anchor(uids: list[UidFolder], anchor_k: int) -> None:
    numbers = sorted({view.number for uid in uids for view in uid.views})
    if anchor_k not in numbers:
        found = ", ".join(map(str, numbers)) or "none"
        raise ValueError(f"anchor_k is {anchor_k}, but no object has such a view; the tree's views are: {found}")


def _check_built(writer: SetWriter, tally: Tally, options: BuildOptions) -> None:
    """Raise ValueError when there is nothing, or nothing of the main task, with the reasons."""
    names = set(writer.counts)
    wanted = "t1" if "t1" in options.families else ""
    if any(name.startswith(wanted) for name in names):
        return
    reasons = "; ".join(f"{count} x {REASONS[reason]}" for reason, count in tally.reasons().items()) or "none noted"
    example = f" (first: {tally.skipped[0].where}: {tally.skipped[0].detail})" if tally.skipped else ""
    what = "no sample of Task 1 (choose others with --tasks)" if names else "nothing"
    raise ValueError(
        f"{what} was built from {tally.uids} object(s), and no set was written. Left out: {reasons}{example}"
    )


def _provenance(data_root: Path, options: BuildOptions, workers: int, scheduler: str | None) -> dict[str, Any]:
    """Return who built, when, and with which arguments."""
    arguments = {
        "data_root": str(data_root),
        "out_dir": str(options.out_dir),
        "tasks": list(options.families),
        "mode": options.mode,
        "anchor_k": options.anchor_k if options.mode == "anchor" else None,
        "alpha": options.alpha,
        "use_dilated_mask": options.use_dilated_mask,
        "concat_format": options.concat_format,
        "seed": options.seed,
        "max_pairs_per_uid": options.max_pairs_per_uid,
        "neg_ratio": options.neg_ratio,
        "relative_paths": options.relative_paths,
        "names": options.names,
        "workers": workers,
        "scheduler": scheduler,
    }
    return {
        "package": "roborefer-spatial",
        "version": __version__,
        "prompts_version": prompts.VERSION,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "arguments": arguments,
    }


def _prune(out_dir: Path, used: set[Path]) -> int:
    """Delete images in the build's own folders that no sample uses; return how many."""
    made = (path for kind in FOLDERS for path in (out_dir / kind).rglob("*") if MADE_NAME.search(path.name))
    unused = [path for path in made if path not in used]
    for path in unused:
        path.unlink()
    return len(unused)


def _report(manifest: dict[str, Any], options: BuildOptions, echo: Callable[[str], None]) -> None:
    for name, counts in manifest["sets"].items():
        echo(
            f"{name:18} {counts['samples']:8} samples, {counts['visible']} visible, "
            f"{counts['not_visible']} not; {counts['uids']} objects in {counts['scenes']} scenes"
        )
    for family in options.families:
        if not any(name.startswith(family) for name in manifest["sets"]):
            echo(f"warning: no sample of {family}, so no file for it")
    for reason, count in manifest["skipped"]["counts"].items():
        first = next(item for item in manifest["skipped"]["items"] if item["reason"] == reason)
        echo(f"left out: {count} x {REASONS[reason]}; first: {first['where']}: {first['detail']}")
    images = manifest["images"]
    echo(
        f"{images['written']} images written, {images['reused']} there already; {manifest['seconds']} s; "
        f"everything else is in {options.out_dir / 'manifest.json'}"
    )


_FORMAT = {"today": _DEFAULTS.concat_format, "notes": "jpg"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `roborefer-spatial build`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "example:\n  roborefer-spatial build --data-root x3 --out-dir tasks --mode anchor --workers 8"
    add, default = parser.add_argument, _DEFAULTS
    add(
        "--data-root",
        type=Path,
        required=True,
        help="x3 tree: the folder of train/ and validation/ (or val/)",
    )
    add("--out-dir", type=Path, required=True, help="folder of the sets, the manifest and the made images")
    add("--tasks", nargs="+", choices=FAMILIES, default=list(default.families), help="tasks to build (default: all)")
    add("--mode", choices=MODES, default=default.mode, help="pairs from one anchor view, or all ordered pairs")
    add(
        "--anchor-k",
        type=int,
        help=f"anchor view in mode anchor (default: {default.anchor_k}, the files 01_*)",
    )
    add("--alpha", type=float, default=default.alpha, help="opacity of the red mark (default: %(default)s)")
    add(
        "--use-dilated-mask",
        action=argparse.BooleanOptionalAction,
        default=default.use_dilated_mask,
        help="take marks and answers from the dilated masks, or from the raw ones (default: dilated)",
    )
    add(
        "--emit-concat",
        type=int,
        nargs="?",
        choices=(0, 1),
        const=1,
        default=1,
        help="1: also Task 1 as one side-by-side image; 0: no (default: 1)",
    )
    add("--concat-format", choices=CONCAT_FORMATS, help="side-by-side images: lossless png (default), or jpg")
    add(
        "--names",
        choices=tuple(NAMES),
        default=default.names,
        help="notes: made images in marked_abs/ and concat_abs/, side by side as .jpg, where the research builder had "
        "them (default: marked/ and concat/, .png)",
    )
    add("--seed", type=int, default=default.seed, help="decides every random draw (default: %(default)s)")
    add("--max-pairs-per-uid", type=int, help="at most so many (A, B) pairs for each object (default: all)")
    add("--neg-ratio", type=float, help="Task 1: not visible samples for each visible one (default: all)")
    add("--relative-paths", action="store_true", help="paths relative to out_dir, so that folders can move")
    add("--prune", action="store_true", help="delete made images in out_dir that this build does not use")
    add("--workers", type=int, help="local processes (default: 1)")
    add("--scheduler", help="address of a Dask scheduler, such as tcp://node1:8786, instead of --workers")
    add("--quiet", action="store_true", help="show no progress, say nothing")
    add("--json", action="store_true", help="print the manifest as JSON")


def run(args: argparse.Namespace) -> int:
    """Build, and print what was built and what was left out."""
    if args.mode != "anchor" and args.anchor_k is not None:
        raise ValueError(f"--anchor-k {args.anchor_k} has no meaning with --mode {args.mode}: leave it out")
    if not args.emit_concat and args.concat_format:
        raise ValueError(f"--concat-format {args.concat_format} has no meaning with --emit-concat 0: leave one out")
    if args.scheduler and args.workers is not None:
        raise ValueError("--workers and --scheduler exclude each other: a Dask cluster has its own workers")
    options = BuildOptions(
        out_dir=Path(os.path.abspath(args.out_dir)),  # noqa: PTH100  (keeps the user's links)
        mode=args.mode,
        anchor_k=_DEFAULTS.anchor_k if args.anchor_k is None else args.anchor_k,
        alpha=args.alpha,
        use_dilated_mask=args.use_dilated_mask,
        concat_format=(args.concat_format or _FORMAT[args.names]) if args.emit_concat else None,
        names=args.names,
        seed=args.seed,
        max_pairs_per_uid=args.max_pairs_per_uid,
        neg_ratio=args.neg_ratio,
        relative_paths=args.relative_paths,
        families=tuple(args.tasks),
    )
    manifest = build(
        args.data_root,
        options,
        workers=1 if args.workers is None else args.workers,
        scheduler=args.scheduler,
        prune=args.prune,
        progress=not args.quiet,
        echo=_silent if args.quiet or args.json else print,
    )
    if args.json:
        print(json.dumps(manifest, indent=2))
    return terminal.DONE
