"""The learning rate of any moment of a run, by MapAnything's own rule, without training."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from mapanything_opv2v.host.training.patching import TOOLS

DEFAULT = "default"
"""The host's name for parameters outside `submodule_configs`."""


def rates_at(train_params: Any, moment: float) -> dict[str, float]:
    """Return the learning rate of each parameter group.

    Parameters
    ----------
    train_params
        Of the config.
    moment
        Epochs since the start, fractions included.

    Returns
    -------
    dict of str to float
        Rate by group: `default`, then the names of `submodule_configs`; groups with rate 0 are frozen and left out.
    """
    submodules = train_params.get("submodule_configs") or {}
    names = [DEFAULT, *(name for name, options in submodules.items() if options.get("lr", train_params.lr) != 0)]
    optimizer = SimpleNamespace(param_groups=[{"lr": None} for _ in names])
    adjust = importlib.import_module(TOOLS).adjust_learning_rate
    adjust(optimizer, moment, train_params, dict(enumerate(names)), submodules)
    return {name: group["lr"] for name, group in zip(names, optimizer.param_groups)}


def epoch_line(train_params: Any, epoch: int, steps: int) -> str:
    """Return what the learning rates of an epoch are, from its first to its last step."""
    first, last = rates_at(train_params, epoch), rates_at(train_params, epoch + (steps - 1) / steps)
    shown = ", ".join(f"{name} {rate:.3e} to {last[name]:.3e}" for name, rate in first.items())
    return f"epoch {epoch}: learning rate {shown}, over {steps} steps"


def table(train_params: Any) -> Iterator[str]:
    """Yield the lines of a run's schedule: rates at the start, middle and end of every epoch."""
    names = list(rates_at(train_params, 0.0))
    yield "  ".join([f"{'epoch':>7}", *(f"{name:>12}" for name in names)])
    for half in range(2 * int(train_params.epochs) + 1):
        rates = rates_at(train_params, half / 2)
        yield "  ".join([f"{half / 2:7.1f}", *(f"{rates[name]:12.4e}" for name in names)])
