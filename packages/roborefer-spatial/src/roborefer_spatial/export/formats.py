"""`roborefer-spatial export`: the sample files in the formats of other evaluation tools."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from roborefer_spatial import files, terminal
from roborefer_spatial.export.chat import WRITERS
from roborefer_spatial.export.hf import write_hf
from roborefer_spatial.export.lmms import write_lmms
from roborefer_spatial.export.refspatial import write_refspatial
from roborefer_spatial.predicting import profiles
from roborefer_spatial.predicting.profiles import Profile
from roborefer_spatial.sample import Sample, load_samples

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Format(NamedTuple):
    """How a format is written: a function of (folder, final folder, set name, samples, profile) returns a summary."""

    write: Callable[[Path, Path, str, Sequence[Sample], Profile], str]
    help: str


FORMATS: dict[str, Format] = {
    "refspatial": Format(write_refspatial, "RefSpatial-Bench layout, for RoboRefer's own Evaluation/ scripts"),
    "lmms-eval": Format(write_lmms, "lmms-eval tasks (YAML and functions), for --include_path"),
    "hf": Format(write_hf, "a Hugging Face dataset (parquet with the images inside), for load_dataset"),
    **{name: Format(*spec) for name, spec in WRITERS.items()},
}


def export(
    format_name: str,
    sets: dict[str, Sequence[Sample]],
    out: Path,
    *,
    profile: Profile | None = None,
    progress: bool = False,
) -> list[str]:
    """Write sets of samples into a new folder; it appears whole or not at all.

    Parameters
    ----------
    format_name
        A key of `FORMATS`.
    sets
        Name -> samples.
    out
        The folder; must not exist.
    profile
        How the questions are put, and how lmms-eval tasks read the answers; by default as the samples were built.
    progress
        Whether to show a progress bar.

    Returns
    -------
    list of str
        What was written, a line for each set.

    Raises
    ------
    ValueError
        An unknown format, a name unfit for a file, an existing folder, samples that the format cannot hold,
        or files that cannot be read.
    """
    if format_name not in FORMATS:
        raise ValueError(f"unknown format {format_name!r}; known: {', '.join(FORMATS)}")
    for name in sets:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot name a set: letters, digits, '_', '-' and '.' only")
    if out.exists():
        raise ValueError(f"{out} exists; export writes a new folder, so remove it or choose another name")
    with files.atomic_folder(out) as beside:
        write = FORMATS[format_name].write
        bar = terminal.progress(sets.items(), description="exporting", unit="set", total=len(sets), quiet=not progress)
        chosen = profile or profiles.load(profiles.AS_BUILT)
        return [write(beside, out, name, samples, chosen) for name, samples in bar]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `roborefer-spatial export`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    formats = "\n".join(f"  {name:<12} {spec.help}" for name, spec in FORMATS.items())
    parser.epilog = (
        f"formats:\n{formats}\n\nexample:\n"
        "  roborefer-spatial export --format lmms-eval --samples tasks/t1_val_multi.json --out lmms_tasks"
    )
    add = parser.add_argument
    add("--format", choices=FORMATS, required=True, help="see below")
    add("--samples", type=Path, nargs="+", required=True, help="sample file(s) of `build`; each is a set")
    add("--out", type=Path, required=True, help="folder to make")
    add("--image-folder", type=Path, help="where relative paths start (default: the sample file's folder)")
    add(
        "--profile",
        default=profiles.AS_BUILT,
        metavar="NAME|FILE",
        help="the model that the questions are for: a YAML file, or one of "
        f"{', '.join(profiles.shipped())} (default: {profiles.AS_BUILT})",
    )
    add("--quiet", action="store_true", help="show no progress")


def run(args: argparse.Namespace) -> int:
    """Run `roborefer-spatial export`."""
    sets: dict[str, Sequence[Sample]] = {}
    for path in args.samples:
        if path.stem in sets:
            raise ValueError(f"{path}: another file is also called {path.stem}; sets need different names")
        sets[path.stem] = load_samples(path, image_folder=args.image_folder)
    profile = profiles.load(args.profile)
    for line in export(args.format, sets, args.out, profile=profile, progress=not args.quiet):
        print(line)
    print(f"written to {args.out}")
    return terminal.DONE
