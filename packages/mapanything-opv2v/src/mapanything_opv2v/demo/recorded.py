"""A recorded result of `benchmarks/learn_towns.py`, for where no MapAnything can be trained. Not run by the demo."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files

TITLE = "What larger models learned on towns (recorded, not run here)"


@dataclass(frozen=True)
class Recorded:
    """The result.

    Attributes
    ----------
    about : str
        What was trained, on what machine, by which command.
    rows : tuple of (str, str, str)
        Figure, trained model, a constant that sees no image.
    """

    about: str
    rows: tuple[tuple[str, str, str], ...]

    def text(self) -> str:
        """Return it as the page shows it."""
        told = "\n".join(
            f"{label}: {trained} (a constant that sees no image: {other})" for label, trained, other in self.rows
        )
        return f"{self.about}\n{told}"


def load() -> Recorded:
    """Read the result that comes with the package."""
    content = json.loads(files(__package__).joinpath("recorded.json").read_text("utf-8"))
    return Recorded(content["about"], tuple((label, trained, other) for label, trained, other in content["rows"]))
