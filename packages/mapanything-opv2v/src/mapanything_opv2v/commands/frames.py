"""Where `evaluate` and `predict` get their frames from: a model that predicts them, or predictions on disk."""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mapanything_opv2v import __version__
from mapanything_opv2v.commands import options
from mapanything_opv2v.files import remove_stale
from mapanything_opv2v.kinds import DATASETS, INPUTS, PANORAMA_SIZE, PINHOLE_SIZE

if TYPE_CHECKING:
    from mapanything_opv2v.evaluation.baselines import Truth
    from mapanything_opv2v.evaluation.run import Item


def add_command(
    commands: options.Commands, name: str, text: str, example: str, run: options.Run, *, aliases: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """Add a subcommand that works on frames, on one GPU or several."""
    text = f"{text}. On 4 GPUs: torchrun --no-python --nproc-per-node 4 before it"
    parser = options.add_command(commands, name, text, example, run, aliases=aliases)
    _add_source(parser)
    parser.set_defaults(need_depth=True, images=None, or_images="")
    return parser


def _add_source(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path, metavar="FILE", help="checkpoint of a training run")
    source.add_argument("--predictions", type=Path, metavar="DIR", help="predictions that `predict` has written")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write into")
    parser.add_argument("--frames", nargs="+", metavar="NAME", help="only these: SPLIT/SEQUENCE/FRAME[_agentID]")
    parser.add_argument("--workers", type=int, default=1, help="processes for figures or exports")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="figures or exports on this Dask cluster instead")
    options.add_quiet(parser)

    data = parser.add_argument_group("data, with --checkpoint")
    data.add_argument("--root", type=Path, help="folder that holds train, validate, test, test_culvercity")
    data.add_argument("--depth-root", type=Path, help="tree of depth maps, if not in ROOT itself")
    data.add_argument("--split", default="test", help="split to predict")
    options.add_exclude(data)
    options.add_png_units(data)
    data.add_argument("--dataset", choices=DATASETS, default="OPV2VCoopDataset", help="how samples are made")
    data.add_argument("--num-views", type=int, default=4, help="views of a sample")
    data.add_argument(
        "--resolution",
        nargs=2,
        type=int,
        metavar=("WIDTH", "HEIGHT"),
        help="pixels of a view (default: {} {}, panoramas {} {})".format(*PINHOLE_SIZE, *PANORAMA_SIZE),
    )
    data.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other option of the dataset, such as main_agent_policy=closest or camera_ids=[0,3]; repeatable",
    )

    model = parser.add_argument_group("model, with --checkpoint")
    model.add_argument(
        "--inputs",
        nargs="+",
        default=[],
        choices=INPUTS,
        help="true geometry that the model is given beside the images (default: none); recorded in the output",
    )
    model.add_argument("--model-config", type=Path, metavar="FILE", help="the run's .hydra/config.yaml")
    model.add_argument("--device", help="such as cuda:1 (default: the process's own GPU if there is one, else cpu)")
    model.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="of the model's forward")
    model.add_argument("--batch-size", type=int, default=1, help="samples at a time")
    model.add_argument("--loader-workers", type=int, default=0, help="processes that read samples")


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


def open_source(args: argparse.Namespace) -> Source:
    """Return the frames that the options name, predicted or on disk; sweep up after killed runs in OUT."""
    if removed := remove_stale(args.out):
        print(f"{args.out}: removed {len(removed)} files that killed runs left half written", file=sys.stderr)
    if args.checkpoint is not None:
        return _model_source(args)
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


def _image_source(args: argparse.Namespace) -> Source:
    """Return folders of photographs to predict."""
    from mapanything_opv2v import photographs
    from mapanything_opv2v.geometry import Cylinder
    from mapanything_opv2v.host.register import register

    register()  # first: it says what is wrong with the host
    from mapanything_opv2v.host.models import from_checkpoint
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
    loaded = from_checkpoint.load_model(args.checkpoint, args.device or _own_device(), args.model_config)
    count = sum(len(folders[name].paths) for name in names)
    kind = "panoramas" if panoramas else "photographs"
    print(f"{loaded.checkpoint}: {loaded.model_str} on {count} {kind} in {len(names)} folders; the model sees: images")

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
        "checkpoint": f"{loaded.config}/{loaded.checkpoint.name}",
        "data": {"images": kind, "resolution": size, "vertical_deg": vertical if panoramas else None},
        "equirectangular": args.equirectangular,
        "inputs": (),
        "precision": args.precision,
        **_frames_provenance(names),
    }
    return Source(names, provenance, items)


def _model_source(args: argparse.Namespace) -> Source:
    if args.images is not None:
        return _image_source(args)
    if args.root is None:
        raise ValueError(f"--checkpoint needs --root, the tree to {args.command}{args.or_images}")
    from mapanything_opv2v.host.register import register

    register()  # first: it says what is wrong with the host
    from mapanything_opv2v.host.models import from_checkpoint, inference, predicting

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
    loaded = from_checkpoint.load_model(args.checkpoint, args.device or _own_device(), args.model_config)
    dataset = predicting.open_dataset(data, loaded.data_norm_type)
    for left in dataset.tree.excluded:
        print(left, file=sys.stderr)
    numbers = {dataset.sample_name(index): index for index in range(len(dataset))}
    names = _chosen(list(numbers), args.frames)
    seen = ", ".join(("images", *inputs))
    what = f"{loaded.model_str} on {len(names)} frames of {args.split}; the model sees: {seen}"
    print(f"{loaded.checkpoint}: {what}", file=sys.stderr)

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

    def truths(split: str, samples: int) -> list[Truth]:
        return predicting.split_truths(data, loaded.data_norm_type, split, samples)

    return Source(names, provenance, items, truths)


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
