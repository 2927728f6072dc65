"""What `evaluate` and `infer` do; prints for people, returns the exit status."""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mapanything_opv2v import __version__, cluster, exports, jobs
from mapanything_opv2v.evaluation.options import EXPORTS, CloudOptions, EvaluationOptions
from mapanything_opv2v.evaluation.results import PROVENANCE, ResultsFolder, claim, read_json, scale_warning
from mapanything_opv2v.evaluation.run import Item, conclude, evaluate_all
from mapanything_opv2v.predictions import FramePredictions, list_predictions, save_predictions

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


def run(args: argparse.Namespace) -> int:
    """Run either command."""
    return run_evaluate(args) if args.command == "evaluate" else run_infer(args)


def run_evaluate(args: argparse.Namespace) -> int:
    """Evaluate a checkpoint or a folder of predictions; 1 if frames failed."""
    names = CloudOptions.__dataclass_fields__
    options = EvaluationOptions(
        alignment=args.alignment, clouds=CloudOptions(**{name: getattr(args, name) for name in names})
    )
    source = _open(args)
    provenance = {**source.provenance, "options": options.to_json()}
    results = ResultsFolder(args.out, provenance)
    mine = [name for name in source.shard() if not results.has(name)]
    items = source.items(mine, results.fail)
    if args.keep_predictions and args.checkpoint is not None:
        items = _keeping(items, args.out / "predictions")
    with cluster.place(args.workers, args.scheduler) as place:
        evaluate_all(items, results, options, place, total=len(mine), progress=not args.quiet)
    summary = conclude(results, source.names, provenance)
    if summary is None:
        print(f"{args.out}: this process is done, others are not; the last one writes the tables")
        return 0
    _print_summary(summary, args.out)
    return 1 if summary["failed"] else 0


def run_infer(args: argparse.Namespace) -> int:
    """Write predictions and exports; 1 if frames failed."""
    options = exports.ExportOptions(
        kinds=tuple(args.export) or EXPORTS, max_range_m=args.max_range_m, masked=not args.unmasked
    )
    if args.predictions is not None and not args.export:
        raise ValueError("infer --predictions: give --export, there is nothing else to do with them")
    failed: dict[str, str] = {}
    source = _open(args)
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
            progress=not args.quiet,
        )
        failed |= {done.item[0]: str(done.error) for done in work if done.error is not None}
        print(f"{args.out}: predictions of {len(paths) - len(failed)} frames, {len(failed)} failed")
    if args.export:
        there = [path for path in paths.values() if path.is_file()]
        failed |= _export(there, options, args)
    for name, message in failed.items():
        print(f"{name}: {message}")
    return 1 if failed else 0


def _export(paths: Sequence[Path], options: exports.ExportOptions, args: argparse.Namespace) -> dict[str, str]:
    """Write the exports of predictions files; return what failed."""
    written = 0
    failed: dict[str, str] = {}
    with cluster.place(args.workers, args.scheduler) as place:
        work = partial(exports.export_file, folder=args.out, options=options)
        for done in jobs.run(
            work,
            paths,
            workers=place.workers,
            executor=place.executor,
            description="export",
            progress=not args.quiet,
        ):
            written += done.result or 0
            if done.error is not None:
                failed[str(done.item)] = str(done.error)
    print(f"{args.out}: {written} files exported of {len(paths)} frames, {len(failed)} failed")
    return failed


@dataclass(frozen=True)
class _Source:
    """Frames to work on: `items` yields those of the given names and reports what failed."""

    names: list[str]
    """Of all processes."""
    provenance: dict[str, Any]
    items: Callable[[Sequence[str], Callable[[str, str], None]], Iterator[Item]]

    def shard(self) -> list[str]:
        """Return the names of this process (RANK of WORLD_SIZE, as torchrun sets them)."""
        rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        if not 0 <= rank < size:
            raise ValueError(f"RANK={rank}, WORLD_SIZE={size}: expected 0 <= RANK < WORLD_SIZE")
        return self.names[rank::size]


def _open(args: argparse.Namespace) -> _Source:
    if args.checkpoint is not None:
        return _model_source(args)
    paths = {
        str(path.relative_to(args.predictions).with_suffix("")): path for path in list_predictions(args.predictions)
    }
    if not paths:
        raise ValueError(f"--predictions {args.predictions}: no predictions of a frame are there")
    names = _chosen(list(paths), args.frames)
    origin = args.predictions / PROVENANCE
    provenance = {
        "version": __version__,
        "predictions": read_json(origin) if origin.is_file() else None,
        **_frames_provenance(names),
    }

    def items(wanted: Sequence[str], on_failure: Callable[[str, str], None]) -> Iterator[Item]:
        return ((name, paths[name]) for name in wanted)

    return _Source(names, provenance, items)


def _model_source(args: argparse.Namespace) -> _Source:
    if args.root is None:
        raise ValueError("--checkpoint needs --root, the tree to predict")
    from mapanything_opv2v.host import evaluation, inference, models
    from mapanything_opv2v.host.register import register

    register()
    inputs = inference.check_inputs(args.inputs)
    data = evaluation.DataOptions(
        root=args.root,
        depth_root=args.depth_root,
        dataset=args.dataset,
        split=args.split,
        num_views=args.num_views,
        resolution=None if args.resolution is None else tuple(args.resolution),
        options=dict(_option(text) for text in args.option),
    )
    loaded = models.load_model(args.checkpoint, args.device or _own_device(), args.model_config)
    dataset = evaluation.open_dataset(data, loaded.data_norm_type)
    numbers = {dataset.sample_name(index): index for index in range(len(dataset))}
    names = _chosen(list(numbers), args.frames)
    seen = ", ".join(("images", *inputs))
    print(f"{loaded.checkpoint}: {loaded.model_str} on {len(names)} frames of {args.split}; the model sees: {seen}")

    def items(wanted: Sequence[str], on_failure: Callable[[str, str], None]) -> Iterator[Item]:
        return evaluation.predict_samples(
            loaded,
            dataset,
            [numbers[name] for name in wanted],
            on_failure=on_failure,
            inputs=inputs,
            precision=args.precision,
            batch_size=args.batch_size,
            loader_workers=args.loader_workers,
        )

    provenance = {
        "version": __version__,
        **loaded.provenance(),
        "checkpoint": f"{loaded.config}/{loaded.checkpoint.name}",
        "data": data.provenance(),
        "inputs": inputs,
        "precision": args.precision,
        **_frames_provenance(names),
    }
    return _Source(names, provenance, items)


def _own_device() -> str:
    import torch

    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"


def _option(text: str) -> tuple[str, Any]:
    """Return (name, value) of `NAME=VALUE`; what is no Python literal is text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"--option {text}: expected NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _chosen(names: list[str], wanted: Sequence[str] | None) -> list[str]:
    """Return the names that are wanted, by full name or without `_agentID`."""
    if wanted is None:
        return names
    chosen = [name for name in names if name in wanted or name.rpartition("_agent")[0] in wanted]
    known = {name for full in chosen for name in (full, full.rpartition("_agent")[0])}
    if missing := [name for name in wanted if name not in known]:
        raise ValueError(f"--frames {' '.join(missing)}: not among the {len(names)} frames, such as {names[0]}")
    return chosen


def _frames_provenance(names: Sequence[str]) -> dict[str, Any]:
    digest = hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()
    return {"frames": len(names), "frames_sha256": digest}


def _save(folder: Path, item: tuple[str, FramePredictions]) -> Path:
    return save_predictions(folder, item[1])


def _keeping(items: Iterator[Item], folder: Path) -> Iterator[Item]:
    for name, frame in items:
        assert isinstance(frame, FramePredictions)
        save_predictions(folder, frame)
        yield name, frame


def _print_summary(summary: dict[str, Any], out: Path) -> None:
    for name in SHOWN:
        figure = summary["figures"].get(name, {"frames": 0})
        if figure["frames"]:
            print(f"{name:24} mean {figure['mean']:9.4f}  median {figure['median']:9.4f}  of {figure['frames']} frames")
    for name, message in summary["failed"].items():
        print(f"{name}: {message}")
    if warning := scale_warning(summary):
        print(f"warning: {warning}")
    print(f"{out}: {summary['frames']} frames evaluated, {len(summary['failed'])} failed; frames.csv, summary.json")
