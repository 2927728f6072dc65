"""What the launcher itself is told, and what it reads from the host's own arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from roborefer_spatial.curriculum import Curriculum


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """Options of one launch."""

    host_arguments: tuple[str, ...] = ()
    """The host's command line, passed on word for word."""

    without: frozenset[str] = frozenset()
    """Repairs that the user switched off."""

    depth_path: Path | None = None
    """Folder of depth maps for `--data_path` files; None: RGB only."""

    curriculum: Curriculum | None = None
    """Stages that take the place of `--data_path`, or None."""

    def value(self, flag: str, default: str | None = None) -> str | None:
        """Return what the host's command line gives for `--flag` (last one counts), or `default`."""
        return flag_value(self.host_arguments, flag, default)


def flag_value(arguments: Sequence[str], flag: str, default: str | None = None) -> str | None:
    """Return the value of `flag` (`flag value` or `flag=value`) in an argument list; the last counts."""
    found = default
    for index, word in enumerate(arguments):
        if word == flag and index + 1 < len(arguments):
            found = arguments[index + 1]
        elif word.startswith(flag + "="):
            found = word[len(flag) + 1 :]
    return found
