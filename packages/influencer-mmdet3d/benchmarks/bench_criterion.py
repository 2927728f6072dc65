"""Time and memory of a criterion's forward and backward pass, side by side at the sizes of S3DIS and ScanNet.

    nox -s bench-influencer-mmdet3d
    nox -s bench-influencer-mmdet3d -- --device cuda

Each competitor runs in a process of its own, which is how peak memory is told apart. Times are the least of the
repeats on the CPU and the median on a GPU. Ratios are against `influence`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from competitors import NAMES, build
from mmengine.structures import InstanceData


@dataclass(frozen=True)
class Size:
    """Layers L, batch B, queries Q, points N, instances K, classes C."""

    layers: int
    batch: int
    queries: int
    points: int
    instances: int
    classes: int


SIZES = {
    "cpu": {"ScanNet": Size(7, 4, 400, 2_000, 30, 18), "S3DIS": Size(4, 2, 400, 40_000, 30, 13)},
    "cuda": {"ScanNet": Size(7, 4, 400, 3_000, 30, 18), "S3DIS": Size(4, 2, 400, 80_000, 30, 13)},
}
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def inputs(size: Size, device: str, dtype: torch.dtype) -> tuple[dict[str, Any], list[Any], list[torch.Tensor]]:
    """Draw a batch in the host's format; returns (pred, insts, leaves)."""
    generator = torch.Generator(device).manual_seed(0)
    leaves: list[torch.Tensor] = []

    def leaf(*shape: int) -> torch.Tensor:
        value = (3 * torch.randn(*shape, generator=generator, device=device)).to(dtype).requires_grad_()
        leaves.append(value)
        return value

    def layer() -> dict[str, Any]:
        return {
            "cls_preds": [leaf(size.queries, size.classes + 1) for _ in range(size.batch)],
            "masks": [leaf(size.queries, size.points) for _ in range(size.batch)],
            "scores": [leaf(size.queries, 1) for _ in range(size.batch)],
        }

    aux = [layer() for _ in range(size.layers - 1)]
    pred = {**layer(), "aux_outputs": aux}
    insts = []
    for _ in range(size.batch):
        segments = torch.randint(0, size.instances + 1, (size.points,), generator=generator, device=device)
        masks = torch.nn.functional.one_hot(segments, size.instances + 1)[:, :-1].t().bool()
        labels = torch.randint(0, size.classes, (size.instances,), generator=generator, device=device)
        insts.append(InstanceData(sp_masks=masks, labels_3d=labels))
    return pred, insts, leaves


def measure(name: str, size: Size, device: str, dtype: torch.dtype, repeats: int) -> dict[str, float]:
    """Time one competitor in this process."""
    criterion = build(name, size.classes)
    pred, insts, leaves = inputs(size, device, dtype)
    base = _peak(device)

    def step() -> None:
        loss = criterion(pred, insts)["inst_loss"]
        torch.autograd.grad(loss, leaves, allow_unused=True)

    step()
    times = []
    for _ in range(repeats):
        if device == "cuda":
            start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            step()
            stop.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(stop))
        else:
            begin = time.perf_counter()
            step()
            times.append(1e3 * (time.perf_counter() - begin))
    times.sort()
    best = times[len(times) // 2] if device == "cuda" else times[0]
    return {"ms": best, "extra_mb": _peak(device) - base, "peak_mb": _peak(device)}


def _peak(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def compare(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Run every competitor at every size in a process of its own and print the table."""
    print(f"{hardware(args.device)}; torch {torch.__version__}; {args.threads} threads; forward + backward, all layers")
    rows: list[dict[str, Any]] = []
    for size in args.sizes:
        print(f"\n{size} ({SIZES[args.device][size]}), {args.dtype}")
        print(f"{'criterion':<16}{'ms':>10}{'ratio':>8}{'peak MB':>10}{'above inputs MB':>17}")
        reference = None
        for name in args.criteria:
            if name.startswith("host") and not os.environ.get("ONEFORMER3D_ROOT"):
                print(f"{name:<16}  left out: set ONEFORMER3D_ROOT to the host's checkout")
                continue
            command = [sys.executable, __file__, "--device", args.device, "--dtype", args.dtype, "--sizes", size]
            command += ["--repeats", str(args.repeats), "--threads", str(args.threads), "--worker", name]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{name} failed:\n{done.stderr}")
            row = {"size": size, "criterion": name, "dtype": args.dtype, **json.loads(done.stdout.splitlines()[-1])}
            reference = reference or row["ms"]
            rows.append(row)
            ratio, memory = row["ms"] / reference, f"{row['peak_mb']:>10.0f}{row['extra_mb']:>17.0f}"
            print(f"{name:<16}{row['ms']:>10.1f}{ratio:>8.2f}{memory}")
    return rows


def hardware(device: str) -> str:
    """Name the device that was measured."""
    if device == "cuda":
        return str(torch.cuda.get_device_name())
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return cpu[0].split(":")[1].strip() if cpu else platform.processor()


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=sorted(SIZES), default="cpu")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="fp32")
    parser.add_argument("--sizes", nargs="+", choices=["ScanNet", "S3DIS"], default=["ScanNet", "S3DIS"])
    parser.add_argument("--criteria", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--worker", choices=NAMES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.worker:
        size = SIZES[args.device][args.sizes[0]]
        print(json.dumps(measure(args.worker, size, args.device, DTYPES[args.dtype], args.repeats)))
        return
    rows = compare(args)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
