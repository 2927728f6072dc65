"""`roborefer-spatial import`: an x3 tree from posed RGB-D recordings."""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from roborefer_spatial import files, terminal
from roborefer_spatial.importing import layouts
from roborefer_spatial.importing.inpainting import Inpainter
from roborefer_spatial.importing.scene_writer import ImportOptions, SceneSummary, write_scene
from roborefer_spatial.tasks.scenes import SPLIT_FOLDERS, check_leakage
from roborefer_spatial.tasks.workers import run_ordered

RECORD = "import.json"
"""At the root of a tree: the options that it was made with, so that further scenes are made alike."""
FOLDER_OF = {"train": "train", "val": "validation"}


@dataclass(frozen=True, slots=True)
class _Job:
    folder: Path
    layout: str
    scene: str
    split: str


def split_of(room: str, val_share: float, seed: int) -> str:
    """Return a room's split. It depends on the room and the seed alone: rooms that are added later change nothing."""
    number = int.from_bytes(hashlib.sha256(f"{seed}/{room}".encode()).digest()[:8], "big")
    return "val" if number < val_share * 2**64 else "train"


def import_scans(
    source: Path,
    out: Path,
    options: ImportOptions,
    *,
    split: str = "auto",
    val_share: float = 0.2,
    seed: int = 0,
    workers: int = 1,
    scheduler: str | None = None,
    inpaint: Inpainter | None = None,
    progress: bool = False,
) -> list[SceneSummary]:
    """Make the scenes of every recording at or below `source` that `out` does not hold yet; return what was made.

    A scene appears whole or not at all, so a run that was stopped goes on where it was.

    Parameters
    ----------
    source, out
        Folder of recordings, and root of the tree.
    options
        How scenes are made; a tree is made with one set of options.
    split
        "train", "val", or "auto": by room, `val_share` of the rooms to val.
    val_share, seed
        See `split_of`.
    workers, scheduler
        See `tasks.workers.run_ordered`.
    inpaint
        A function of your own instead of `options.inpainter`; other processes must be able to import it.
    progress
        Whether to show a progress bar.

    Raises
    ------
    ValueError
        No recording, two of one name, a room in both splits, other options than the tree's, or a recording that
        cannot be read.
    """
    if split not in ("auto", *FOLDER_OF):
        raise ValueError(f"--split {split}: known are auto, {', '.join(FOLDER_OF)}")
    if not 0 <= val_share <= 1:
        raise ValueError(f"--val-share is {val_share}: expected 0 to 1")
    jobs = []
    for folder, layout in layouts.find(Path(source)):
        recording = layouts.load(folder, layout, options.instances, Path(source))
        chosen = split if split != "auto" else split_of(recording.room, val_share, seed)
        jobs.append(_Job(folder, layout, recording.scene, chosen))
    _check_scenes(jobs, out)
    arguments = json.loads(json.dumps(asdict(options)))
    record = out / RECORD
    if record.is_file() and files.read_json_object(record)["options"] != arguments:
        raise ValueError(f"{out} was imported with {files.read_json_object(record)['options']}, now {arguments}")
    todo = [job for job in jobs if not (out / FOLDER_OF[job.split] / job.scene).exists()]
    with files.filling(out, {"import": arguments}):
        make = functools.partial(_make, source=Path(source), out=out, options=options, inpaint=inpaint)
        results = run_ordered(make, todo, workers=workers, scheduler=scheduler)
        bar = terminal.progress(results, description="importing", unit="scene", total=len(todo), quiet=not progress)
        done = list(bar)
        if not any(True for name in FOLDER_OF.values() for _ in (out / name).glob("*/uid_*")):
            raise ValueError(
                f"{source}: no object is seen in two frames: lower --min-visible or --min-size, or see whether poses "
                "are camera to world in metres and depth is in millimetres"
            )
        files.write_json(record, {"options": arguments})
    return done


def _check_scenes(jobs: Iterable[_Job], out: Path) -> None:
    """Raise ValueError where two recordings have one name, or a room is, or would come, into both splits."""
    by_name: dict[str, Path] = {}
    there = [(SPLIT_FOLDERS[name], scene.name) for name in SPLIT_FOLDERS for scene in (out / name).glob("*/")]
    for job in jobs:
        if job.scene in by_name:
            raise ValueError(f"{by_name[job.scene]} and {job.folder} are both scene {job.scene}: rename a folder")
        by_name[job.scene] = job.folder
    check_leakage({*there, *((job.split, job.scene) for job in jobs)})


def _make(job: _Job, *, source: Path, out: Path, options: ImportOptions, inpaint: Inpainter | None) -> SceneSummary:
    recording = layouts.load(job.folder, job.layout, options.instances, source)
    target = out / FOLDER_OF[job.split] / job.scene
    with files.atomic_folder(target) as folder:
        return write_scene(recording, folder, job.split, options, inpaint)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `roborefer-spatial import`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Make an x3 tree from posed RGB-D recordings: ScanNet's, ScanNet++'s or 7-Scenes' layout (colour, depth in mm, "
        "camera-to-world poses). Without instances, patches of surfaces are the objects (Task 1 and 2A only)."
    )
    parser.epilog = (
        "examples:\n"
        "  roborefer-spatial import --source scannet/scans --out x3 --workers 8\n"
        "  roborefer-spatial import --source my_room --out x3 --split val --objects 40 --views 8"
    )
    default, add = ImportOptions(), parser.add_argument
    add("--source", type=Path, required=True, help="a recording, or the folder of several")
    add("--out", type=Path, required=True, help="root of the x3 tree; scenes that it has are kept")
    add("--objects", type=int, default=default.objects, help="most objects a scene (default: %(default)s)")
    add("--views", type=int, default=default.views, help="views of each object (default: %(default)s)")
    add("--not-visible", type=int, default=default.not_visible, metavar="N",
        help="how many of them do not show it, where there are such frames (default: %(default)s)")  # fmt: skip
    add("--min-visible", type=float, default=default.min_visible, metavar="SHARE",
        help="a view shows an object if this share of it is seen (default: %(default)s)")  # fmt: skip
    add("--min-size", type=float, default=default.min_size, metavar="SHARE",
        help="and if it is this share of the picture (default: %(default)s)")  # fmt: skip
    add("--dilate", type=float, default=default.dilate, metavar="SHARE",
        help="growth of dilated masks, of the picture's diagonal (default: %(default)s)")  # fmt: skip
    add("--inpainter", default=default.inpainter, metavar="COMMAND",
        help="opencv (default), or a command with {image}, {mask} and {out}")  # fmt: skip
    add("--max-frames", type=int, default=default.max_frames, help="frames looked at (default: %(default)s)")
    add("--instances", choices=layouts.INSTANCES, default=default.instances,
        help="where objects come from: pictures by frame, a labelled mesh, or patches (none)")  # fmt: skip
    add("--split", choices=("auto", *FOLDER_OF), default="auto", help="split of the scenes (default: by room)")
    add("--val-share", type=float, default=0.2, help="share of the rooms that go to val (default: %(default)s)")
    add("--seed", type=int, default=0, help="decides which rooms these are (default: %(default)s)")
    add("--workers", type=int, default=1, help="local processes (default: %(default)s)")
    add("--scheduler", metavar="ADDRESS", help="Dask scheduler, such as tcp://node1:8786")
    add("--quiet", action="store_true", help="show no progress")


def run(args: argparse.Namespace) -> int:
    """Run `roborefer-spatial import`; say what each scene holds."""
    options = ImportOptions(**{field.name: getattr(args, field.name) for field in fields(ImportOptions)})
    done = import_scans(
        args.source,
        args.out,
        options,
        split=args.split,
        val_share=args.val_share,
        seed=args.seed,
        workers=args.workers,
        scheduler=args.scheduler,
        progress=not args.quiet,
    )
    for one in done:
        kind = "patches" if one.regions else "objects"
        print(
            f"{one.split}/{one.scene}: {one.objects} {kind}, {one.views} views, {one.not_visible} of them without it; "
            f"{one.left_out} {kind} left out"
        )
    print(f"{args.out}: {len(done)} scenes made; next: roborefer-spatial build --data-root {args.out} --out-dir tasks")
    return terminal.DONE
