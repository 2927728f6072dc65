"""What a deviation from MapAnything's training is, and how attributes of modules are replaced and put back."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mapanything_opv2v.host.training.run_state import RunState

TOOLS = "mapanything.utils.train_tools"
TRAINING = "mapanything.train.training"


class Patches:
    """Replaced attributes of modules, to be put back."""

    def __init__(self) -> None:
        self._replaced: list[tuple[Any, str, Any]] = []
        self._afterwards: list[Callable[[], None]] = []

    def wrap(self, module: str, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Replace `module.name` by `make(what is there)`."""
        owner = importlib.import_module(module)
        old = getattr(owner, name)
        self._replaced.append((owner, name, old))
        setattr(owner, name, make(old))

    def afterwards(self, end: Callable[[], None]) -> None:
        """Call `end` when the patches are undone."""
        self._afterwards.append(end)

    def undo(self) -> None:
        """Put everything back, the last replacement first."""
        while self._afterwards:
            self._afterwards.pop()()
        while self._replaced:
            setattr(*self._replaced.pop())


Make = Callable[[RunState, Patches], None]
"""Makes a deviation, for the time until the patches are undone."""


@dataclass(frozen=True)
class Deviation:
    """One difference between the launcher's training and MapAnything's own; made by calling it."""

    name: str
    """What `--without` takes: the name of the function that makes it."""
    where: str
    """What is replaced, as module:attribute; `environment` or `the run's folder` where nothing of a module is."""
    host: str
    """What MapAnything does."""
    ours: str
    """What is done instead."""
    make: Make

    def __call__(self, state: RunState, patches: Patches) -> None:
        """Make it."""
        self.make(state, patches)


def deviation(*, where: str, host: str, ours: str) -> Callable[[Make], Deviation]:
    """Turn the function below into the `Deviation` of its name."""

    def describe(make: Make) -> Deviation:
        return Deviation(getattr(make, "__name__"), where, host, ours, make)  # noqa: B009 (a callable's type has none)

    return describe
