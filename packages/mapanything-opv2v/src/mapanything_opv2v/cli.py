"""The console script `mapanything-opv2v`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from mapanything_opv2v import __version__


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(prog="mapanything-opv2v", description="Tools of the MapAnything plugin.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="print versions and where the host is")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    build_parser().parse_args(argv)
    root = os.environ.get("MAPANYTHING_ROOT")
    print(f"mapanything-opv2v {__version__}, Python {sys.version.split()[0]}")
    print(f"MapAnything: {root}" if root else "MapAnything: MAPANYTHING_ROOT is not set; point it at your checkout")
    return 0 if root and os.path.isdir(root) else 1  # noqa: PTH112
