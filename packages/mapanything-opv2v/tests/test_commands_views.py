"""The subcommands that make pages, end to end on a small tree."""

import json
import re

import numpy as np
import pytest
from mapanything_opv2v import cli


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture
def raw(small_town, town_yaml):
    return [town_yaml, "--depth-root", small_town.depth_root]


def title(path):
    return re.search(r"<title>(.*?)</title>", path.read_text())[1]


def test_pointcloud_says_whose_poses(raw, town_predictions, tmp_path, capsys):
    assert run("pointcloud", *raw, "--out", tmp_path / "raw", "--max-points", 500) == 0
    assert "of 16 views, true poses" in capsys.readouterr().out
    assert title(tmp_path / "raw" / "pointcloud.html").endswith("· true poses · raw data, no model")
    for source, text in ((None, "predicted poses"), ("pred", "predicted poses"), ("gt", "true poses")):
        flags = [] if source is None else ["--point-pose-source", source]
        assert run("pointcloud", town_predictions, *flags, "--out", tmp_path / "p") == 0
        assert title(tmp_path / "p" / "pointcloud.html").endswith(
            f"· {text} · checkpoint-best.pth · opv2v_coop_ft · f7ebafb"
        )
        assert json.loads((tmp_path / "p" / "summary.json").read_text())["point_pose_source"] == (source or "pred")
    assert len(list((tmp_path / "p" / "views").glob("*.png"))) == 4


def test_layouts_lidar_and_choices(raw, small_town, tmp_path, capsys):
    agents = [agent for agent in small_town.agents if agent >= 0][:2]
    chosen = ["--agents", *agents, "--camera-ids", 0, 1]
    assert run("pointcloud", *raw, *chosen, "--layout", "panorama", "--out", tmp_path / "a") == 0
    assert "of 2 views" in capsys.readouterr().out
    assert run("pointcloud", *raw, *chosen, "--points", "lidar", "--out", tmp_path / "b") == 0
    assert title(tmp_path / "b" / "pointcloud.html").startswith("LiDAR sweeps ·")


def test_rig_bev_compare_and_rerun(raw, town_predictions, tmp_path, capsys):
    assert run("rig", *raw, "--out", tmp_path) == 0
    assert run("bev", *raw, "--out", tmp_path, "--reach-m", 10, "--cell-m", 0.5, "--max-height-m", 3) == 0
    with np.load(tmp_path / "bev.npz") as arrays:
        assert arrays["count"].shape == (40, 40) and np.nanmax(arrays["height_m"]) <= 3
    assert "looks closer" not in capsys.readouterr().out
    assert run("bev", *raw, "--out", tmp_path, "--reach-m", 900, "--cell-m", 1) == 0
    assert "tenth of the picture: --reach-m 90 --cell-m 0.1 looks closer" in capsys.readouterr().out
    poses = ["--point-pose-source", "pred", "gt"]
    assert run("compare", town_predictions, town_predictions, *poses, "--out", tmp_path) == 0
    assert "A to B: mean" in capsys.readouterr().out
    figures = json.loads((tmp_path / "compare.json").read_text())
    assert "predicted poses" in figures["a"] and "true poses" in figures["b"] and figures["a_to_b"]["mean_m"] > 0.01
    folder = town_predictions.parents[2]
    assert run("compare", folder, folder, "--out", tmp_path) == 0
    assert json.loads((tmp_path / "compare.json").read_text())["a_to_b"]["mean_m"] < 1e-9
    assert run("rerun", town_predictions, "--max-points", 50, "--out", tmp_path / "f.rrd") == 0
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {
        *("rig.html", "rig.png", "bev.html", "bev.png", "bev.npz", "compare.html", "compare.json", "f.rrd"),
    }


def test_panorama_has_a_page_for_both_sources(raw, town_predictions, tmp_path):
    size = ["--panorama-resolution", 96, 24]
    assert run("panorama", raw[0], "--no-depth", *size, "--out", tmp_path / "raw") == 0
    assert title(tmp_path / "raw" / "panorama.html").endswith("· raw data, no model")
    assert run("panorama", town_predictions, "--out", tmp_path / "p") == 0
    assert "checkpoint-best.pth" in title(tmp_path / "p" / "panorama.html")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pointcloud", "{yaml}", "--point-pose-source", "pred"], "raw data has no predicted poses"),
        (["pointcloud", "{npz}", "--agents", "1"], "--agents: only for raw frames (.yaml)"),
        (["rig", "{npz}", "--layout", "panorama", "--camera-ids", "0"], "--camera-ids, --layout: only for raw frames"),
        (["pointcloud", "{npz}", "--points", "lidar"], "no LiDAR sweep"),
        (["pointcloud", "{yaml}"], "no depth maps; make them with `mapanything-opv2v depth`"),
        (["pointcloud", "{yaml}", "--max-points", "0"], "max_points=0, expected at least 1"),
        (["bev", "{yaml}", "--cell-m", "0"], "cell_m=0.0, expected a positive length"),
        (["compare", "{npz}", "{npz}", "--points", "depth", "depth", "depth"], "--points: 3 values"),
        (["compare", "{npz}", "{npz}", "--frame", "x"], "--frame x: only where both sides are folders of predictions"),
        (["compare", "{npz}", "a.pcd", "--agents", "3"], "--agents: only for raw frames"),
        (["rerun", "{npz}"], "expected a file that ends in .rrd"),
        (["panorama", "{yaml}.npz"], "No such file"),
    ],
)
def test_bad_input_is_one_line_and_two(town_yaml, town_predictions, tmp_path, capsys, arguments, message):
    words = [word.format(yaml=town_yaml, npz=town_predictions) for word in arguments]
    assert run(*words, "--out", tmp_path / "x") == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not (tmp_path / "x").exists()
