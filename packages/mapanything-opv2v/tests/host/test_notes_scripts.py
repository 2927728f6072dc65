"""The research notes' scripts that need a model: their lines of the docs page, on the real host."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
PAGE = ROOT / "docs" / "mapanything-opv2v" / "notes-commands.md"


@pytest.fixture(scope="module")
def trained(launch, tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiments")
    done = launch("stage1", folder, "train_params.epochs=1")
    assert done.returncode == 0, done.stderr[-4000:]
    return folder / "opv2v" / "stage1"


@pytest.fixture
def script(start, trained, small_town, tmp_path):
    """Return a function that runs the page's line of a script in a folder of its own."""

    def run(name):
        (line,) = re.findall(rf"^python (tools/opv2v/{name} .*)$", PAGE.read_text(encoding="utf-8"), re.M)
        named = {"RUN": trained, "OPV2V_ROOT": small_town.root, "OPV2V_DEPTH_ROOT": small_town.depth_root}
        for key, value in named.items():
            line = line.replace(f"${key}", str(value))
        file, *words = shlex.split(line)
        outputs = {"cloud", "views", "summary.json", "predictions"}
        words = [str(tmp_path / word) if word in outputs else word for word in words]
        done = start(ROOT / file, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_one_script_predicts_and_shows(script, tmp_path):
    said = script("render_pointcloud_html.py")
    assert "predicted poses" in said
    assert (tmp_path / "cloud" / "pointcloud.html").stat().st_size > 10_000
    assert len(list((tmp_path / "cloud").rglob("*.npz"))) == 1
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert len(summary["views"]) == 4  # the config's validation has so many
    assert 0 <= summary["pred_mask_mean"] <= 1 and 0 < summary["gt_mask_mean"] <= 1  # trained for two steps
    assert summary["metric_scale"] > 0 and summary["depth_rmse_m"] > 0 and summary["translation_error_m"] >= 0
    assert summary == json.loads((tmp_path / "views" / "summary.json").read_text())
    for view in summary["views"]:
        assert (tmp_path / "views" / view["picture"]).is_file()


def test_predicted_depth_masks_and_clouds(script, tmp_path):
    script("depth_ge.py")
    kinds = {path.suffix for path in (tmp_path / "predictions").rglob("*") if path.is_file()}
    assert {".npy", ".png", ".pcd", ".npz"} <= kinds
