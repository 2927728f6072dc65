"""What every command line of this package has in common: spelling of options, exit statuses, progress."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from tqdm import tqdm

DONE, FAILED, REFUSED = 0, 1, 2
"""Exit statuses: done; problems found or the work failed; refused, since arguments or input are bad."""


class Parser(argparse.ArgumentParser):
    """A parser that takes `--data_root` for `--data-root`; help shows the spelling with hyphens."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse after respelling this parser's own options; what stands behind `--` is left alone."""
        words = list(sys.argv[1:] if args is None else args)
        end = words.index("--") if "--" in words else len(words)
        return super().parse_known_args([*map(self._respell, words[:end]), *words[end:]], namespace)

    def _respell(self, word: str) -> str:
        name, equals, value = word.partition("=")
        hyphenated = name.replace("_", "-")
        return f"{hyphenated}{equals}{value}" if hyphenated in self._option_string_actions else word


def progress(
    items: Iterable[Any] | None = None,
    *,
    description: str,
    unit: str,
    total: int | None = None,
    quiet: bool = False,
) -> tqdm[Any]:
    """Return a bar on standard error; where that is no terminal, one line for each tenth of the work.

    Parameters
    ----------
    items : iterable, optional
        To go through; without it, call `update`.
    description, unit : str
        Of the work and of one item.
    total : int, optional
        Number of items, where `items` has no length.
    quiet : bool
        Show nothing.
    """
    if quiet or sys.stderr.isatty():
        return tqdm(items, desc=description, total=total, unit=unit, disable=quiet, dynamic_ncols=True)
    return _Tenths(items, desc=description, total=total, unit=unit, mininterval=0, miniters=1, file=io.StringIO())


class _Tenths(tqdm):
    """A progress bar for log files."""

    tenths = 0

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Print a line when another tenth is done."""
        reached = int(10 * self.n // self.total) if self.total else 0
        if reached > self.tenths:
            self.tenths = reached
            elapsed = self.format_interval(self.format_dict["elapsed"])
            print(f"{self.desc}: {self.n} of {self.total} {self.unit}s, {elapsed}", file=sys.stderr, flush=True)
