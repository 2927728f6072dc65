"""`demo`: everything on a synthetic town, shown on one page."""

from __future__ import annotations

import argparse
from pathlib import Path

from mapanything_opv2v.commands import options


def add(commands: options.Commands) -> None:
    """Add the command."""
    parser = options.add_command(
        commands,
        "demo",
        "make a town, check it, build panoramas and show them against the truth",
        "mapanything-opv2v demo --out demo_out",
        run,
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for index.html, overview.png, result.json",
    )
    options.add_quiet(parser)
    parser.add_argument("--seed", type=int, default=1, help="seed of the town")
    parser.add_argument("--real-frame", type=Path, metavar="YAML", help="also show this frame of the real data set")


def run(args: argparse.Namespace) -> int:
    """Make the demo."""
    from mapanything_opv2v.demo.make import make_demo

    return make_demo(args.out, args.seed, args.real_frame, quiet=args.quiet)
