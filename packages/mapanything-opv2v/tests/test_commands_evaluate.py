"""`evaluate` and `predict` on predictions that are there: no model, no host."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
from distributed import LocalCluster
from evaluation_cases import perfect
from mapanything_opv2v import cli
from mapanything_opv2v.evaluation.measure import evaluate_frame
from mapanything_opv2v.predictions import save_predictions


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(1)
    frames = []
    for number in range(5):
        frame = perfect(rng, views=2, frame=f"{number:06d}", metric_scale=2.0)
        noisy = (frame.range_m * rng.uniform(0.8, 1.2, frame.range_m.shape)).astype(np.float32)
        object.__setattr__(frame, "range_m", noisy)
        frames.append(frame)
    return frames


@pytest.fixture(scope="module")
def predictions(frames, tmp_path_factory):
    folder = tmp_path_factory.mktemp("predictions")
    for frame in frames:
        save_predictions(folder, frame)
    return folder


@pytest.fixture(scope="module")
def scheduler():
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", protocol="tcp") as local:
        yield local.scheduler_address


def evaluate(predictions, out, *more):
    arguments = ["evaluate", "--predictions", str(predictions), "--out", str(out), "--quiet", *more]
    return cli.main(arguments)


def test_the_table_holds_what_every_frame_says(frames, predictions, tmp_path, capsys):
    assert evaluate(predictions, tmp_path / "out") == 0
    rows = list(csv.DictReader((tmp_path / "out" / "frames.csv").open()))
    assert [row["frame"] for row in rows] == [frame.meta.name for frame in frames]
    for row, frame in zip(rows, frames):
        expected = evaluate_frame(frame)
        assert {name: float(row[name]) if row[name] else None for name in expected} == expected
    text = capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    rmse = found["figures"]["depth_rmse_m"]
    assert rmse["mean"] == pytest.approx(math.fsum(float(row["depth_rmse_m"]) for row in rows) / 5)
    assert f"depth_rmse_m             mean {rmse['mean']:9.4f}" in text and "5 frames evaluated, 0 failed" in text
    assert found["provenance"]["options"]["alignment"] == "view0" and found["scale_applied"] == {"once": 5}


@pytest.mark.parametrize("where", ["processes", "cluster"])
def test_processes_and_a_cluster_give_the_same(predictions, scheduler, tmp_path, where, capsys):
    more = ("--workers", "2") if where == "processes" else ("--scheduler", scheduler)
    assert evaluate(predictions, tmp_path / "here") == 0
    here = capsys.readouterr().out.replace("/here", "")
    assert evaluate(predictions, tmp_path / "there", *more) == 0
    assert capsys.readouterr().out.replace("/there", "") == here
    for name in ("frames.csv", "summary.json"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


def test_exports_on_a_cluster(predictions, scheduler, tmp_path, capsys):
    call = ["predict", "--predictions", str(predictions), "--out", str(tmp_path), "--quiet", "--export", "ply", "mask"]
    assert cli.main([*call, "--scheduler", scheduler]) == 0
    assert "15 files exported of 5 frames, 0 failed" in capsys.readouterr().out
    assert len(list(tmp_path.rglob("*.ply"))) == 5 and len(list(tmp_path.rglob("*_mask.png"))) == 10


def test_shards_meet_in_one_folder(predictions, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert evaluate(predictions, tmp_path / "two") == 0
    assert "this process is done, others are not" in capsys.readouterr().out
    assert len(list((tmp_path / "two" / "frames").rglob("*.json"))) == 2
    assert not (tmp_path / "two" / "summary.json").exists()
    monkeypatch.setenv("RANK", "0")
    assert evaluate(predictions, tmp_path / "two") == 0
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.delenv("RANK")
    assert evaluate(predictions, tmp_path / "one") == 0
    assert (tmp_path / "one" / "frames.csv").read_bytes() == (tmp_path / "two" / "frames.csv").read_bytes()
    monkeypatch.setenv("RANK", "2")
    assert evaluate(predictions, tmp_path / "three") == 2
    assert "RANK=2, WORLD_SIZE=1: expected 0 <= RANK < WORLD_SIZE" in capsys.readouterr().err


def test_frames_by_name(frames, predictions, tmp_path, capsys):
    names = [frames[3].meta.name, frames[1].meta.name.rpartition("_agent")[0]]
    assert evaluate(predictions, tmp_path / "out", "--frames", *names) == 0
    rows = list(csv.DictReader((tmp_path / "out" / "frames.csv").open()))
    assert [row["frame"] for row in rows] == [frames[1].meta.name, frames[3].meta.name]
    capsys.readouterr()
    assert evaluate(predictions, tmp_path / "no", "--frames", "test/town/9") == 2
    assert "--frames test/town/9: not among the 5 frames, such as test/town/000000_agent5" in capsys.readouterr().err


def test_a_damaged_file_fails_alone(predictions, frames, tmp_path, capsys):
    folder = tmp_path / "predictions"
    for frame in frames[:2]:
        save_predictions(folder, frame)
    path = folder / f"{frames[0].meta.name}.npz"
    path.write_bytes(path.read_bytes()[:-50])
    assert evaluate(folder, tmp_path / "out") == 1
    text = capsys.readouterr().out
    assert f"{frames[0].meta.name}: {path}: no predictions of a frame" in text
    assert "1 frames evaluated, 1 failed" in text
    save_predictions(folder, frames[0])
    assert evaluate(folder, tmp_path / "out") == 0
    assert "2 frames evaluated, 0 failed" in capsys.readouterr().out


def test_other_options_are_another_run(predictions, tmp_path, capsys):
    assert evaluate(predictions, tmp_path) == 0
    assert evaluate(predictions, tmp_path, "--alignment", "cameras") == 2
    error = capsys.readouterr().err
    assert "holds results of another run (options: " in error and "give another folder" in error


def test_a_scale_too_many_is_called_by_name(frames, tmp_path, capsys):
    for frame in frames[:3]:
        twice = perfect(np.random.default_rng(2), views=2, frame=frame.meta.frame, metric_scale=2.0)
        object.__setattr__(twice, "range_m", twice.range_m * np.float32(2))
        save_predictions(tmp_path / "predictions", twice)
    assert evaluate(tmp_path / "predictions", tmp_path / "out") == 0
    assert (
        "warning: in 3 of 3 frames the ranges look as if the metric scale were applied twice" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "--predictions", "{empty}", "--out", "x"], "no predictions of a frame are there"),
        (["predict", "--predictions", "{empty}", "--out", "x"], "predict --predictions: give --export"),
        (["evaluate", "--checkpoint", "a.pth", "--out", "x"], "--checkpoint needs --root"),
        (["evaluate", "--predictions", "{empty}", "--out", "x", "--voxel-m", "0"], "voxel_m=0.0: expected a positive"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main([word.format(empty=tmp_path) for word in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
