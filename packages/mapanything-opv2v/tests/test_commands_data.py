"""The command line, end to end on a small tree."""

import json
import subprocess
import sys

import numpy as np
import pytest
from mapanything_opv2v import cli, rawdata


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def subcommands():
    (action,) = [a for a in cli.build_parser()._actions if a.dest == "command"]
    return action.choices


@pytest.mark.parametrize("name", subcommands())
def test_every_subcommand_helps_with_an_example_that_parses(name, capsys):
    parser = subcommands()[name]
    assert f"mapanything-opv2v {parser.prog.split()[-1]}" in parser.epilog  # an alias shows the verb itself
    example = parser.epilog.split("mapanything-opv2v ", 1)[1].split()
    assert cli.build_parser().parse_args(example).run is parser.get_default("run")
    with pytest.raises(SystemExit) as stop:
        run(name, "--help")
    assert stop.value.code == 0 and "xample: " in capsys.readouterr().out


def test_help_needs_neither_numpy_nor_torch_nor_a_host():
    code = (
        "import sys\n"
        "from mapanything_opv2v import cli\n"
        "cli.build_parser()\n"
        "heavy = {'numpy', 'torch', 'numba', 'cv2', 'yaml', 'hydra', 'mapanything'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_tree_counts_and_limits(small_town, capsys, tmp_path):
    assert run("tree", small_town.root, "--depth-root", small_town.depth_root, "--json", tmp_path / "t.json") == 0
    out = capsys.readouterr().out
    counts = "4 frames, 60 images, 15 sweeps, 60 depth maps; agents: 1 frames with 3, 3 frames with 4"
    assert f"train: 2 sequences, {counts}" in out
    assert out.endswith("12 scenes\n")
    assert [row["split"] for row in json.loads((tmp_path / "t.json").read_text())] == [
        "train",
        "validate",
        "test",
    ]
    assert run("tree", small_town.root, "--max-scenes", "1") == 0
    assert capsys.readouterr().out.endswith("\n1 scenes\n")


def test_check_says_what_is_wrong_and_exits_with_one(own_town, capsys, tmp_path):
    root, depth_root = own_town
    arguments = ["check", root, "--depth-root", depth_root, "--splits", "test", "--quiet", "--need-depth"]
    assert run(*arguments) == 0
    out = capsys.readouterr().out
    assert "4 scenes, 150 files read, 0 problems" in out
    assert "at most 0.0000 m, 0.0000 degrees" in out
    agent = rawdata.index_tree(root).splits["test"][0].agents[0]
    agent.camera_paths[1].unlink()
    agent.pcd_path.write_bytes(b"x")
    assert run(*arguments, "--json", tmp_path / "r.json", "--show", "1") == 1
    out = capsys.readouterr().out
    assert "2 problems" in out and "... and 1 more; --json FILE has all of them" in out
    problems = json.loads((tmp_path / "r.json").read_text())["problems"]
    assert {p["key"] for p in problems} == {"camera1", "lidar"}
    assert run(*arguments, "--max-scenes", "1", "--no-lidar", "--cameras", "1") == 1
    assert "1 scenes" in capsys.readouterr().out


def test_depth_then_prebuild_then_panorama(own_town, capsys, tmp_path):
    root, _ = own_town
    tree = [root, "--splits", "validate", "--quiet"]
    assert run("depth", *tree, "--out", tmp_path / "lidar", "--format", "png", "--hide-px", "1") == 0
    assert "60 depth maps written" in capsys.readouterr().out
    assert run("depth", *tree, "--out", tmp_path / "lidar", "--format", "png", "--hide-px", "1") == 0
    assert "0 depth maps written (0.00% of their pixels known), 60 were there" in capsys.readouterr().out
    size = ["--panorama-resolution", "96", "24"]
    cache = ["--cache", tmp_path / "cache"]
    assert run("prebuild", *tree, "--depth-root", tmp_path / "lidar", *cache, *size) == 0
    assert "15 panoramas built, 0 were there, 0 failed" in capsys.readouterr().out
    assert run("prebuild", *tree, "--depth-root", tmp_path / "lidar", *cache, *size) == 0
    assert "0 panoramas built, 15 were there" in capsys.readouterr().out
    assert run("prebuild", *tree, *cache, *size, "--no-depth", "--camera-ids", "0", "1") == 0
    assert "15 panoramas built" in capsys.readouterr().out
    frame = rawdata.index_tree(root, depth_root=tmp_path / "lidar").splits["validate"][0]
    agent = frame.agents[0]
    out = tmp_path / "out"
    depth_dir = agent.depth_paths[0].parent
    assert run("panorama", agent.yaml_path, "--depth-dir", depth_dir, "--out", out, *size) == 0
    assert "covered" in capsys.readouterr().out
    figures = json.loads((out / "panorama.json").read_text())
    with np.load(out / "panorama.npz") as arrays:
        assert arrays["color"].shape == (24, 96, 3)
        assert arrays["has_range"].mean() == pytest.approx(figures["has_range"]) and figures["has_range"] > 0
    height, width, _ = rawdata.load_image(out / "panorama.png").shape
    assert width == 96 and height > 3 * (24 + 24)  # three pictures of 24 rows, captions in several lines
    assert set(figures["overlap_agreement"]) == {"1-3", "2-3"}


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        (["--projection-radius-m", "inf"], "projection_radius_m", float("inf")),
        (["--ground-height-m", "1.9"], "ground_height_m", 1.9),
        (["--feather-deg", "0"], "feather_deg", 0),
        (["--no-antialias"], "antialias", False),
        (["--no-refine"], "refine_range", False),
        (["--fill-radius-px", "4"], "fill_radius_px", 4),
        ([], "projection_radius_m", 20.0),
    ],
)
def test_panorama_flags_reach_the_options(flags, field, value):
    from mapanything_opv2v import panorama
    from mapanything_opv2v.commands import options as shared

    args = cli.build_parser().parse_args(["prebuild", "x", "--cache", "y", *flags])
    options = shared.panorama_options(args)
    assert getattr(options, field) == value
    unchanged = panorama.PanoramaOptions()
    others = [name for name in unchanged.__dataclass_fields__ if name != field]
    assert all(getattr(options, name) == getattr(unchanged, name) for name in others)


def test_prebuild_and_depth_report_failures_with_one(own_town, capsys, tmp_path):
    root, depth_root = own_town
    agents = rawdata.index_tree(root).splits["test"][0].agents
    agents[2].camera_paths[0].write_bytes(b"x")
    agents[1].pcd_path.unlink()
    tree = [root, "--splits", "test", "--quiet"]
    size = ["--panorama-resolution", 48, 12]
    assert run("prebuild", *tree, "--depth-root", depth_root, "--cache", tmp_path / "c", *size) == 1
    assert "_camera0.png: not a PNG file" in capsys.readouterr().out
    assert run("depth", *tree, "--out", tmp_path / "d", "--workers", "2") == 1
    assert "has no LiDAR sweep" in capsys.readouterr().out


def test_synthetic_writes_a_town(tmp_path, capsys):
    arguments = [
        "--out",
        tmp_path,
        "--frames",
        1,
        "--agents",
        1,
        "--infrastructure",
        1,
        "--image-size",
        40,
        30,
    ]
    assert run("synthetic", *arguments, "--splits", "test", "train") == 0
    assert "test, train, agents -1, " in capsys.readouterr().out
    assert list(rawdata.index_tree(tmp_path).splits) == ["train", "test"]


def test_synthetic_prints_statistics(tmp_path, capsys):
    arguments = ["--out", tmp_path, "--frames", 1, "--agents", 2, "--image-size", 40, 30, "--quiet"]
    assert run("synthetic", *arguments, "--statistics") == 0
    said = capsys.readouterr().out
    assert "1 frames; of each figure 5 %, median, 95 %" in said and "distance between agents, m" in said
    assert run("synthetic", *arguments[:-1], "--layout", "crossing", "--fewest-agents", 1) == 2
    assert "fewest_agents=1 with layout='crossing'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tree", "nowhere"], "tree: root=nowhere is not a folder"),
        (["tree", "{root}", "--splits", "val"], "no split 'val' in"),
        (["tree", "{root}", "--max-scenes", "0"], "--max-scenes 0: expected at least 1"),
        (["check", "{root}", "--workers", "0"], "workers=0, expected at least 1"),
        (["depth", "{root}", "--out", "x", "--hide-px", "99"], "hide_px=99, expected 0 to 50"),
        (["prebuild", "{root}", "--cache", "x", "--feather-deg", "-1"], "feather_deg=-1.0, expected 0 to 90"),
        (["panorama", "nowhere.yaml", "--out", "x"], "no file nowhere.yaml"),
    ],
)
def test_bad_input_is_one_line_and_two(small_town, capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run(*(str(argument).format(root=small_town.root) for argument in arguments)) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not (tmp_path / "x").exists()
