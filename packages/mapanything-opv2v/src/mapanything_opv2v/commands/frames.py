"""Where `evaluate` and `predict` get their frames from: a model that predicts them, or predictions on disk."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mapanything_opv2v.commands import options, sources
from mapanything_opv2v.files import remove_stale
from mapanything_opv2v.kinds import DATASETS, INPUTS, PANORAMA_SIZE, PINHOLE_SIZE


def add_command(
    commands: options.Commands, name: str, text: str, example: str, run: options.Run, *, aliases: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """Add a subcommand that works on frames, on one GPU or several."""
    text = f"{text}. On 4 GPUs: torchrun --no-python --nproc-per-node 4 before it"
    parser = options.add_command(commands, name, text, example, run, aliases=aliases)
    _add_source(parser)
    parser.set_defaults(need_depth=True, images=None, rig=None, or_images="")
    return parser


def _add_source(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path, metavar="FILE", help="checkpoint of a training run")
    source.add_argument(
        "--model",
        nargs="+",
        metavar=("NAME", "OVERRIDE"),
        help="a model of the host's configs/model with the weights that the host gets for it, such as vggt or pi3; "
        "and Hydra overrides",
    )
    source.add_argument("--predictions", type=Path, metavar="DIR", help="predictions that `predict` has written")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write into")
    parser.add_argument("--frames", nargs="+", metavar="NAME", help="only these: SPLIT/SEQUENCE/FRAME[_agentID]")
    parser.add_argument("--workers", type=int, default=1, help="processes for figures or exports")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="figures or exports on this Dask cluster instead")
    options.add_quiet(parser)

    data = parser.add_argument_group("data, with --checkpoint or --model")
    data.add_argument("--root", type=Path, help="folder that holds train, validate, test, test_culvercity; or rig.yaml")
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

    model = parser.add_argument_group("model, with --checkpoint or --model")
    model.add_argument(
        "--unit-is-metre",
        action="store_true",
        help="the model's unit is the metre although it predicts no scale (MASt3R, MoGe-2); else figures that need "
        "metres are left out where there is no metric_scaling_factor",
    )
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


def add_perturbation(parser: argparse.ArgumentParser) -> None:
    """Add what goes wrong with samples."""
    group = parser.add_argument_group("what goes wrong in the field, with --root; recorded in the output")
    group.add_argument("--drop-agents", type=int, default=0, metavar="N", help="so many other vehicles send nothing")
    group.add_argument(
        "--pose-noise",
        type=float,
        default=0.0,
        metavar="SIGMA",
        help="with --inputs pose: error of other vehicles' poses, metres and as many degrees (standard deviation)",
    )
    group.add_argument(
        "--time-offset",
        type=int,
        default=0,
        metavar="FRAMES",
        help="other vehicles' views are so many recorded frames older (OPV2V: 0.1 s each)",
    )


def open_source(args: argparse.Namespace) -> sources.Source:
    """Return the frames that the options name, predicted or on disk; sweep up after killed runs in OUT."""
    if removed := remove_stale(args.out):
        print(f"{args.out}: removed {len(removed)} files that killed runs left half written", file=sys.stderr)
    if args.root is None and (args.drop_agents or args.pose_noise or args.time_offset):
        raise ValueError("--drop-agents, --pose-noise and --time-offset need a tree, --root: they change samples of it")
    if args.predictions is None:
        return sources.model_source(args)
    return sources.predictions_source(args)
