#!/usr/bin/env python3
"""Check that InfluencerCriterion is registered and that a config trains with it: PASS, or the specific reason.

Example: tools/influencer/register_criterion.py --verify my_config.py
"""

from __future__ import annotations

import argparse
import sys


def build_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--verify",
        nargs="?",
        const="",
        metavar="CONFIG",
        required=True,
        help="config to check; without a value, the shipped s3dis_area5_influencer.py",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `influencer-mmdet3d verify` if the package can be imported, and say why if not."""
    args = build_parser().parse_args(argv)
    try:
        from influencer_mmdet3d import cli
    except ImportError as error:
        print(
            f"FAIL [package-missing] {sys.executable} cannot import influencer_mmdet3d: {error}. "
            "pip install influencer-mmdet3d into this Python, or run the one that has it"
        )
        return 1
    except KeyError as error:  # raised by influencer_mmdet3d.register
        print(f"FAIL [name-taken] {error.args[0]}")
        return 1
    return cli.main(["verify", *([args.verify] if args.verify else [])])


if __name__ == "__main__":
    sys.exit(main())
