"""Milliseconds and errors of a panorama, beside the earlier way in the same run.

One core, files in the page cache, processor time, the shortest of several runs. Usage: ``bench_panorama.py
[--runs N]``.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import earlier_way
import numpy as np
from mapanything_opv2v import depth, panorama, rawdata, synthetic
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.rawdata import images
from mapanything_opv2v.synthetic import accuracy

CYLINDER = Cylinder(1008, 252)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        truth = synthetic.write_town(root / "town", seed=3, agents=4, progress=True)
        index = rawdata.index_tree(truth.root)
        depth.write_depths(index, root / "lidar", progress=False)
        print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, one core")
        bench_speed(index, root / "cache", runs)
        bench_accuracy(truth, index, rawdata.index_tree(truth.root, depth_root=root / "lidar"))
    bench_index()


def bench_speed(index: rawdata.TreeIndex, cache_folder: Path, runs: int) -> None:
    """Compare times; the earlier way reads all agents even when two are used."""
    frame = index.splits["train"][0]
    cache = panorama.PanoramaCache(cache_folder, CYLINDER)
    panorama.prebuild(index, cache, progress=False)
    first, two = frame.agents[0], frame.agents[:2]

    def cached() -> None:
        assert cache.load(frame.split, frame.sequence, first, frame.frame) is not None

    rows = [
        (
            "one panorama, decode included",
            80,
            lambda: panorama.load_panorama(first, CYLINDER),
            lambda: earlier_way.load(first, CYLINDER),
        ),
        (
            "cooperative, 2 of 4 agents",
            170,
            lambda: [panorama.load_panorama(agent, CYLINDER) for agent in two],
            lambda: [earlier_way.load(agent, CYLINDER) for agent in frame.agents],
        ),
        ("one panorama from the cache", 15, cached, lambda: earlier_way.load(first, CYLINDER)),
        (
            "of which reading four PNGs",
            None,
            lambda: [images.load_image(p) for p in first.camera_paths.values()],
            None,
        ),
        (
            "of which reading four depth maps",
            None,
            lambda: [images.load_depth(p) for p in first.depth_paths.values()],
            None,
        ),
        ("of which reading the YAML", None, lambda: rawdata.load_agent_yaml(first.yaml_path), None),
    ]
    print(f"{'milliseconds':34} {'ours':>8} {'limit':>6} {'earlier':>8} {'ratio':>6}")
    for label, limit, ours, earlier in rows:
        mine = milliseconds(ours, runs)
        theirs = None if earlier is None else milliseconds(earlier, max(3, runs // 3))
        right = "" if theirs is None else f"{theirs:8.1f} {theirs / mine:5.1f}x"
        print(f"{label:34} {mine:8.1f} {limit or '':>6} {right}")


def bench_accuracy(truth: synthetic.TownTruth, dense: rawdata.TreeIndex, sparse: rawdata.TreeIndex) -> None:
    """Compare ranges with the ray-cast truth, mean over the agents of a frame."""
    split, sequence, frame = next(truth.jobs())
    rows: dict[str, list[tuple[float, ...]]] = {}
    for agent, lidar in zip(dense.splits[split][0].agents, sparse.splits[split][0].agents):
        true = truth.panorama(split, sequence, frame, agent.agent_id, CYLINDER)
        road = panorama.PanoramaOptions(ground_height_m=1.9)
        for label, made in (
            ("ours, dense depth", panorama.load_panorama(agent, CYLINDER)),
            ("  road looked up on ground", panorama.load_panorama(agent, CYLINDER, road)),
            ("earlier way, dense depth", _earlier(agent)),
            ("ours, LiDAR depth", panorama.load_panorama(lidar, CYLINDER)),
            ("earlier way, LiDAR depth", _earlier(lidar)),
        ):
            errors = accuracy.range_errors(made, true)
            rows.setdefault(label, []).append(
                (
                    float(made.covered.mean()),
                    errors.median_m,
                    errors.mean_m,
                    errors.median_relative,
                    accuracy.psnr_db(made.color, true.color, made.covered),
                )
            )
    print(f"{'against the truth':26} {'covered':>8} {'median m':>9} {'mean m':>8} {'rel.':>7} {'PSNR dB':>8}")
    for label, values in rows.items():
        covered, median, mean, relative, psnr = np.mean(values, axis=0)
        print(f"{label:26} {covered:8.4f} {median:9.4f} {mean:8.3f} {relative:7.2%} {psnr:8.1f}")


def bench_index(frames: int = 50_000, agents: int = 4) -> None:
    """Time the index of a tree of empty files that has as many names as a very large data set."""
    with tempfile.TemporaryDirectory() as folder:
        root, per_sequence = Path(folder), 500
        for sequence in range(frames // per_sequence):
            for agent in range(agents):
                here = root / "train" / f"{sequence:04d}" / str(100 + agent)
                here.mkdir(parents=True)
                for frame in range(per_sequence):
                    for suffix in (".yaml", ".pcd", *(f"_camera{k}.png" for k in range(4))):
                        os.close(os.open(f"{here}/{frame:06d}{suffix}", os.O_CREAT | os.O_WRONLY))
        time.sleep(2.1)  # a folder younger than that is not cached
        for label in ("first time", "again, from its cache"):
            start = time.perf_counter()
            index = rawdata.index_tree(root, cache_dir=root / "cache")
            seconds = time.perf_counter() - start
            print(f"index of {len(index.splits['train'])} frames with {agents} agents, {label}: {seconds:.2f} s")


def milliseconds(work: Callable[[], object], runs: int) -> float:
    """Return the shortest of several runs, after one to warm up."""
    work()
    best = float("inf")
    for _ in range(runs):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best * 1000


def _earlier(record: rawdata.AgentRecord) -> panorama.Panorama:
    color, range_m, covered = earlier_way.load(record, CYLINDER)
    has, none = range_m > 0, np.zeros_like(covered)
    return panorama.Panorama(color, range_m, covered, has, none, none)


if __name__ == "__main__":
    main()
