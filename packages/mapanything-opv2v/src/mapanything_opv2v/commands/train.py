"""`train`: MapAnything's own training on one GPU; `python -m mapanything_opv2v.train` is the same for torchrun."""

from __future__ import annotations

import argparse

from mapanything_opv2v import train
from mapanything_opv2v.commands import options


def add(commands: options.Commands) -> None:
    """Add the command."""
    parser = options.add_command(
        commands,
        "train",
        "train MapAnything by its own script, in a way that survives kills and other numbers of GPUs. "
        "Several GPUs: torchrun --nproc_per_node N -m mapanything_opv2v.train, with the same words",
        "mapanything-opv2v train +experiment=opv2v_stage1 hydra.run.dir=runs/stage1",
        run,
    )
    train.add_options(parser)
    parser.add_argument("overrides", nargs="*", help="Hydra overrides; Hydra's own options stand behind --")


def run(args: argparse.Namespace) -> int:
    """Train."""
    return train.launch(args, args.overrides)
