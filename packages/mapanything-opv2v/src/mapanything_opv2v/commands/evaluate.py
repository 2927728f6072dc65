"""`evaluate`: figures of a model's predictions against the truth."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mapanything_opv2v.commands import frames, options, sources
from mapanything_opv2v.evaluation.options import ALIGNMENTS, CloudOptions, EvaluationOptions
from mapanything_opv2v.terminal import DONE, FAILED

if TYPE_CHECKING:
    from mapanything_opv2v.evaluation.run import Item

_EXAMPLE = "mapanything-opv2v evaluate --checkpoint runs/stage2/checkpoint-best.pth --root ~/OPV2V --out eval"

SHOWN = (
    "pose_translation_m",
    "pose_translation_scaled_m",
    "pose_rotation_deg",
    "vehicle_translation_m",
    "vehicle_direction_deg",
    "vehicle_rotation_deg",
    "depth_rmse_m",
    "depth_mae_m",
    "depth_relative",
    "depth_relative_scaled",
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
    frames.add_perturbation(evaluate)
    options.add_json(evaluate)
    evaluate.add_argument("--keep-predictions", action="store_true", help="also write them, to OUT/predictions")
    evaluate.add_argument(
        "--alignment",
        choices=ALIGNMENTS,
        default=EvaluationOptions.alignment,
        help="how the model's world is put onto the true one: by view 0, by all cameras, or those with a scale",
    )
    options.add_fields(evaluate, CloudOptions, _CLOUD_TEXTS)
    add_baselines(evaluate)


def add_baselines(parser: argparse.ArgumentParser) -> None:
    """Add what the constant baseline is fitted on; `fitted_constant` reads it."""
    group = parser.add_argument_group("baselines that take no learning")
    group.add_argument("--baseline-split", default="train", help="split that the constant one is fitted on")
    group.add_argument("--baseline-samples", type=int, default=100, help="samples of it, spread evenly")
    group.add_argument(
        "--baseline", type=Path, metavar="FILE", help="take the one that is fitted (OUT/baselines/constant.npz) instead"
    )


def run_evaluate(args: argparse.Namespace) -> int:
    """Evaluate a checkpoint or a folder of predictions; 1 if frames failed."""
    wanted = EvaluationOptions(alignment=args.alignment, clouds=options.from_fields(CloudOptions, args))
    summary = evaluate_source(args, frames.open_source(args), wanted)
    if summary is None:
        print(f"{args.out}: this process is done, others are not; the last one writes the tables")
        return DONE
    if not options.put_json(args, summary):
        _print_summary(summary, args.out)
    return FAILED if summary["failed"] else DONE


def evaluate_source(
    args: argparse.Namespace, source: sources.Source, wanted: EvaluationOptions
) -> dict[str, Any] | None:
    """Evaluate the frames of a source into `args.out`; return the summary, None while other processes work on."""
    from mapanything_opv2v import jobs
    from mapanything_opv2v.evaluation.results import ResultsFolder
    from mapanything_opv2v.evaluation.run import conclude, evaluate_all
    from mapanything_opv2v.views.evaluation import write_evaluation

    asked = {"split": args.baseline_split, "samples": args.baseline_samples}
    provenance = {**source.provenance, "options": wanted.to_json(), "baseline": asked}
    if args.baseline is not None:
        provenance["baseline"] = {"file": str(args.baseline)}
    results = ResultsFolder(args.out, provenance)
    constant, missing = fitted_constant(args, source)
    mine = [name for name in source.shard() if not results.has(name)]
    items = source.items(mine, results.fail)
    if args.keep_predictions and args.predictions is None:
        items = _keeping(items, args.out / "predictions")
    with jobs.place(args.workers, args.scheduler) as place:
        show = not args.quiet
        evaluate_all(items, results, wanted, place, constant=constant, total=len(mine), progress=show)
    summary = conclude(results, source.names, provenance, missing)
    if summary is not None:
        write_evaluation(args.out / "evaluation.html", summary)
    return summary


def fitted_constant(args: argparse.Namespace, source: sources.Source) -> tuple[Path | None, dict[str, str]]:
    """Return the file of the constant baseline, made where it is not there, or why there is none."""
    from mapanything_opv2v.evaluation import baselines

    options.positive(args.baseline_samples, "--baseline-samples")
    if args.baseline is not None:
        baselines.load(args.baseline)  # a file that is none is refused before frames are read
        return args.baseline, {}
    path = args.out / "baselines" / f"{baselines.CONSTANT}.npz"
    if path.is_file():
        return path, {}
    if source.truths is None:
        reason = "predictions alone have no training split; give one that is fitted with --baseline FILE"
        return None, {baselines.CONSTANT: reason}
    try:
        truths = source.truths(args.baseline_split, args.baseline_samples)
        baselines.save(path, baselines.fit(truths), {"split": args.baseline_split})
    except (ValueError, OSError) as error:
        return None, {baselines.CONSTANT: f"not fitted on {args.baseline_split}: {error}"}
    return path, {}


def _keeping(items: Iterator[Item], folder: Path) -> Iterator[Item]:
    from mapanything_opv2v.predictions import FramePredictions, save_predictions

    for name, frame in items:
        assert isinstance(frame, FramePredictions)
        save_predictions(folder, frame)
        yield name, frame


def _print_summary(summary: dict[str, Any], out: Path) -> None:
    from mapanything_opv2v.evaluation.results import scale_warning

    others = {name: found["all_figures"] for name, found in summary["baselines"].items() if "all_figures" in found}
    for name in SHOWN:
        figure = summary["figures"].get(name, {"frames": 0})
        if not figure["frames"]:
            continue
        beside = [
            f"  {other} {figures[name]['mean']:.4f}"
            for other, figures in others.items()
            if figures.get(name, {"frames": 0})["frames"]
        ]
        line = f"{name:24} mean {figure['mean']:9.4f}  median {figure['median']:9.4f}  of {figure['frames']} frames"
        print(line + "".join(beside))
    for name, found in summary["baselines"].items():
        print(found.get("sentence") or f"{name}: no baseline: {found['missing']}")
    for name, message in summary["failed"].items():
        print(f"{name}: {message}")
    if warning := scale_warning(summary):
        print(f"warning: {warning}")
    counts = f"{summary['frames']} frames evaluated, {len(summary['failed'])} failed"
    print(f"{out}: {counts}; frames.csv, summary.json, evaluation.html")
