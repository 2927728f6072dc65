"""Kill long jobs and feed readers broken files, both at random; print what was tried and what was lost.

The state is kept, so the same command goes on where it was ended; another seed, or --restart, begins anew.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import re
import shutil
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import fuzz
import kills
import targets

PACKAGE = Path(__file__).parents[1]
BATCH = 1000


def main() -> int:
    """Run until the targets or the minutes are reached; return 1 if anything was lost."""
    args = _arguments()
    folder = args.folder / PACKAGE.name
    if args.restart:
        shutil.rmtree(folder, ignore_errors=True)
    state = State(folder, args.seed)
    print(f"seed {args.seed}; state and lost inputs in {folder}", flush=True)
    scratch = folder / "scratch"
    end = time.monotonic() + 60 * args.minutes
    readers = [reader for reader in targets.readers(scratch) if not args.only or reader.name in args.only]
    jobs = [job for job in targets.jobs(scratch) if not args.only or job.name in args.only]
    victims: dict[str, kills.Victim] = {}
    busy = True
    while busy and time.monotonic() < end:
        busy = False
        for job in jobs:
            if state.total("kills", jobs) < args.kills and time.monotonic() < end:
                busy = True
                victim = victims.get(job.name) or victims.setdefault(job.name, kills.Victim(job, scratch))
                done = state.row("kills", job.name)["done"]
                rng = random.Random(f"{args.seed}/{job.name}/{done}")
                state.add("kills", job.name, victim.round(rng, partial(state.note, job.name, done)))
        for reader in readers:
            if state.total("inputs", readers) < args.inputs and time.monotonic() < end:
                busy = True
                start = state.row("inputs", reader.name)["done"]
                state.add("inputs", reader.name, _batch(reader, args.seed, start, state))
    print(state.table())
    return int(state.lost() > 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="end after so many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="decides every kill and every input (default: 0)")
    parser.add_argument("--kills", type=int, default=400, help="end after so many (default: %(default)s)")
    parser.add_argument("--inputs", type=int, default=400_000, help="end after so many (default: %(default)s)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these jobs and readers only")
    parser.add_argument("--restart", action="store_true", help="throw away what earlier runs have counted")
    parser.add_argument("--folder", type=Path, default=Path(".nox/stress"), help="for the state (default: %(default)s)")
    return parser.parse_args()


def _batch(reader: fuzz.Reader, seed: int, start: int, state: State) -> fuzz.Counts:
    def lost(number: int, how: str) -> None:
        if state.note(reader.name, number, how):
            path = state.folder / "lost" / f"{reader.name}-{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(fuzz.content(reader, seed, number))

    return fuzz.run(reader, seed, start, start + BATCH, PACKAGE / "src", lost)


class State:
    """What has been tried, kept in a file."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.file = folder, folder / "state.json"
        folder.mkdir(parents=True, exist_ok=True)
        self.data: dict[str, Any] = {"seed": seed, "kills": {}, "inputs": {}, "notes": {}}
        if self.file.is_file():
            before = json.loads(self.file.read_text())
            self.data = before if before["seed"] == seed else self.data

    def row(self, kind: str, name: str) -> dict[str, int]:
        """Return the counts of a job or reader."""
        row: dict[str, int] = self.data[kind].setdefault(name, {"done": 0, "results": 0, "errors": 0, "lost": 0})
        return row

    def add(self, kind: str, name: str, counts: Any) -> None:
        """Add counts and keep them."""
        row = self.row(kind, name)
        for key, number in dataclasses.asdict(counts).items():
            row[key] += number
        beside = self.file.with_suffix(".new")
        beside.write_text(json.dumps(self.data, indent=1))
        beside.replace(self.file)

    def note(self, name: str, number: int, how: str) -> bool:
        """Remember what was lost; say whether it is one of the first three of its kind."""
        kind = f"{name}: {re.sub(r'[0-9a-f]{5,}', '*', how.partition(': ')[0])}"
        examples: dict[str, Any] = self.data["notes"].setdefault(kind, {"times": 0, "first": number, "how": how})
        examples["times"] += 1
        if examples["times"] == 1:
            print(f"lost: {name}, number {number}: {how}", flush=True)
        return bool(examples["times"] <= 3)

    def total(self, kind: str, wanted: Any) -> int:
        """Return how many were done of a kind."""
        return sum(self.row(kind, one.name)["done"] for one in wanted)

    def lost(self) -> int:
        """Return how many were lost."""
        return sum(row["lost"] for kind in ("kills", "inputs") for row in self.data[kind].values())

    def table(self) -> str:
        """Return the counts, as Markdown."""
        lines = ["| job | kills | series that ended equal | lost |", "|---|---:|---:|---:|"]
        lines += [f"| {n} | {r['done']:,} | {r['results']:,} | {r['lost']:,} |" for n, r in self.data["kills"].items()]
        lines += ["", "| reader | inputs | results | named errors | lost |", "|---|---:|---:|---:|---:|"]
        for name, row in self.data["inputs"].items():
            lines.append(f"| {name} | {row['done']:,} | {row['results']:,} | {row['errors']:,} | {row['lost']:,} |")
        totals = Counter({kind: sum(row["done"] for row in self.data[kind].values()) for kind in ("kills", "inputs")})
        lines += ["", f"{totals['kills']:,} kills, {totals['inputs']:,} inputs, {self.lost():,} lost"]
        lines += [
            f"- {kind}: {note['times']} times, first {note['first']}: {note['how']}"
            for kind, note in self.data["notes"].items()
        ]
        return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
