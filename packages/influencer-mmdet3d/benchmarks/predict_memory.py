"""Peak memory of `predict` over the size of a cloud: with tiles, and with one tile over all of it.

    python benchmarks/predict_memory.py room.npz predict.json config.py checkpoint.pth --millions 0.3 1 4

A real room (.npz with `xyz` and `rgb`) is repeated side by side, without a gap, and its points are drawn again with
noise until the floor has the wanted number: area grows with the points, as in a building. Each run is a process of its
own. `peak_mb` is its peak of resident memory, which the operating system counts; `own_mb` the part of it that is in no
file (RssAnon, looked at every 20 ms), which cannot be taken back from it. With `--data-mb` a run has a limit of what
is in no file (RLIMIT_DATA). Lines are added to the JSON as they come; what is there is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RUN = r"""
import json, pathlib, re, resource, sys, threading, time
from influencer_mmdet3d import cli
own = [0]
def look():
    while True:
        own[0] = max(own[0], int(re.search(r"RssAnon:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())[1]))
        time.sleep(0.02)
threading.Thread(target=look, daemon=True).start()
code = cli.main(sys.argv[1:])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print("peak", json.dumps({"peak_mb": round(peak / 1024), "own_mb": round(own[0] / 1024)}))
sys.exit(code)
"""


def building(room: dict[str, np.ndarray], points: int) -> np.ndarray:
    """Return float32 (points, 6): copies of a room on a square grid, the last row perhaps not full."""
    generator = np.random.default_rng(0)
    xyz, rgb = room["xyz"] - room["xyz"].min(0), room["rgb"].astype(np.float64)
    size = xyz.max(0)
    copies = -(-points // len(xyz))
    side = int(np.ceil(np.sqrt(copies)))
    parts = []
    for number in range(copies):
        shift = np.array([number % side, number // side, 0]) * size
        parts.append(np.concatenate([xyz + shift + generator.normal(0, 0.002, xyz.shape), rgb], 1).astype(np.float32))
    return np.concatenate(parts)[:points]


def measure(cloud: Path, words: list[str], timeout: float) -> dict[str, float]:
    """Run `predict` on a cloud in a process of its own; return its peaks in MB and its seconds."""
    with tempfile.TemporaryDirectory() as out:
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", RUN, "predict", *words, str(cloud), "--out", out, "--device", "cpu", "--json"],
            capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip
        seconds = time.perf_counter() - begin
        if done.returncode:
            return {"failed": done.returncode, "said": (done.stderr or done.stdout)[-300:]}
        summary = json.loads((Path(out) / cloud.stem / "summary.json").read_text())
    peaks = json.loads(done.stdout.rsplit("peak ", 1)[1])
    return {**peaks, "seconds": round(seconds, 1), "tiles": summary["tiles"]}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("room", type=Path)
    parser.add_argument("out", type=Path, help="JSON, one list of runs")
    parser.add_argument("config")
    parser.add_argument("checkpoint")
    parser.add_argument("--millions", type=float, nargs="+", default=[0.3, 1.0, 4.0])
    parser.add_argument("--kinds", nargs="+", choices=["tiles", "whole"], default=["tiles", "whole"])
    parser.add_argument(
        "--limit-gb", type=float, default=12.0, help="address space of a run; beyond it counts as failed"
    )
    parser.add_argument("--data-mb", type=float, help="most memory of a run that is in no file")
    parser.add_argument("--timeout", type=float, default=280.0)
    args = parser.parse_args()
    with np.load(args.room) as arrays:
        room = dict(arrays)
    runs = json.loads(args.out.read_text()) if args.out.is_file() else []
    folder = Path(tempfile.mkdtemp(prefix="predict-memory-"))
    try:
        for million in args.millions:
            cloud = folder / f"cloud_{million:g}.npy"
            for kind in args.kinds:
                if any(run["millions"] == million and run["kind"] == kind for run in runs):
                    continue
                if not cloud.is_file():
                    np.save(cloud, building(room, int(million * 1e6)))
                own = [] if kind == "tiles" else ["--tile", "1000", "--tile-points", "1000000000"]
                resource.setrlimit(resource.RLIMIT_AS, (int(args.limit_gb * 2**30), resource.RLIM_INFINITY))
                if args.data_mb:
                    resource.setrlimit(resource.RLIMIT_DATA, (int(args.data_mb * 2**20), resource.RLIM_INFINITY))
                try:
                    found = measure(cloud, [args.config, args.checkpoint, *own], args.timeout)
                except subprocess.TimeoutExpired:
                    found = {"failed": "time"}
                runs.append({"millions": million, "kind": kind, **found})
                print(json.dumps(runs[-1]), flush=True)
                args.out.write_text(json.dumps(runs, indent=1))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
