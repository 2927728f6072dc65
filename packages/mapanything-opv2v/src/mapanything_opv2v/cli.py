"""The console script `mapanything-opv2v`: its subcommands stand in `commands`, which import what they need late."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mapanything_opv2v import __version__
from mapanything_opv2v.commands import (
    data,
    demo,
    doctor,
    evaluate,
    imports,
    panoramas,
    predict,
    robustness,
    table,
    train,
    views,
)
from mapanything_opv2v.terminal import REFUSED, Parser

GROUPS = (doctor, demo, data, imports, panoramas, train, predict, evaluate, table, robustness, views)
"""Modules of commands, in the order in which help lists them."""


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = Parser(
        prog="mapanything-opv2v",
        description="OPV2V and V2XSet for MapAnything: check a download, make depth maps and panoramas, look.",
        epilog="example: mapanything-opv2v demo --out demo_out",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for group in GROUPS:
        group.add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status: done, problems found or failed, refused (see `terminal`)."""
    args = build_parser().parse_args(argv)
    try:
        if getattr(args, "png_units_per_m", None) is not None:
            from mapanything_opv2v.rawdata import assume_png_units

            assume_png_units(args.png_units_per_m)
        return args.run(args)
    except (ValueError, OSError, ImportError) as error:
        print(f"mapanything-opv2v {args.command}: {error}", file=sys.stderr)
        return REFUSED
