"""Time and memory of a criterion's forward and backward pass, side by side, against the floor that memory sets.

    nox -s bench-influencer-mmdet3d
    nox -s bench-influencer-mmdet3d -- --device cuda --json speed.json
    nox -s bench-influencer-mmdet3d -- --device cuda --profile

The floor is the time to read the mask logits twice and to write their gradient once, at the speed of a copy timed in
the same run. GB/s are those bytes over a criterion's time. Competitors run in processes of their own: on the CPU peak
memory is told apart that way, and on a GPU the threads that one leaves behind slow the next one's calls. On the CPU
the least time of the repeats counts, on a GPU the median. What is there after a stop is in the file of --json.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from competitors import NAMES, NEEDS_GPU
from measure import DTYPES, PASSES, Size, floor_ms, kernel_times, measure

SIZES = {
    "cpu": {
        "S3DIS": Size(4, 2, 400, 40_000, 30, 13),
        "ScanNet": Size(7, 4, 400, 2_000, 30, 18),
        "ScanNet all": Size(7, 2, 800, 1_000, 30, 18),
    },
    "cuda": {
        "S3DIS": Size(4, 2, 400, 80_000, 30, 13),
        "ScanNet": Size(7, 4, 400, 3_000, 30, 18),
        "ScanNet all": Size(7, 4, 2_000, 3_000, 30, 18),  # in training up to every superpoint is a query
    },
}
DEFAULT_DTYPES = {"cpu": ["fp32"], "cuda": list(DTYPES)}
Cell = tuple[str, str]  # size and type
HEADER = (
    f"{'criterion':<18}{'ms':>9}{'x floor':>9}{'GB/s':>8}{'x first':>9}{'issue ms':>10}{'peak MB':>9}"
    f"{'extra MB':>10}{'% logits':>10}"
)


def hardware(device: str) -> str:
    """Name the device that was measured."""
    if device == "cuda":
        return str(torch.cuda.get_device_name())
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return cpu[0].split(":")[1].strip() if cpu else platform.processor()


def missing(name: str, device: str, dtype: str) -> str | None:
    """Say what a competitor lacks here."""
    if name in NEEDS_GPU and device == "cpu":
        return "needs a GPU"
    if name in NEEDS_GPU and importlib.util.find_spec("triton") is None:
        return "needs triton"
    if name == "literal loops" and dtype != "fp32":
        return "seconds a step: timed in fp32 alone"
    if name.startswith("host") and not os.environ.get("ONEFORMER3D_ROOT"):
        return "set ONEFORMER3D_ROOT to the host's checkout"
    if name.startswith("host") and importlib.util.find_spec("mmdet3d") is None:
        return "needs mmdet3d"
    return None


def shape_of(args: argparse.Namespace, size: str) -> Size:
    """Return a size with the groups of the command line."""
    return dataclasses.replace(SIZES[args.device][size], groups=args.groups)


def worker(name: str, args: argparse.Namespace, cells: Sequence[Cell]) -> Iterator[dict[str, Any]]:
    """Measure a competitor in a process of its own; yields a row for each size and type, which may have `failed`."""
    command = [sys.executable, __file__, "--device", args.device, "--worker", name]
    command += ["--repeats", str(args.repeats), "--threads", str(args.threads), "--groups", str(args.groups)]
    for size, dtype in cells:
        command += ["--cell", size, dtype]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        done = 0
        for line in process.stdout:
            if line.startswith("{"):
                yield {"size": cells[done][0], "dtype": cells[done][1], "criterion": name, **json.loads(line)}
                done += 1
    for size, dtype in cells[done:]:
        yield {"size": size, "dtype": dtype, "criterion": name, "failed": f"exit status {process.returncode}"}


def work(args: argparse.Namespace) -> None:
    """Be such a process: print a line of JSON for each cell."""
    for size, dtype in args.cell:
        gc.collect()
        if args.device == "cuda":
            torch.cuda.empty_cache()
        try:
            shape = shape_of(args, size)
            row: dict[str, Any] = dict(measure(args.worker, shape, args.device, DTYPES[dtype], args.repeats))
        except RuntimeError as error:  # the other cells are still worth the time
            row = {"failed": (str(error).splitlines() or [repr(error)])[-1]}
        print(json.dumps(row), flush=True)


def compare(args: argparse.Namespace, about: dict[str, Any]) -> None:
    """Run every competitor at every size and type; prints the tables, and writes the rows as they come."""
    cells = [(size, dtype) for dtype in args.dtypes for size in args.sizes]
    floors = {
        (size, dtype): floor_ms(shape_of(args, size), args.device, DTYPES[dtype], 2 * args.repeats)
        for size, dtype in cells
    }
    if args.device == "cuda":
        torch.cuda.empty_cache()
    rows: list[dict[str, Any]] = []
    for name in args.criteria:
        lacks = {cell: missing(name, args.device, cell[1]) for cell in cells}
        rows += [
            {"size": size, "dtype": dtype, "criterion": name, "left_out": lack}
            for (size, dtype), lack in lacks.items()
            if lack
        ]
        possible = [cell for cell in cells if not lacks[cell]]
        groups = [possible] if args.device == "cuda" else [[cell] for cell in possible]
        for row in (row for group in groups if group for row in worker(name, args, group)):
            rows.append(finished(row, shape_of(args, row["size"]), floors[row["size"], row["dtype"]]))
            print(f"{row['size']}, {row['dtype']}: {line(row)}", file=sys.stderr, flush=True)
            if args.json:
                args.json.write_text(json.dumps({**about, "rows": rows}, indent=1))
    for size, dtype in cells:
        table(shape_of(args, size), size, dtype, floors[size, dtype], rows)


def finished(row: dict[str, Any], shape: Size, floor: float) -> dict[str, Any]:
    """Add what follows from time and memory."""
    if "ms" in row:
        logits = shape.logits_bytes(DTYPES[row["dtype"]])
        row["floor_ms"] = floor
        row["gb_per_s"] = PASSES * logits / 1e6 / row["ms"]
        row["extra_share"] = row["extra_mb"] * 2**20 / logits
    return row


def line(row: dict[str, Any], first: float | None = None) -> str:
    """Return a row of the table; `first` is the time that others are compared with."""
    name = f"{row['criterion']:<18}"
    if "ms" not in row:
        return name + (f"  failed: {row['failed']}" if "failed" in row else f"  left out: {row['left_out']}")
    ratio = f"{row['ms'] / first:>9.2f}" if first else ""
    return (
        f"{name}{row['ms']:>9.2f}{row['ms'] / row['floor_ms']:>9.2f}{row['gb_per_s']:>8.0f}{ratio}"
        f"{row['issue_ms']:>10.2f}{row['peak_mb']:>9.0f}{row['extra_mb']:>10.1f}{100 * row['extra_share']:>10.1f}"
    )


def table(shape: Size, size: str, dtype: str, floor: float, rows: Sequence[dict[str, Any]]) -> None:
    """Print what was measured at a size and type."""
    logits = shape.logits_bytes(DTYPES[dtype])
    speed = PASSES * logits / 1e6 / floor
    print(f"\n{size}, {dtype}: {shape}, logits {logits / 2**20:.0f} MB, floor {floor:.3f} ms at {speed:.0f} GB/s")
    print(HEADER)
    mine = [row for row in rows if (row["size"], row["dtype"]) == (size, dtype)]
    first = next((row["ms"] for row in mine if "ms" in row), None)
    for row in mine:
        print(line(row, first), flush=True)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=sorted(SIZES), default="cpu")
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), help="default: fp32 on the CPU, all on a GPU")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES["cpu"]), default=list(SIZES["cpu"]))
    parser.add_argument("--criteria", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--groups", type=int, default=1, help="query sets of the size's queries each")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path, help="also write the rows, hardware and date to this file")
    parser.add_argument("--profile", action="store_true", help="print the fused kernels' times instead; needs a GPU")
    parser.add_argument("--worker", choices=NAMES, help=argparse.SUPPRESS)
    parser.add_argument("--cell", nargs=2, action="append", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.dtypes = args.dtypes or DEFAULT_DTYPES[args.device]
    torch.set_num_threads(args.threads)
    if args.worker:
        work(args)
        return
    about = {
        "hardware": hardware(args.device),
        "date": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "threads": args.threads,
        "groups": args.groups,
    }
    print(", ".join(f"{key} {value}" for key, value in about.items()) + "; forward + backward, all layers")
    if args.profile:
        for size in args.sizes:
            print(size, kernel_times(shape_of(args, size), "cuda", DTYPES[args.dtypes[0]], args.repeats), sep="\n")
        return
    compare(args, about)


if __name__ == "__main__":
    main()
