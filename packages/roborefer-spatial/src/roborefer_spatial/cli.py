"""The console script `roborefer-spatial`: a table of commands."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from roborefer_spatial import __version__
from roborefer_spatial.terminal import REFUSED, Parser


class Command(NamedTuple):
    """A subcommand: its name, its module (relative to the package), what it does, and its older names.

    The module has `add_arguments(parser)`, which also sets an epilog with an example, and `run(args) -> int`.
    It imports neither torch nor a host until its `run` is called.
    """

    name: str
    module: str
    help: str
    aliases: tuple[str, ...] = ()


COMMANDS = (
    Command("synthetic", ".synthetic.tree", "render indoor scenes in the x3 layout"),
    Command("import", ".importing.scans", "make an x3 tree from RGB-D recordings (ScanNet, 7-Scenes)"),
    Command("build", ".tasks.build", "build the task sets of an x3 tree"),
    Command("predict", ".predicting.predict", "answer samples with a model"),
    Command("evaluate", ".scoring.evaluate", "score answers", ("score",)),
    Command("compare", ".scoring.compare", "compare two models on the same samples"),
    Command("benchmark", ".scoring.benchmark", "score answers to CrossPoint-Bench, RefSpatial-Bench, Where2Place"),
    Command("report", ".look.report", "write an offline page of scored answers to look at"),
    Command("export", ".export.formats", "write samples in the formats of other evaluation tools"),
    Command("demo", ".demo.run", "run everything on synthetic rooms, on a CPU"),
    Command("import-notes", ".importing.notes", "take over task files of the research builder, where they are sound"),
    Command("check", ".training.check", "put one batch through RoboRefer's collator, without a model", ("check-data",)),
    Command("train", ".training.train", "train RoboRefer on x3 files"),
    Command("register", ".training.register", "write a dataset YAML for RoboRefer's own registry"),
    Command("doctor", ".doctor", "say what is wrong with the RoboRefer checkout and what is done about it"),
)


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(prog="roborefer-spatial", description="x3 spatial tasks for RoboRefer.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        module = importlib.import_module(command.module, __package__)
        description = f"{command.help[0].upper()}{command.help[1:]}."
        sub = commands.add_parser(command.name, aliases=command.aliases, help=command.help, description=description)
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status: 0 done, 1 problems found or failed, 2 refused."""
    parser = build_parser()
    args, args.host_arguments = parser.parse_known_args(argv)
    if args.host_arguments and args.command != "train":
        parser.error(f"unrecognized arguments: {' '.join(args.host_arguments)}")
    try:
        return int(args.run(args))
    except (ValueError, OSError) as error:
        print(f"roborefer-spatial {args.command}: error: {error}", file=sys.stderr)
        return REFUSED
