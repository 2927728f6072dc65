"""Train MapAnything by its own scripts/train.py, so that the training can be trusted.

    torchrun --nproc_per_node 4 -m mapanything_opv2v.train +experiment=opv2v_stage1

Everything that is not an option below goes to Hydra word for word.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mapanything_opv2v.terminal import DONE, REFUSED, Parser

_EPILOG = """\
examples:
  python -m mapanything_opv2v.train +experiment=opv2v_stage1 hydra.run.dir=runs/stage1
  python -m mapanything_opv2v.train --print-lr +experiment=opv2v_stage2
  python -m mapanything_opv2v.train +experiment=opv2v_start   # a model from random weights: matching first
  python -m mapanything_opv2v.train --without lr_log,provenance +experiment=opv2v_stage1
  python -m mapanything_opv2v.train --hydra-help

`mapanything-opv2v doctor --verbose` explains the deviations from MapAnything's own training.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the launcher's own options."""
    parser.add_argument("--print-lr", action="store_true", help="print the learning rate of every half epoch and stop")
    parser.add_argument(
        "--without", default="", metavar="NAME[,NAME]", help="deviations from MapAnything's own training to leave out"
    )
    parser.add_argument(
        "--accept-changes",
        action="store_true",
        help="go on from a checkpoint although the training set or the steps of an epoch are others",
    )


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the launcher's own options."""
    parser = Parser(
        prog="python -m mapanything_opv2v.train",
        usage="%(prog)s [--print-lr] [--without NAME[,NAME]] [--accept-changes] [Hydra options and overrides]",
        description=__doc__,
        epilog=_EPILOG,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the launcher; return its exit status."""
    args, overrides = build_parser().parse_known_args(argv)
    return launch(args, overrides)


def launch(args: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Train, or print the learning rates, with the launcher's options; return the exit status."""
    from mapanything_opv2v.host.training import deviations, launcher
    from mapanything_opv2v.host.training.processes import timeout_from_environment

    try:
        without = deviations.check_names(name for name in args.without.split(",") if name)
        timeout_from_environment()
        if args.print_lr:
            launcher.print_schedule(overrides)
            return DONE
        task = launcher.HostTraining(launcher.LaunchOptions(without, args.accept_changes))
    except (ImportError, ValueError) as error:
        print(f"mapanything_opv2v.train: {error}", file=sys.stderr)
        return REFUSED
    sys.argv = [sys.argv[0], *overrides]
    launcher.run(task)
    return DONE


if __name__ == "__main__":
    sys.exit(main())
