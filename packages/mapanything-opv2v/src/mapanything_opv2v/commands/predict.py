"""`predict`: a model's predictions as files, and depth, masks and point clouds of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mapanything_opv2v.commands import frames, options
from mapanything_opv2v.kinds import ELEVATION_CENTER_DEG, EXPORTS, VERTICAL_FOV_DEG
from mapanything_opv2v.terminal import DONE, FAILED

if TYPE_CHECKING:
    from mapanything_opv2v.exports import ExportOptions
    from mapanything_opv2v.predictions import FramePredictions

_EXAMPLE = (
    "mapanything-opv2v predict --checkpoint runs/stage2/checkpoint-best.pth --root ~/OPV2V --out predictions "
    "--export ply mask"
)


def add(commands: options.Commands) -> None:
    """Add the command."""
    predict = frames.add_command(
        commands,
        "predict",
        "write a model's predictions, one file per frame, and export depth, masks and point clouds of them. Only "
        "images are needed; true depth is kept beside the predictions where it is there",
        _EXAMPLE,
        run_predict,
        aliases=("infer",),
    )
    frames.add_perturbation(predict)
    predict.set_defaults(need_depth=False, or_images=", or --images, a folder of photographs, or --rig")
    images = predict.add_argument_group("photographs and other rigs, instead of --root")
    images.add_argument(
        "--rig", type=Path, metavar="FILE", help="rig.yaml of calibrated cameras: a view each, or --panoramas of all"
    )
    images.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="a folder of photographs that belong together, or a folder of such folders; no truth is needed",
    )
    images.add_argument("--panoramas", action="store_true", help="they are full turns that show exactly the rows below")
    images.add_argument(
        "--equirectangular", action="store_true", help="they are full turns from straight down to straight up (2:1)"
    )
    images.add_argument(
        "--panorama-vertical-fov-deg", type=float, default=VERTICAL_FOV_DEG, help="between top and bottom edge"
    )
    images.add_argument(
        "--panorama-elevation-center-deg", type=float, default=ELEVATION_CENTER_DEG, help="of the middle row"
    )
    predict.add_argument("--export", nargs="+", default=[], metavar="KIND", help=f"of: {', '.join(EXPORTS)}")
    predict.add_argument("--max-range-m", type=float, default=float("inf"), help="exports: leave out farther pixels")
    predict.add_argument("--unmasked", action="store_true", help="exports: keep pixels that the model calls empty")


def run_predict(args: argparse.Namespace) -> int:
    """Write predictions and exports; 1 if frames failed."""
    from mapanything_opv2v import exports, jobs
    from mapanything_opv2v.evaluation.results import claim

    wanted = exports.ExportOptions(
        kinds=tuple(args.export) or EXPORTS, max_range_m=args.max_range_m, masked=not args.unmasked
    )
    if args.predictions is not None and not args.export:
        raise ValueError("predict --predictions: give --export, there is nothing else to do with them")
    failed: dict[str, str] = {}
    source = frames.open_source(args)
    shard = source.shard()
    paths = {name: args.predictions / f"{name}.npz" for name in shard} if args.predictions is not None else {}
    if args.predictions is None:
        claim(args.out, source.provenance)
        paths = {name: args.out / f"{name}.npz" for name in shard}
        open_names = [name for name in shard if not paths[name].is_file()]
        work = jobs.run(
            partial(_save, args.out),
            source.items(open_names, failed.__setitem__),
            total=len(open_names),
            description="predict",
            unit="frame",
            progress=not args.quiet,
        )
        failed |= {done.item[0]: str(done.error) for done in work if done.error is not None}
        print(f"{args.out}: predictions of {len(paths) - len(failed)} frames, {len(failed)} failed")
    if args.export:
        there = [path for path in paths.values() if path.is_file()]
        failed |= _export(there, wanted, args)
    for name, message in failed.items():
        print(f"{name}: {message}")
    return FAILED if failed else DONE


def _export(paths: Sequence[Path], options: ExportOptions, args: argparse.Namespace) -> dict[str, str]:
    """Write the exports of predictions files; return what failed."""
    from mapanything_opv2v import exports, jobs

    written = 0
    failed: dict[str, str] = {}
    with jobs.place(args.workers, args.scheduler) as place:
        work = partial(exports.export_file, folder=args.out, options=options)
        for done in jobs.run(
            work,
            paths,
            workers=place.workers,
            executor=place.executor,
            description="export",
            unit="frame",
            progress=not args.quiet,
        ):
            written += done.result or 0
            if done.error is not None:
                failed[str(done.item)] = str(done.error)
    print(f"{args.out}: {written} files exported of {len(paths)} frames, {len(failed)} failed")
    return failed


def _save(folder: Path, item: tuple[str, FramePredictions]) -> Path:
    from mapanything_opv2v.predictions import save_predictions

    return save_predictions(folder, item[1])
