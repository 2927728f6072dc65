"""The console script `roborefer-spatial`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from roborefer_spatial import __version__


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(prog="roborefer-spatial", description="Tools of the RoboRefer plugin.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="print versions and where the host is")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    build_parser().parse_args(argv)
    root = os.environ.get("ROBOREFER_ROOT")
    print(f"roborefer-spatial {__version__}, Python {sys.version.split()[0]}")
    print(f"RoboRefer: {root}" if root else "RoboRefer: ROBOREFER_ROOT is not set; point it at your checkout")
    return 0 if root and os.path.isdir(root) else 1  # noqa: PTH112
