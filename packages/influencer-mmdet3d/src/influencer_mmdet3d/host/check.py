"""The ``check`` command with `--config`: classes and voxel size of a config instead of S3DIS's or ScanNet's own."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from influencer_mmdet3d.data import check
from influencer_mmdet3d.data.formats import Format
from influencer_mmdet3d.host.verify import load_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``check``."""
    check.add_arguments(parser)
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="config to train with: its classes and voxel size count"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run ``check``; return its exit status."""
    kind = check.format_of(args.root, args.format)
    return check.check_and_print(args, kind if args.config is None else format_of_config(kind, args.config))


def format_of_config(kind: Format, path: Path) -> Format:
    """Return a format with the class names and the voxel size that a config gives.

    Raises
    ------
    ValueError
        If the config cannot be read, or its evaluator names no classes.
    """
    cfg = load_config(path)
    voxel = float(cfg.get("model", {}).get("voxel_size", kind.voxel))
    names = list(((cfg.get("val_evaluator") or {}).get("metric_meta") or {}).get("classes") or [])[:-1]
    if not names:
        raise ValueError(f"{path}: val_evaluator.metric_meta.classes names no classes (the last one is 'unlabeled')")
    if kind.name == "scannet":
        ids = list(cfg.val_evaluator.get("sem_mapping") or kind.classes)
        if len(ids) != len(names):
            raise ValueError(f"{path}: val_evaluator.sem_mapping has {len(ids)} ids for {len(names)} classes")
        stuff = tuple(ids[number] for number in cfg.val_evaluator.get("stuff_class_inds") or ())
        return replace(kind, classes=dict(zip(ids, names)), voxel=voxel, stuff=stuff or kind.stuff)
    if names == list(kind.classes.values()):
        return replace(kind, voxel=voxel)
    return replace(kind.with_classes(names), voxel=voxel)
