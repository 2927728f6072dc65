"""`evaluate`: figures of a model's predictions against the truth."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mapanything_opv2v.commands import frames, options
from mapanything_opv2v.evaluation.options import ALIGNMENTS, CloudOptions, EvaluationOptions
from mapanything_opv2v.terminal import DONE, FAILED

if TYPE_CHECKING:
    from mapanything_opv2v.evaluation.run import Item

_EXAMPLE = "mapanything-opv2v evaluate --checkpoint runs/stage2/checkpoint-best.pth --root ~/OPV2V --out eval"

SHOWN = (
    "pose_translation_m",
    "pose_rotation_deg",
    "vehicle_translation_m",
    "vehicle_rotation_deg",
    "depth_rmse_m",
    "depth_mae_m",
    "depth_relative",
    "scale_ratio",
    "chamfer_raw_m",
    "chamfer_filtered_m",
    "bev_iou_raw",
    "bev_iou_filtered",
    "mask_iou",
)
"""Figures that are printed; the files have all."""

_CLOUD_TEXTS = {
    "voxel_m": "Chamfer: points of one cube of this side become one",
    "cell_m": "BEV IoU: side of a cell",
    "extent_m": "BEV IoU: reach from view 0",
    "max_range_m": "filtered clouds: reach from the own camera",
    "min_height_m": "filtered BEV: lowest height over the ground",
    "max_height_m": "filtered BEV: greatest height over the ground",
}


def add(commands: options.Commands) -> None:
    """Add the command."""
    evaluate = frames.add_command(
        commands,
        "evaluate",
        "compare a model's predictions with the truth: figures per frame and a summary, as CSV and JSON. The model "
        "sees images only, unless --inputs says otherwise. Frames that are done are kept",
        _EXAMPLE,
        run_evaluate,
        aliases=("eval",),
    )
    options.add_json(evaluate)
    evaluate.add_argument("--keep-predictions", action="store_true", help="also write them, to OUT/predictions")
    evaluate.add_argument(
        "--alignment",
        choices=ALIGNMENTS,
        default=EvaluationOptions.alignment,
        help="how the model's world is put onto the true one: by view 0, by all cameras, or those with a scale",
    )
    options.add_fields(evaluate, CloudOptions, _CLOUD_TEXTS)


def run_evaluate(args: argparse.Namespace) -> int:
    """Evaluate a checkpoint or a folder of predictions; 1 if frames failed."""
    from mapanything_opv2v import jobs
    from mapanything_opv2v.evaluation.results import ResultsFolder
    from mapanything_opv2v.evaluation.run import conclude, evaluate_all

    wanted = EvaluationOptions(alignment=args.alignment, clouds=options.from_fields(CloudOptions, args))
    source = frames.open_source(args)
    provenance = {**source.provenance, "options": wanted.to_json()}
    results = ResultsFolder(args.out, provenance)
    mine = [name for name in source.shard() if not results.has(name)]
    items = source.items(mine, results.fail)
    if args.keep_predictions and args.checkpoint is not None:
        items = _keeping(items, args.out / "predictions")
    with jobs.place(args.workers, args.scheduler) as place:
        evaluate_all(items, results, wanted, place, total=len(mine), progress=not args.quiet)
    summary = conclude(results, source.names, provenance)
    if summary is None:
        print(f"{args.out}: this process is done, others are not; the last one writes the tables")
        return DONE
    if not options.put_json(args, summary):
        _print_summary(summary, args.out)
    return FAILED if summary["failed"] else DONE


def _keeping(items: Iterator[Item], folder: Path) -> Iterator[Item]:
    from mapanything_opv2v.predictions import FramePredictions, save_predictions

    for name, frame in items:
        assert isinstance(frame, FramePredictions)
        save_predictions(folder, frame)
        yield name, frame


def _print_summary(summary: dict[str, Any], out: Path) -> None:
    from mapanything_opv2v.evaluation.results import scale_warning

    for name in SHOWN:
        figure = summary["figures"].get(name, {"frames": 0})
        if figure["frames"]:
            print(f"{name:24} mean {figure['mean']:9.4f}  median {figure['median']:9.4f}  of {figure['frames']} frames")
    for name, message in summary["failed"].items():
        print(f"{name}: {message}")
    if warning := scale_warning(summary):
        print(f"warning: {warning}")
    print(f"{out}: {summary['frames']} frames evaluated, {len(summary['failed'])} failed; frames.csv, summary.json")
