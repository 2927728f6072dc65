"""The console script `mapanything-opv2v`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mapanything_opv2v import __version__


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(prog="mapanything-opv2v", description="Tools of the MapAnything plugin.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "doctor",
        help="say whether the host is there, at its pin, and knows our datasets",
        description="Say whether MapAnything is there, at its pin, importable, and knows our datasets and configs.",
        epilog="Example: MAPANYTHING_ROOT=~/map-anything PYTHONPATH=~/map-anything mapanything-opv2v doctor",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    args = build_parser().parse_args(argv)
    from mapanything_opv2v import doctor

    return doctor.main(args)
