"""Missing vehicles, wrong poses and late data reach the real model, and nothing else changes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from mapanything_opv2v import cli
from mapanything_opv2v.predictions import list_predictions, load_predictions

COOP = ("--num-views", "3", "--resolution", "56", "42", "--quiet")


@pytest.fixture
def call(tiny_checkpoint, small_town):
    def run(command, out, *more):
        town = ("--root", small_town.root, "--depth-root", small_town.depth_root)
        words = (command, "--checkpoint", tiny_checkpoint, *town, "--out", out, *COOP, *more)
        return cli.main([str(word) for word in words])

    return run


def load(folder):
    return {frame.meta.name: frame for frame in map(load_predictions, list_predictions(folder))}


def test_a_missing_vehicle_has_no_view(call, tmp_path):
    assert call("predict", tmp_path / "all") == 0
    assert call("predict", tmp_path / "one", "--drop-agents", "1") == 0
    assert call("predict", tmp_path / "alone", "--drop-agents", "9") == 0
    whole, one, alone = (load(tmp_path / name) for name in ("all", "one", "alone"))
    assert whole.keys() == one.keys() == alone.keys()
    for name, frame in whole.items():
        left = one[name].meta.agents
        assert set(frame.meta.agents) - set(left) and left[0] == frame.meta.agents[0]
        assert len(set(frame.meta.agents)) == len(set(left)) + 1
        assert set(alone[name].meta.agents) == {frame.meta.agents[0]}
        assert np.array_equal(one[name].image[0], frame.image[0])
        assert not np.array_equal(one[name].range_m[0], frame.range_m[0])  # the model sees other views


def test_wrong_poses_reach_the_model_and_not_the_truth(call, tmp_path, capsys):
    given = ("--inputs", "pose")
    assert call("predict", tmp_path / "true", *given) == 0
    assert call("predict", tmp_path / "wrong", *given, "--pose-noise", "2") == 0
    true, wrong = load(tmp_path / "true"), load(tmp_path / "wrong")
    for name, frame in true.items():
        assert np.array_equal(frame.pose_world_cam_true, wrong[name].pose_world_cam_true)
        assert np.array_equal(frame.image, wrong[name].image)
        assert not np.array_equal(frame.range_m, wrong[name].range_m)
    assert call("predict", tmp_path / "no", "--pose-noise", "2") == 2
    assert "the model is given no poses; add --inputs pose" in capsys.readouterr().err


def test_late_vehicles_show_an_older_frame(call, small_town, tmp_path, capsys):
    assert call("predict", tmp_path / "now") == 0
    capsys.readouterr()
    assert call("predict", tmp_path / "late", "--time-offset", "1") == 0
    assert "samples are left out: nothing was recorded 1 frames before" in capsys.readouterr().err
    now, late = load(tmp_path / "now"), load(tmp_path / "late")
    _, second = small_town.frames[:2]
    assert late and {frame.meta.frame for frame in late.values()} == {second}
    moved = 0
    for name, frame in late.items():
        main = frame.meta.agents[0]
        assert np.array_equal(frame.image[0], now[name].image[0])
        for view, agent in enumerate(frame.meta.agents):
            same = np.array_equal(frame.pose_world_cam_true[view], now[name].pose_world_cam_true[view])
            assert same == (agent == main)
            moved += agent != main
    assert moved
    assert call("predict", tmp_path / "no", "--time-offset", "5") == 2
    assert "--time-offset 5: no sequence of test reaches back so far" in capsys.readouterr().err


def test_curves_in_one_page(call, tmp_path, capsys):
    out = tmp_path / "out"
    more = ("--inputs", "pose", "--drop-agents", "1", "--pose-noise", "0.5", "--time-offset", "1")
    assert call("robustness", out, *more, "--baseline-samples", "2") == 0
    text = capsys.readouterr().out
    found = json.loads((out / "robustness.json").read_text())
    assert set(found["curves"]) == {"drop_agents", "pose_noise", "time_offset"} and not found["failed"]
    nothing = {json.dumps(points[0]) for points in found["curves"].values()}
    assert len(nothing) == 1 and json.loads(nothing.pop())["value"] == 0  # every curve begins at the same point
    for name, value in (("drop_agents", 1), ("pose_noise", 0.5), ("time_offset", 1)):
        summary = json.loads((out / f"{name}_{value:g}" / "summary.json").read_text())
        assert summary["provenance"]["perturbation"] == {name: value}
        point = found["curves"][name][1]
        assert point["figures"]["depth_mae_m"]["model"] == summary["figures"]["depth_mae_m"]["mean"]
        assert "constant" in point["figures"]["depth_mae_m"]
    assert "drop_agents: vehicles that send nothing" in text
    page = (out / "robustness.html").read_text()
    assert "recorded frames that other vehicles are late" in page
    assert call("robustness", tmp_path / "no", "--pose-noise", "0.5") == 2
    assert "--pose-noise: the model is given no poses; add --inputs pose" in capsys.readouterr().err
