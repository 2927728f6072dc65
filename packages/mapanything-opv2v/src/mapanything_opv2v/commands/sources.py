"""Where frames come from: a tree, photographs or a rig through a model, or predictions on disk."""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mapanything_opv2v import __version__
from mapanything_opv2v.kinds import PANORAMA_SIZE

if TYPE_CHECKING:
    from mapanything_opv2v.evaluation.baselines import Truth
    from mapanything_opv2v.evaluation.run import Item
    from mapanything_opv2v.host.data.base import OPV2VBase
    from mapanything_opv2v.host.models.from_checkpoint import LoadedModel
    from mapanything_opv2v.samples.perturb import Perturbation


@dataclass(frozen=True)
class Source:
    """Frames to work on: `items` yields those of the given names and reports what failed."""

    names: list[str]
    """Of all processes."""
    provenance: dict[str, Any]
    items: Callable[[Sequence[str], Callable[[str, str], None]], Iterator[Item]]
    truths: Callable[[str, int], list[Truth]] | None = None
    """Return what is true of so many samples of a split, made as these frames are; None where there is no tree."""

    def shard(self) -> list[str]:
        """Return the names of this process (RANK of WORLD_SIZE, as torchrun sets them)."""
        rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        if not 0 <= rank < size:
            raise ValueError(f"RANK={rank}, WORLD_SIZE={size}: expected 0 <= RANK < WORLD_SIZE")
        return self.names[rank::size]


def predictions_source(args: argparse.Namespace) -> Source:
    """Return predictions on disk."""
    from mapanything_opv2v.evaluation.results import PROVENANCE
    from mapanything_opv2v.files import read_json
    from mapanything_opv2v.predictions import list_predictions

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

    return Source(names, provenance, items)


def image_source(args: argparse.Namespace) -> Source:
    """Return folders of photographs to predict."""
    from mapanything_opv2v import photographs
    from mapanything_opv2v.geometry import Cylinder
    from mapanything_opv2v.host.register import register

    register()  # first: it says what is wrong with the host
    from mapanything_opv2v.host.models import photographs as predicting

    if args.root is not None:
        raise ValueError("--images and --root: give one of them, a folder of photographs or a tree")
    if args.inputs:
        raise ValueError(f"--inputs {' '.join(args.inputs)}: photographs of --images have no known geometry")
    panoramas = args.panoramas or args.equirectangular
    size = None if args.resolution is None else (args.resolution[0], args.resolution[1])
    vertical = args.panorama_vertical_fov_deg, args.panorama_elevation_center_deg
    cylinder = Cylinder.from_size(size or PANORAMA_SIZE, *vertical) if panoramas else None
    folders = {predicting.sample_name(folder): folder for folder in photographs.find_folders(args.images)}
    names = _chosen(list(folders), args.frames)
    loaded = _loaded(args)
    count = sum(len(folders[name].paths) for name in names)
    kind = "panoramas" if panoramas else "photographs"
    print(f"{loaded.name}: {loaded.model_str} on {count} {kind} in {len(names)} folders; the model sees: images")

    def items(wanted: Sequence[str], on_failure: Callable[[str, str], None]) -> Iterator[Item]:
        return predicting.predict_folders(
            loaded,
            [folders[name] for name in wanted],
            on_failure=on_failure,
            size_wh=size,
            cylinder=cylinder,
            equirectangular=args.equirectangular,
            precision=args.precision,
        )

    provenance = {
        "version": __version__,
        **loaded.provenance(),
        "data": {"images": kind, "resolution": size, "vertical_deg": vertical if panoramas else None},
        "equirectangular": args.equirectangular,
        "inputs": (),
        "precision": args.precision,
        **_frames_provenance(names),
    }
    return Source(names, provenance, items)


def rig_source(args: argparse.Namespace) -> Source:
    """Return the frames of a rig file to predict."""
    from mapanything_opv2v.geometry import Cylinder
    from mapanything_opv2v.host.register import register
    from mapanything_opv2v.panorama.rig_file import load_rig_file

    register()  # first: it says what is wrong with the host
    from mapanything_opv2v.host.models import rigs

    if args.root is not None:
        raise ValueError("--rig and --root: give one of them; --root takes a rig.yaml too, as a data set")
    if args.inputs or args.equirectangular:
        raise ValueError(
            f"--rig: the model sees its images only; for --inputs give it as a data set, --root {args.rig}"
        )
    rig = load_rig_file(args.rig)
    size = None if args.resolution is None else (args.resolution[0], args.resolution[1])
    vertical = args.panorama_vertical_fov_deg, args.panorama_elevation_center_deg
    cylinder = Cylinder.from_size(size or PANORAMA_SIZE, *vertical) if args.panoramas else None
    frames = {rigs.sample_name(rig, frame): frame for frame in rig.frames}
    names = _chosen(list(frames), args.frames)
    loaded = _loaded(args)
    kind = "a panorama each" if args.panoramas else f"{len(rig.cameras)} views each"
    print(f"{loaded.name}: {loaded.model_str} on {len(names)} frames of {args.rig}, {kind}; the model sees: images")

    def items(wanted: Sequence[str], on_failure: Callable[[str, str], None]) -> Iterator[Item]:
        return rigs.predict_rig(
            loaded,
            rig,
            [frames[name] for name in wanted],
            on_failure=on_failure,
            size_wh=size,
            cylinder=cylinder,
            precision=args.precision,
        )

    what = hashlib.sha256(args.rig.read_bytes()).hexdigest()
    provenance = {
        "version": __version__,
        **loaded.provenance(),
        "data": {"rig_sha256": what, "resolution": size, "panoramas": args.panoramas, "vertical_deg": vertical},
        "inputs": (),
        "precision": args.precision,
        **_frames_provenance(names),
    }
    return Source(names, provenance, items)


def model_source(args: argparse.Namespace) -> Source:
    """Return what a model is to predict: samples of a tree, photographs or a rig."""
    if args.images is not None and args.rig is not None:
        raise ValueError("--images and --rig: give one of them, photographs or a calibrated rig")
    if args.images is not None:
        return image_source(args)
    if args.rig is not None:
        return rig_source(args)
    if args.root is None:
        given = "--checkpoint" if args.model is None else "--model"
        raise ValueError(f"{given} needs --root, the tree to {args.command}{args.or_images}")
    from mapanything_opv2v.host.register import register

    register()  # first: it says what is wrong with the host
    from mapanything_opv2v.host.models import inference, predicting
    from mapanything_opv2v.samples.perturb import Perturbation

    inputs = inference.check_inputs(args.inputs)
    data = predicting.DataOptions(
        root=args.root,
        depth_root=args.depth_root,
        dataset=args.dataset,
        split=args.split,
        num_views=args.num_views,
        resolution=None if args.resolution is None else tuple(args.resolution),
        options={
            "exclude": args.exclude,
            "need_depth": args.need_depth,
            **dict(_option(text) for text in args.option),
        },
    )
    perturbation = Perturbation(drop_agents=args.drop_agents, pose_noise=args.pose_noise, time_offset=args.time_offset)
    loaded = _loaded(args)
    dataset = predicting.open_dataset(data, loaded.data_norm_type)
    perturbation.check(cooperative=dataset.cooperative, inputs=inputs, batch_size=args.batch_size)
    numbers = _sample_numbers(dataset, perturbation)
    names = _chosen(list(numbers), args.frames)
    seen = ", ".join(("images", *inputs))
    what = f"{loaded.model_str} on {len(names)} frames of {args.split}; the model sees: {seen}"
    print(f"{loaded.name}: {what}", file=sys.stderr)

    def items(wanted: Sequence[str], on_failure: Callable[[str, str], None]) -> Iterator[Item]:
        return predicting.predict_samples(
            loaded,
            dataset,
            [numbers[name] for name in wanted],
            on_failure=on_failure,
            inputs=inputs,
            precision=args.precision,
            batch_size=args.batch_size,
            loader_workers=args.loader_workers,
            perturbation=perturbation,
        )

    provenance = {
        "version": __version__,
        **loaded.provenance(),
        "data": data.provenance(),
        "inputs": inputs,
        **({"perturbation": changed} if (changed := perturbation.to_json()) else {}),
        "precision": args.precision,
        **_frames_provenance(names),
    }

    def truths(split: str, samples: int) -> list[Truth]:
        return predicting.split_truths(data, loaded.data_norm_type, split, samples)

    return Source(names, provenance, items, truths)


def _sample_numbers(dataset: OPV2VBase, perturbation: Perturbation) -> dict[str, int]:
    """Return the samples' numbers by name; what is left out is printed."""
    for left in dataset.tree.excluded:
        print(left, file=sys.stderr)
    dataset.time_offset = perturbation.time_offset
    indices = [k for k in range(len(dataset)) if not perturbation.time_offset or dataset.reaches_back(k)]
    if len(indices) < len(dataset):
        left_out, frames = len(dataset) - len(indices), perturbation.time_offset
        print(f"{left_out} samples are left out: nothing was recorded {frames} frames before", file=sys.stderr)
    if not indices:
        raise ValueError(
            f"--time-offset {perturbation.time_offset}: no sequence of {dataset.split} reaches back so far"
        )
    return {dataset.sample_name(index): index for index in indices}


def _loaded(args: argparse.Namespace) -> LoadedModel:
    """Return the model that the options name; it stays in `args.loaded`, so that several evaluations share it."""
    if getattr(args, "loaded", None) is None:
        args.loaded = _load(args)
    return args.loaded


def _load(args: argparse.Namespace) -> LoadedModel:
    from mapanything_opv2v.host.models import from_checkpoint

    device = args.device or _own_device()
    if args.model is not None:
        if args.model_config is not None:
            raise ValueError("--model-config belongs to --checkpoint; with --model give overrides after its name")
        return from_checkpoint.build_model(args.model, device, is_metric=args.unit_is_metre)
    return from_checkpoint.load_model(args.checkpoint, device, args.model_config, is_metric=args.unit_is_metre)


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
