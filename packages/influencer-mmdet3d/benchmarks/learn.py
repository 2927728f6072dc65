"""Compare what criteria learn: one network, the same rooms, batches, loss weights and budget; AP on held-out rooms.

Every cell (criterion, difficulty, seed) is trained by itself and leaves a file of its own: the same command resumes,
and cells run side by side on one device. Seeds come first in the order, so that what is there after a stop is paired.

    python benchmarks/learn.py --list
    python benchmarks/learn.py --small --out bench_out/trial
    python benchmarks/learn.py --out bench_out/learning --device cuda --jobs 12 --minutes 9
    python benchmarks/learn.py --out bench_out/learning --device cuda --time
    python benchmarks/learn.py --out bench_out/learning --summarise
    python benchmarks/learn.py --out bench_out/learning --summarise --against influence-inside
    python benchmarks/learn.py --out bench_out/t --device cuda --jobs 8 --criteria hungarian influence:temperature=0.05

It is no `bench_*.py`, which `nox -s bench-*` runs without arguments: the comparison takes hours of a CPU, and a part
of it says nothing, for seeds differ as much as criteria do.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from influencer_mmdet3d.files import write_whole
from learning import plots, summary
from learning.cell import Cell, is_done, step_time
from learning.jobs import make_rooms, run_cells
from learning.recipes import COMPETITORS, CRITERIA, find
from learning.settings import AMP, COMPARED, DIFFICULTIES, SMALL, Settings
from learning.summary import REFERENCE

TUNABLE = (
    "steps", "batch", "points", "rooms", "held_out", "queries_per_instance", "evaluations", "width", "lr",
    "mask_weight", "room_points", "min_points",
)  # fmt: skip
"""Fields of `Settings` with an option of their own."""


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of cells, rooms and results")
    parser.add_argument(
        "--criteria", nargs="+", metavar="NAME[:OPTION=VALUE,...]", help=f"default {' '.join(COMPETITORS)}"
    )
    parser.add_argument("--difficulty", nargs="+", choices=DIFFICULTIES, help=f"default {' '.join(COMPARED)}")
    parser.add_argument("--seeds", type=int, nargs="+", help="default 0 1 2 3 4")
    parser.add_argument(
        "--jobs", type=int, default=1, help="processes, over all devices; 15 for each H200, with NVIDIA's MPS running"
    )
    parser.add_argument("--device", default="cpu", help="cpu, or cuda: all GPUs in turn")
    parser.add_argument("--amp", choices=AMP, help="autocast; default bf16 on cuda, none on the cpu")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no cell that would end later")
    parser.add_argument("--small", action="store_true", help="a setting for two CPU cores, to prove the pipeline")
    for name in TUNABLE:
        kind = type(getattr(Settings(), name))
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=f"default {getattr(Settings(), name)}")
    parser.add_argument("--list", action="store_true", help="print the criteria and stop")
    parser.add_argument("--time", action="store_true", help="measure a step of each criterion, alone on the device")
    parser.add_argument(
        "--summarise",
        action="store_true",
        help="print the table of --out and write its curves; all that "
        "is there, or what --criteria, --difficulty and --seeds name",
    )
    parser.add_argument("--against", default=REFERENCE, help=f"what --summarise compares with, default {REFERENCE}")
    args = parser.parse_args(argv)
    if not args.summarise:
        args.criteria = args.criteria or list(COMPETITORS)
        args.difficulty = args.difficulty or list(COMPARED)
        args.seeds = [0, 1, 2, 3, 4] if args.seeds is None else args.seeds
    if args.out is None and not args.list:
        parser.error("--out is needed")
    if args.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {args.jobs}")
    return args


def settings_of(args: argparse.Namespace) -> Settings:
    """Return the settings of a command line."""
    changes: dict[str, Any] = {name: getattr(args, name) for name in TUNABLE if getattr(args, name) is not None}
    changes["amp"] = args.amp or ("bf16" if args.device.startswith("cuda") else "none")
    return dataclasses.replace(SMALL if args.small else Settings(), **changes)


def devices_of(name: str) -> list[str]:
    """Return the devices that processes take in turn."""
    if name == "cuda":
        if not torch.cuda.is_available():
            raise ValueError("--device cuda: torch sees no GPU here")
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return [name]


def train(args: argparse.Namespace) -> int:
    """Train the cells that are missing; return 1 if one failed."""
    settings, devices = settings_of(args), devices_of(args.device)
    for name in args.criteria:
        find(name)
    cells = [Cell(name, kind, seed) for seed in args.seeds for kind in args.difficulty for name in args.criteria]
    missing = [cell for cell in cells if not is_done(cell, settings, args.out)]
    print(
        f"{len(cells)} cells, {len(cells) - len(missing)} there already; {args.jobs} processes on {devices}", flush=True
    )
    make_rooms(args.difficulty, settings, args.out / "rooms", args.jobs)
    failed, left = run_cells(
        missing, settings, args.out, devices, args.jobs, 60 * args.minutes, lambda line: print(line, flush=True)
    )
    if failed or left:
        print(f"{failed} cells failed, {left} not begun: the same command goes on", flush=True)
    return 1 if failed else 0


def time_steps(args: argparse.Namespace) -> int:
    """Measure and write step-times.json."""
    settings, device = settings_of(args), torch.device(devices_of(args.device)[0])
    path = args.out / "step-times.json"
    times: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.exists() else {}
    torch.set_num_threads(1)
    for kind in args.difficulty:
        for name in args.criteria:
            milliseconds = step_time(Cell(name, kind, 0), settings, args.out, device)
            times.setdefault(kind, {})[name] = milliseconds
            print(f"{kind} {name}: {milliseconds:.1f} ms a step", flush=True)
            write_whole(path, json.dumps(times, indent=1))
    return 0


def summarise(args: argparse.Namespace) -> int:
    """Print the table; write table.md and curves.png."""
    wanted = summary.Wanted(args.criteria, args.difficulty, args.seeds)
    results, made_with = summary.load(args.out, wanted)
    if args.against != REFERENCE and not any(args.against in criteria for criteria in results.values()):
        raise ValueError(f"--against {args.against}: no such cells among those summarised; give it to --criteria too")
    table = summary.markdown(summary.rows(results, args.against), args.against) + f"\n\n{made_with}"
    path = args.out / "step-times.json"
    times = json.loads(path.read_text()) if path.exists() else {}
    write_whole(args.out / "table.md", table + "\n")
    write_whole(args.out / "curves.png", plots.curves(results, times))
    print(table)
    print(f"{args.out / 'table.md'}, {args.out / 'curves.png'}")
    return 0


def main() -> int:
    """Run one of the four jobs."""
    args = parse()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes: one core each
    if args.list:
        for name, recipe in CRITERIA.items():
            print(f"{name:<30}" + " ".join(f"{key}={value}" for key, value in recipe.changed().items()))
        return 0
    try:
        if args.summarise:
            return summarise(args)
        return time_steps(args) if args.time else train(args)
    except ValueError as error:
        print(f"learn.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
