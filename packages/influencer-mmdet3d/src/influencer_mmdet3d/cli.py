"""The console script `influencer-mmdet3d`: a table of commands, each in a module of its own."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from influencer_mmdet3d.terminal import REFUSED, Parser

PROGRAM = "influencer-mmdet3d"


class Command(NamedTuple):
    """One subcommand; its module is imported when the command is used."""

    module: str
    help: str
    example: str
    aliases: tuple[str, ...] = ()
    add_arguments: str = "add_arguments"


COMMANDS = {
    "doctor": Command("host.doctor", "list what is installed, what is missing, and what to do", "doctor --json"),
    "demo": Command("demo.run", "train a small segmentor on synthetic rooms", "demo --out demo_out"),
    "synthetic": Command(
        "data.synthetic", "write synthetic rooms in the host's format", "synthetic data/s3dis --format s3dis --rooms 2"
    ),
    "check": Command(
        "host.check",
        "read every scene of a prepared dataset before training",
        "check data/s3dis --format s3dis",
        ("check-data",),
    ),
    "prepare": Command(
        "data.prepare",
        "turn labelled scans (.ply, .npz) into a data folder with your own classes",
        "prepare scans/*.ply --classes names.txt --val scan_9 --out data/mine",
    ),
    "new-config": Command(
        "host.new_config",
        "write a config that trains on a data folder of `prepare`",
        "new-config data/mine --criterion influencer --out my_config.py",
    ),
    "verify": Command("host.verify", "check that a config trains with InfluencerCriterion", "verify my_config.py"),
    "train": Command(
        "host.launch",
        "train in the host, in one process, with torchrun (GPUS=N) or in a SLURM job",
        "train s3dis influencer --resume",
        (),
        "add_train_arguments",
    ),
    "evaluate": Command(
        "host.launch",
        "evaluate a checkpoint in the host",
        "evaluate s3dis influencer work_dirs/s3dis_area5_influencer/epoch_512.pth",
        ("eval",),
        "add_evaluate_arguments",
    ),
    "predict": Command(
        "host.predict",
        "segment point clouds that have no labels, of any common format",
        "predict my_config.py epoch_512.pth scans/*.ply --out predictions",
    ),
    "superpoints": Command(
        "predict.superpoint_files",
        "cut point clouds into superpoints, for ScanNet-like models",
        "superpoints scans/*.ply --out superpoints",
    ),
    "fix-checkpoint": Command(
        "host.checkpoint",
        "write a copy whose sparse-conv kernels have the layout that mmdet3d expects",
        "fix-checkpoint epoch_512.pth epoch_512_repaired.pth",
    ),
}


class _LazyParser(Parser):
    """A parser that gets its arguments when it is used, so that no command pays for another's imports."""

    command: Command | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.command is not None:
            module = importlib.import_module(f"influencer_mmdet3d.{self.command.module}")
            getattr(module, self.command.add_arguments)(self)  # names the command's function, too
            self.command = None
        return super().parse_known_args(args, namespace)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = Parser(prog=PROGRAM, description="Matching-free instance segmentation for OneFormer3D.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_LazyParser)
    for name, command in COMMANDS.items():
        commands.add_parser(
            name,
            aliases=command.aliases,
            help=command.help,
            description=f"{command.help[0].upper()}{command.help[1:]}.",
            epilog=f"example: {PROGRAM} {command.example}",
        ).command = command
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; 2 for input that it cannot work with."""
    args = build_parser().parse_args(argv)
    try:
        return int(args.run(args))
    except (ValueError, OSError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return REFUSED


if __name__ == "__main__":
    sys.exit(main())
