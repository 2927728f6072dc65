"""The console script `influencer-mmdet3d`: a table of commands, each in a module of its own."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from influencer_mmdet3d.host.pin import PACKAGE


class Command(NamedTuple):
    """One subcommand; its module is imported when the command is used."""

    module: str
    help: str
    example: str
    add_arguments: str = "add_arguments"
    run: str = "run"


COMMANDS = {
    "verify": Command("host.verify", "check that a config trains with InfluencerCriterion", "verify my_config.py"),
    "doctor": Command("host.doctor", "list versions, CUDA, spconv, the host's commit, and what to do", "doctor --json"),
    "check-data": Command(
        "data.check",
        "read every scene of a prepared dataset before training",
        "check-data data/s3dis --format s3dis",
    ),
    "synthetic": Command(
        "data.synthetic", "write synthetic rooms in the host's format", "synthetic data/s3dis --format s3dis --rooms 2"
    ),
    "train": Command(
        "host.launch",
        "train in the host, in one process, with torchrun (GPUS=N) or in a SLURM job",
        "train s3dis influencer --resume",
        "add_train_arguments",
        "run_train",
    ),
    "eval": Command(
        "host.launch",
        "evaluate a checkpoint in the host",
        "eval s3dis influencer work_dirs/s3dis_area5_influencer/epoch_512.pth",
        "add_eval_arguments",
        "run_eval",
    ),
    "fix-checkpoint": Command(
        "host.checkpoint",
        "write a copy whose sparse-conv kernels have the layout that mmdet3d expects",
        "fix-checkpoint epoch_512.pth epoch_512_repaired.pth",
    ),
    "demo": Command("demo.run", "train a small segmentor on synthetic rooms", "demo --out demo_out"),
}


class _LazyParser(argparse.ArgumentParser):
    """A parser that gets its arguments when it is used, so that no command pays for another's imports."""

    command: Command | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.command is not None:
            module = importlib.import_module(f"influencer_mmdet3d.{self.command.module}")
            getattr(module, self.command.add_arguments)(self)
            self.set_defaults(run=getattr(module, self.command.run))
            self.command = None
        return super().parse_known_args(args, namespace)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog=PACKAGE, description="Matching-free instance segmentation for OneFormer3D.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_LazyParser)
    for name, command in COMMANDS.items():
        commands.add_parser(
            name,
            help=command.help,
            description=f"{command.help[0].upper()}{command.help[1:]}.",
            epilog=f"example: {PACKAGE} {command.example}",
        ).command = command
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; 2 for input that it cannot work with."""
    args = build_parser().parse_args(argv)
    try:
        return int(args.run(args))
    except ValueError as error:
        print(f"{PACKAGE}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
