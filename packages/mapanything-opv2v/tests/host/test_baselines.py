"""`evaluate` prints baselines that take no learning beside the real model's figures."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from mapanything_opv2v import cli
from mapanything_opv2v.evaluation import baselines
from mapanything_opv2v.evaluation.measure import evaluate_frame
from mapanything_opv2v.predictions import list_predictions, load_predictions

SMALL = {
    "OPV2VCoopDataset": ("--num-views", "3", "--resolution", "56", "42"),
    "OPV2VCoopCylindricalDataset": ("--num-views", "2", "--resolution", "112", "28"),
}


def evaluate(checkpoint, root, depth_root, out, dataset, *more):
    words = ("evaluate", "--checkpoint", checkpoint, "--root", root, "--depth-root", depth_root, "--out", out)
    return cli.main([str(w) for w in (*words, "--dataset", dataset, *SMALL[dataset], "--quiet", *more)])


@pytest.mark.parametrize("dataset", SMALL)
def test_a_model_that_has_learnt_nothing_is_told_so(tiny_checkpoint, small_town, tmp_path, capsys, dataset):
    out = tmp_path / "eval"
    town = (small_town.root, small_town.depth_root)
    assert evaluate(tiny_checkpoint, *town, out, dataset, "--keep-predictions", "--baseline-samples", "3") == 0
    text = capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    found = summary["baselines"]["constant"]
    assert "depth_mae_m" in found["loses_in"] and "constant: the model LOSES in" in text
    assert found["sentence"] in (out / "evaluation.html").read_text()
    line = next(line for line in text.splitlines() if line.startswith("depth_mae_m"))
    assert f"constant {found['all_figures']['depth_mae_m']['mean']:.4f}" in line and "view0_copied" in line
    # the table of the baseline is what the fitted file says of the predictions
    constant, _ = baselines.load(out / "baselines" / "constant.npz")
    assert constant.samples == 3
    frame = load_predictions(list_predictions(out / "predictions")[0])
    rows = {row["frame"]: row for row in csv.DictReader((out / "baselines" / "constant" / "frames.csv").open())}
    expected = evaluate_frame(constant.predict(frame))["depth_mae_m"]
    assert float(rows[frame.meta.name]["depth_mae_m"]) == pytest.approx(expected, rel=1e-6)


def test_truth_of_the_test_split_does_not_reach_the_constant(tiny_checkpoint, own_town, small_town, tmp_path):
    root, depth_root = own_town
    dataset = "OPV2VCoopCylindricalDataset"
    assert evaluate(tiny_checkpoint, small_town.root, small_town.depth_root, tmp_path / "a", dataset) == 0
    for path in (depth_root / "test").rglob("*.npy"):
        np.save(path, np.load(path) * np.float32(1.7))
    assert evaluate(tiny_checkpoint, root, depth_root, tmp_path / "b", dataset) == 0
    a, b = (baselines.load(tmp_path / name / "baselines" / "constant.npz")[0] for name in "ab")
    assert np.array_equal(a.range_m, b.range_m) and np.array_equal(a.T_view0_view, b.T_view0_view)


def test_without_a_training_split_the_reason_stands_there(tiny_checkpoint, own_town, tmp_path, capsys):
    root, depth_root = own_town
    shutil.rmtree(root / "train")
    dataset = "OPV2VCoopDataset"
    assert evaluate(tiny_checkpoint, root, depth_root, tmp_path / "eval", dataset) == 0
    text = capsys.readouterr().out
    assert f"constant: no baseline: not fitted on train: no split 'train' in {root}" in text
    assert "view0_copied: " in text
    assert evaluate(tiny_checkpoint, root, depth_root, tmp_path / "v", dataset, "--baseline-split", "validate") == 0
    assert "constant: the model LOSES in" in capsys.readouterr().out
    file = tmp_path / "v" / "baselines" / "constant.npz"
    assert evaluate(tiny_checkpoint, root, depth_root, tmp_path / "f", dataset, "--baseline", file) == 0
    assert "constant: the model LOSES in" in capsys.readouterr().out
    assert evaluate(tiny_checkpoint, root, depth_root, tmp_path / "n", dataset, "--baseline", root) == 2


def test_one_view_has_nothing_to_copy(tiny_checkpoint, small_town, tmp_path, capsys):
    out = tmp_path / "eval"
    words = ("evaluate", "--checkpoint", tiny_checkpoint, "--root", small_town.root, "--out", out, "--quiet")
    more = ("--depth-root", small_town.depth_root, "--dataset", "OPV2VDataset", "--num-views", "1")
    assert cli.main([str(w) for w in (*words, *more, "--resolution", "56", "42", "--baseline-samples", "2")]) == 0
    assert "view0_copied: no baseline: frames have one view" in capsys.readouterr().out
