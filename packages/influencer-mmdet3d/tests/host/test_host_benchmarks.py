"""The benchmarks that time the real host and that train it on half a room, run by their own commands at toy size."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(script, *options):
    command = [sys.executable, str(BENCHMARKS / script), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_times_of_a_step(tmp_path):
    small = ["--points", 3000, "--batches", 1, "--repeats", 2, "--models", "s3dis"]
    said = run("host_time.py", "--out", tmp_path, *small, "--criteria", "host", "influence:groups=2")
    rows = json.loads((tmp_path / "times.s3dis.json").read_text())
    assert [row["criterion"] for row in rows] == ["host", "influence:groups=2"]
    plain, groups = rows
    assert 0 < plain["least_ms"] <= plain["ms"] and plain["device"] == "cpu" and plain["peak_gb"] is None
    assert f"s3dis host: {plain['ms']:.1f} ms" in said
    (one,), (two,) = plain["queries_points_instances"], groups["queries_points_instances"]
    for (queries, points, instances), (twice, same, also) in zip(one, two, strict=True):
        assert (queries, twice) == (400, 800)
        assert points == same > 0 and instances == also > 0


def test_half_a_room_predicts_the_other(tmp_path):
    generator = np.random.default_rng(0)
    floor = np.c_[generator.uniform((0, 0), (6, 3), (3000, 2)), np.zeros(3000)]
    boxes = [generator.uniform((x, 1, 0), (x + 0.8, 1.8, 0.8), (400, 3)) for x in (0.5, 1.9, 3.5, 4.9)]
    instance = np.repeat([-1, 0, 1, 2, 3], [3000, 400, 400, 400, 400])
    xyz = np.concatenate([floor, *boxes])
    rgb = np.random.default_rng(1).integers(0, 256, xyz.shape, dtype=np.uint8)
    np.savez(tmp_path / "room.npz", xyz=xyz, rgb=rgb, instance=instance)
    small = ["--steps", 3, "--voxel", 0.2, "--queries", 12, "--score", 0.01]
    said = run("real_room_halves.py", "--room", tmp_path / "room.npz", "--out", tmp_path / "out", *small)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [row["criterion"] for row in results] == ["host", "influence"]
    for row in results:
        for way in ("with_nms", "without_nms"):
            assert row[way]["instances"] == 2  # two of the four boxes stand in the half that is predicted
            assert 0 <= row[way]["found"] <= min(2, row[way]["predictions"]) and 0 <= row[way]["ap"] <= 1
        label = np.load(tmp_path / "out" / f"{row['criterion']}.0.npz")
        assert label["truth"].shape == label["with_nms"].shape == (2300,)
    assert said.count("'seed': 0") == 2
    assert (tmp_path / "out" / "room.png").read_bytes().startswith(b"\x89PNG")
