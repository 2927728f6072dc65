"""Time and memory of a criterion's forward and backward pass, side by side, against the floor that memory sets.

    nox -s bench-influencer-mmdet3d
    nox -s bench-influencer-mmdet3d -- --device cuda --json speed.json
    nox -s bench-influencer-mmdet3d -- --device cuda --profile

The floor is the time to read the mask logits twice and to write their gradient once, at the speed of a copy timed in
the same run. GB/s are those bytes over a criterion's time. On the CPU each competitor runs in a process of its own,
which is how peak memory is told apart, and the least time of the repeats counts; on a GPU the median.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
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


def worker(name: str, args: argparse.Namespace, size: str, dtype: str) -> dict[str, float]:
    """Measure in a process of its own on the CPU, in this one on a GPU."""
    if args.device == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        return measure(name, SIZES["cuda"][size], "cuda", DTYPES[dtype], args.repeats)
    command = [sys.executable, __file__, "--device", args.device, "--dtypes", dtype, "--sizes", size]
    command += ["--repeats", str(args.repeats), "--threads", str(args.threads), "--worker", name]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or f"exit status {done.returncode}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compare(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Run every competitor at every size and type; print and return the table."""
    rows: list[dict[str, Any]] = []
    for dtype, size in ((dtype, size) for dtype in args.dtypes for size in args.sizes):
        shape = SIZES[args.device][size]
        floor = floor_ms(shape, args.device, DTYPES[dtype], 2 * args.repeats)
        logits = shape.logits_bytes(DTYPES[dtype])
        speed = PASSES * logits / 1e6 / floor
        print(f"\n{size}, {dtype}: {shape}, logits {logits / 2**20:.0f} MB, floor {floor:.3f} ms at {speed:.0f} GB/s")
        print(HEADER)
        first = None
        for name in args.criteria:
            if lack := missing(name, args.device, dtype):
                print(f"{name:<18}  left out: {lack}")
                continue
            row: dict[str, Any] = {"size": size, "dtype": dtype, "criterion": name, "floor_ms": floor}
            rows.append(row)
            try:
                row |= worker(name, args, size, dtype)
            except RuntimeError as error:  # the other competitors are still worth the time
                row["failed"] = (str(error).splitlines() or [repr(error)])[-1]
                print(f"{name:<18}  failed: {row['failed']}", flush=True)
                continue
            first = first or row["ms"]
            row["gb_per_s"] = PASSES * logits / 1e6 / row["ms"]
            row["extra_share"] = row["extra_mb"] * 2**20 / logits
            print(
                f"{name:<18}{row['ms']:>9.2f}{row['ms'] / floor:>9.2f}{row['gb_per_s']:>8.0f}{row['ms'] / first:>9.2f}"
                f"{row['issue_ms']:>10.2f}{row['peak_mb']:>9.0f}{row['extra_mb']:>10.1f}"
                f"{100 * row['extra_share']:>10.1f}",
                flush=True,
            )
    return rows


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=sorted(SIZES), default="cpu")
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), help="default: fp32 on the CPU, all on a GPU")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES["cpu"]), default=list(SIZES["cpu"]))
    parser.add_argument("--criteria", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path, help="also write the rows, hardware and date to this file")
    parser.add_argument("--profile", action="store_true", help="print the fused kernels' times instead; needs a GPU")
    parser.add_argument("--worker", choices=NAMES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.dtypes = args.dtypes or DEFAULT_DTYPES[args.device]
    torch.set_num_threads(args.threads)
    if args.worker:
        size = SIZES[args.device][args.sizes[0]]
        print(json.dumps(measure(args.worker, size, args.device, DTYPES[args.dtypes[0]], args.repeats)))
        return
    about = {
        "hardware": hardware(args.device),
        "date": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "threads": args.threads,
    }
    print(", ".join(f"{key} {value}" for key, value in about.items()) + "; forward + backward, all layers")
    if args.profile:
        for size in args.sizes:
            print(size, kernel_times(SIZES["cuda"][size], "cuda", DTYPES[args.dtypes[0]], args.repeats), sep="\n")
        return
    rows = compare(args)
    if args.json:
        args.json.write_text(json.dumps({**about, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
