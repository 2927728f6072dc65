"""Scripts of the research notes: every line of the docs page runs, and writes what the notes expect."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from mapanything_opv2v import rawdata
from mapanything_opv2v.commands import notes, notes_model
from mapanything_opv2v.exports import ExportOptions, export_frame
from mapanything_opv2v.predictions import load_predictions

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "mapanything-opv2v" / "notes-commands.md"
MODEL = ("render_pointcloud_html.py", "depth_ge.py")
"""Scripts that need MapAnything; tests/host runs them."""


def lines():
    """Return the script lines of the page by script."""
    block = re.search(r"^```bash\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)[1]
    words = [line.removeprefix("python ") for line in block.splitlines()]
    return {line.split()[0].removeprefix("tools/opv2v/"): line for line in words}


@pytest.fixture
def run(small_town, town_predictions, tmp_path, monkeypatch, capsys):
    """Return a function that runs a line of the page in a folder of its own: (status, what it printed)."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(town_predictions, tmp_path / "pred.npz")
    frame = load_predictions(town_predictions)
    (cloud,) = export_frame(frame, tmp_path / "export", ExportOptions(kinds=("pcd",)))
    shutil.copy(cloud, tmp_path / "pred.pcd")
    named = {
        "OPV2V_ROOT": small_town.root,
        "OPV2V_DEPTH_ROOT": small_town.depth_root,
        "SEQUENCE": small_town.sequences[0],
        "AGENT": min(agent for agent in small_town.agents if agent >= 0),
        "FRAME": small_town.frames[0],
        "PRED": tmp_path / "pred",
    }
    for name, value in named.items():
        monkeypatch.setenv(name, str(value))

    def go(line):
        script, *words = shlex.split(os.path.expandvars(line))
        monkeypatch.setattr(sys, "argv", [script, *words])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        said = capsys.readouterr()
        return ended.value.code, said.out + said.err

    return go


def test_the_page_has_every_script():
    there = {str(path.relative_to(ROOT / "tools/opv2v")) for path in (ROOT / "tools/opv2v").rglob("*.py")}
    assert set(lines()) == there
    table = PAGE.read_text(encoding="utf-8").partition("| script |")[2]
    assert {name for name in there if f"| `{name}` |" not in table} == set()


FLAGS = {
    "check_opv2v.py": "--root",
    "validate_opv2v_cyl_setup.py": "--splits --num-samples --verbose",
    "opv2v_panorama_preview.py": "--root --depth_root --split --index --output_dir",
    "visualize_opv2v_cyl_html.py": "--split --index --output-html",
    "render_pointcloud_html.py": "--config --checkpoint --output-dir --view-output-dir --debug-summary-json "
    "--val-index --point-pose-source",
    "visualize_opv2v_pose.py": "--dataset_root --split --sequence --agent --frame --output",
    "pcd_with_boxes.py": "--pred_pcd --gt_pcd --no_gui",
}
"""The flags that the notes give each script."""


@pytest.mark.parametrize("script", FLAGS)
def test_the_lines_of_the_page_have_every_flag_of_the_notes(script):
    assert set(FLAGS[script].split()) <= set(lines()[script].split())


WRITES = {
    "check_opv2v.py": (),
    "tree.py": (),
    "validate_opv2v_cyl_setup.py": (),
    "opv2v_panorama_preview.py": ("preview/panorama.html", "preview/panorama.png", "preview/panorama.npz"),
    "visualize_opv2v_cyl_html.py": ("cylinder.html",),
    "visualize_opv2v_pose.py": ("pose.png", "rig.html"),
    "depth/depth.py": (),
    "pcd_with_boxes.py": ("boxes/compare.html", "boxes/pointcloud.html"),
    "compare_pointclouds.py": ("compared/compare.html", "compared/compare.json"),
    "visualize.py": ("shown/compare.html",),
    "devided_pointclouds.py": (),
}


@pytest.mark.parametrize("script", [name for name in lines() if name not in MODEL])
def test_a_line_of_the_page_runs(run, script, tmp_path):
    status, said = run(lines()[script])
    assert status == 0, said
    for name in WRITES[script]:
        assert (tmp_path / name).stat().st_size > 200, name


def test_the_setup_says_what_a_training_gets(run):
    status, said = run(lines()["validate_opv2v_cyl_setup.py"])
    assert status == 0 and said.endswith("4 samples checked, 0 failed\n")
    samples = re.findall(
        r"^(\w+)/.*: views=(\d) camera_model=cylindrical panorama=1008x252 valid_mask_mean=(0\.\d{4}) "
        r"non_ambiguous_mask_mean=(0\.\d{4}) images (\d+) -> panoramas (\d)$",
        said,
        flags=re.M,
    )
    assert [split for split, *_ in samples] == ["train", "train", "validate", "validate"]
    for _, views, valid, clear, images, panoramas in samples:
        assert int(images) == 4 * int(panoramas) and views == panoramas
        assert 0 < float(valid) <= float(clear) < 0.9  # sky and blind directions are neither
    assert said.count("  agent ") == sum(int(views) for _, views, *_ in samples)


def test_the_setup_fails_where_depth_is_missing(small_town, tmp_path, capsys):
    words = ["--root", str(small_town.root), "--depth_root", str(tmp_path), "--splits", "train", "--num-samples", "1"]
    assert notes_model.validate_setup(words) == 1
    said = capsys.readouterr().out
    assert "1 samples checked, 1 failed" in said and "train sample 0: train/" in said


def test_divided_clouds_are_the_whole(run, tmp_path):
    assert run(lines()["devided_pointclouds.py"])[0] == 0
    parts = {path.stem: rawdata.load_pcd(path).xyz for path in sorted((tmp_path / "divided").glob("*.pcd"))}
    frame = load_predictions(tmp_path / "pred.npz")
    assert set(parts) == {f"agent{agent}" for agent in frame.meta.agents}
    whole = rawdata.load_pcd(tmp_path / "pred.pcd").xyz  # in view 0's axes, which are the model's world here
    assert sum(map(len, parts.values())) == len(whole)
    assert np.allclose(np.concatenate([*parts.values()]).mean(axis=0), whole.mean(axis=0), atol=1e-3)


def test_without_the_notes_flags_a_script_is_its_command(run, small_town, tmp_path):
    yaml = f"{small_town.root}/test/$SEQUENCE/$AGENT/$FRAME.yaml"
    assert run(f"tools/opv2v/visualize_opv2v_pose.py {yaml} --out rig")[0] == 0
    assert (tmp_path / "rig" / "rig.html").is_file()
    assert run(f"tools/opv2v/pcd_with_boxes.py {yaml} --out sweep")[0] == 0
    assert (tmp_path / "sweep" / "summary.json").is_file()


def test_a_browser_is_opened_unless_told(run, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or False)
    line = lines()["pcd_with_boxes.py"]
    assert run(line)[0] == 0 and opened == []
    status, said = run(line.replace("--no_gui ", ""))
    assert status == 0 and len(opened) == 2 and opened[0].endswith("boxes/compare.html")
    assert "no browser could be opened here (--no_gui asks for none)" in said


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("opv2v_panorama_preview.py --split test --index 99 --output_dir x", "--index 99: test has 4 frames, 0 to 3"),
        ("visualize_opv2v_pose.py --split test --agent 9 --output x", r"no --agent 9 in .*; there: "),
        ("visualize_opv2v_pose.py --split test --frame 9 --output x", r"no --frame 9 in .*; there: "),
        ("pcd_with_boxes.py --pred_pcd a.pcd", "give --pred_pcd and --gt_pcd, both"),
    ],
)
def test_what_is_refused(run, line, words):
    status, said = run(f"tools/opv2v/{line}")
    assert status == 2 and re.search(words, said), said


def test_a_tree_must_be_named(monkeypatch):
    monkeypatch.delenv("OPV2V_ROOT", raising=False)
    with pytest.raises(ValueError, match="which data set\\? Give its folder, or export OPV2V_ROOT"):
        notes.panorama_preview(["--output_dir", "x"])


def test_the_summary_of_a_page_has_the_notes_figures(run, tmp_path):
    assert run("tools/opv2v/render_pointcloud_html.py $PRED.npz --out page")[0] == 0
    summary = json.loads((tmp_path / "page" / "summary.json").read_text())
    names = {"pred_mask_mean", "gt_mask_mean", "translation_error_m", "rotation_error_deg", "metric_scale"}
    assert {*names, "depth_scale_ratio", "depth_rmse_m", "bounds"} <= set(summary)
