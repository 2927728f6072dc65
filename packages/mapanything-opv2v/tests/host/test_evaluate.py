"""`evaluate` and `predict` with the real model on a synthetic town, from the command line."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mapanything_opv2v import cli
from mapanything_opv2v.predictions import list_predictions, load_predictions

SMALL = {
    "OPV2VCoopDataset": ("--num-views", "3", "--resolution", "56", "42"),
    "OPV2VCoopCylindricalDataset": ("--num-views", "2", "--resolution", "112", "28"),
}
PREDICTED = ("image", "range_m", "rays", "mask", "pose_world_cam_pred", "confidence")


@pytest.fixture
def arguments(small_town, tiny_checkpoint):
    def make(command, out, *more, dataset="OPV2VCoopDataset", roots=(small_town.root, small_town.depth_root)):
        words = [command, "--checkpoint", tiny_checkpoint, "--root", roots[0], "--depth-root", roots[1], "--out", out]
        return [str(word) for word in (*words, "--dataset", dataset, *SMALL[dataset], "--quiet", *more)]

    return make


def rows(out):
    return list(csv.DictReader((out / "frames.csv").open()))


def summary(out):
    return json.loads((out / "summary.json").read_text())


@pytest.mark.parametrize("dataset", SMALL)
def test_evaluates_images_only_and_writes_everything(arguments, tmp_path, capsys, dataset):
    out = tmp_path / "eval"
    assert cli.main(arguments("evaluate", out, "--keep-predictions", dataset=dataset)) == 0
    text = capsys.readouterr()
    assert "mapanything on 4 frames of test; the model sees: images\n" in text.err and "depth_rmse_m" in text.out
    found, table = summary(out), rows(out)
    assert found["frames"] == len(table) == 4 and not found["failed"]
    assert found["provenance"]["inputs"] == [] and found["provenance"]["checkpoint"] == "tiny/checkpoint-best.pth"
    for name in ("pose_translation_m", "vehicle_rotation_deg", "depth_rmse_m", "chamfer_filtered_m", "mask_iou"):
        assert found["figures"][name]["frames"] == 4
        mean = np.mean([float(row[name]) for row in table])
        assert found["figures"][name]["mean"] == pytest.approx(mean)
    frames = [load_predictions(path) for path in list_predictions(out / "predictions")]
    assert [frame.meta.name for frame in frames] == [row["frame"] for row in table]
    assert all(len(frame.box_ids) > 0 and frame.meta.inputs == () for frame in frames)


@pytest.mark.parametrize("dataset", SMALL)
def test_other_truth_same_predictions(arguments, small_town, tmp_path, dataset):
    """The whole way from files: other poses, other depth, other boxes on disk; the model says the same."""
    frames = {}
    for name in ("true", "other"):
        root, depth_root = tmp_path / name / "opv2v", tmp_path / name / "depth"
        shutil.copytree(small_town.root / "test", root / "test")
        shutil.copytree(small_town.depth_root / "test", depth_root / "test")
        if name == "other":
            for path in root.rglob("0*.yaml"):
                change_poses(path)
            for path in depth_root.rglob("*.npy"):
                np.save(path, np.load(path) * np.float32(1.7))
        out = tmp_path / name / "out"
        assert cli.main(arguments("predict", out, dataset=dataset, roots=(root, depth_root))) == 0
        frames[name] = [load_predictions(path) for path in list_predictions(out)]
    assert len(frames["true"]) == len(frames["other"]) == 4
    for a, b in zip(frames["true"], frames["other"]):
        for key in PREDICTED:
            assert np.array_equal(getattr(a, key), getattr(b, key)), key
        assert a.metric_scale == b.metric_scale
        for key in ("range_m_true", "pose_world_cam_true", "boxes_world_true"):
            assert not np.array_equal(getattr(a, key), getattr(b, key)), key


def change_poses(path):
    """Move an agent, its cameras and the vehicles it lists; the rig on the vehicle stays."""
    meta = yaml.safe_load(path.read_text())
    agent = int(path.parent.name)
    for key, value in meta.items():
        if key.startswith("camera"):
            value["cords"][:2] = [value["cords"][0] + agent % 7 + 1, value["cords"][1] - 3.0]
    meta["lidar_pose"][:2] = [meta["lidar_pose"][0] + agent % 7 + 1, meta["lidar_pose"][1] - 3.0]
    for vehicle in meta["vehicles"].values():
        vehicle["location"][0] += 5.0
    path.write_text(yaml.safe_dump(meta))


def test_chosen_inputs_are_recorded_and_change_the_result(arguments, tmp_path, capsys):
    given = ("--inputs", "depth", "pose", "calibration")
    assert cli.main(arguments("evaluate", tmp_path / "images")) == 0
    assert cli.main(arguments("evaluate", tmp_path / "given", *given)) == 0
    assert "the model sees: images, calibration, pose, depth\n" in capsys.readouterr().err
    found = summary(tmp_path / "given")
    assert found["provenance"]["inputs"] == ["calibration", "pose", "depth"]
    assert found["figures"]["depth_mae_m"] != summary(tmp_path / "images")["figures"]["depth_mae_m"]
    assert cli.main(arguments("evaluate", tmp_path / "images", *given)) == 2
    error = capsys.readouterr().err
    assert "holds results of another run (inputs: [] there, ['calibration', 'pose', 'depth'] now)" in error
    assert cli.main(arguments("evaluate", tmp_path / "no", "--inputs", "depth")) == 2
    assert "depth needs calibration" in capsys.readouterr().err


def test_frames_that_are_done_are_kept(arguments, tmp_path, monkeypatch):
    from mapanything_opv2v.host.models import predicting

    out, calls, predict = tmp_path / "eval", [], predicting.predict
    assert cli.main(arguments("evaluate", out)) == 0
    first = rows(out)
    (out / "frames" / f"{first[2]['frame']}.json").unlink()
    monkeypatch.setattr(predicting, "predict", lambda *args: calls.append(args) or predict(*args))
    assert cli.main(arguments("evaluate", out)) == 0
    assert len(calls) == 1 and rows(out) == first
    predictions = tmp_path / "predictions"
    for number in (5, 5):  # one more than evaluate's: the first predict makes all four, the second none
        assert cli.main(arguments("predict", predictions)) == 0
        assert len(calls) == number


def test_several_processes_equal_one(arguments, host_root, tmp_path):
    """As torchrun would start them: each takes its share, the last one writes the tables."""
    assert cli.main(arguments("evaluate", tmp_path / "one")) == 0
    script = "import sys; from mapanything_opv2v.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", script, *arguments("evaluate", tmp_path / "two")]
    path = os.pathsep.join([str(host_root), str(Path(__file__).with_name("shims"))])
    texts = []
    for rank in ("1", "0"):
        env = {**os.environ, "RANK": rank, "WORLD_SIZE": "2", "LOCAL_RANK": rank, "PYTHONPATH": path}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        texts.append(done.stdout)
    assert "this process is done, others are not" in texts[0] and "4 frames evaluated" in texts[1]
    assert rows(tmp_path / "one") == rows(tmp_path / "two")
    assert summary(tmp_path / "one")["figures"] == summary(tmp_path / "two")["figures"]


def test_batches_loaders_and_workers_change_nothing(arguments, tmp_path):
    assert cli.main(arguments("evaluate", tmp_path / "plain")) == 0
    more = ("--batch-size", "3", "--loader-workers", "1", "--workers", "2")
    assert cli.main(arguments("evaluate", tmp_path / "more", *more)) == 0
    for a, b in zip(rows(tmp_path / "plain"), rows(tmp_path / "more")):
        assert a.pop("frame") == b.pop("frame")
        close = {name: float(value) for name, value in b.items() if value}
        assert {name: float(value) for name, value in a.items() if value} == pytest.approx(close, rel=1e-3, abs=1e-4)


def test_predictions_evaluate_as_the_model_does(arguments, tmp_path, capsys):
    assert cli.main(arguments("evaluate", tmp_path / "eval")) == 0
    exports = ("--export", "depth", "mask", "ply", "--frames")
    frames = sorted(row["frame"] for row in rows(tmp_path / "eval"))
    assert cli.main(arguments("predict", tmp_path / "predictions", *exports, frames[0], frames[1])) == 0
    assert "14 files exported of 2 frames, 0 failed" in capsys.readouterr().out  # 2 x (3 depth, 3 masks, 1 cloud)
    again = ["evaluate", "--predictions", str(tmp_path / "predictions"), "--out", str(tmp_path / "again"), "--quiet"]
    assert cli.main(again) == 0
    wanted = [row for row in rows(tmp_path / "eval") if row["frame"] in frames[:2]]
    assert rows(tmp_path / "again") == wanted
    assert summary(tmp_path / "again")["provenance"]["predictions"]["checkpoint"] == "tiny/checkpoint-best.pth"


def test_a_bad_frame_fails_alone_and_is_tried_again(arguments, own_town, small_town, tmp_path, capsys):
    root, _ = own_town
    bad = next((root / "test").rglob(f"{small_town.agents[1]}/*_camera0.png"))  # the main agent's first camera
    whole = bad.read_bytes()
    bad.write_bytes(whole[:200])
    call = arguments("evaluate", tmp_path / "eval", roots=own_town)
    assert cli.main(call) == 1
    text = capsys.readouterr().out
    found = summary(tmp_path / "eval")
    assert len(found["failed"]) == 1 and found["frames"] == 3
    (name, message), *_ = found["failed"].items()
    assert f"{name}: {message}" in text and "camera0: " in message
    bad.write_bytes(whole)
    assert cli.main(call) == 0
    assert summary(tmp_path / "eval")["frames"] == 4 and not list((tmp_path / "eval" / "failed").rglob("*.json"))


def test_checkpoints_that_cannot_be_used(arguments, tiny_checkpoint, tmp_path, capsys):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    loaded = torch.load(tiny_checkpoint, weights_only=False)
    cases = {
        "hostile": ({**loaded, "epoch": Hostile()}, "not loaded, because it asks for more than tensors"),
        "bare": (loaded["model"], "expected a checkpoint with the weights under 'model'"),
        "no_config": ({"model": loaded["model"]}, "no usable config of the model"),
        "less": (
            {**loaded, "model": dict(list(loaded["model"].items())[3:])},
            "its weights are not those of mapanything",
        ),
    }
    for name, (value, message) in cases.items():
        path = tmp_path / f"{name}.pth"
        torch.save(value, path)
        call = arguments("evaluate", tmp_path / "out")
        call[call.index("--checkpoint") + 1] = str(path)
        assert cli.main(call) == 2
        error = capsys.readouterr().err
        assert message in error and str(path) in error, error
    assert not (tmp_path / "ran").exists()


def test_the_config_may_stand_in_a_file_of_its_own(arguments, tiny_checkpoint, tmp_path):
    from omegaconf import OmegaConf

    loaded = torch.load(tiny_checkpoint, weights_only=False)
    torch.save({"model": loaded["model"]}, tmp_path / "bare.pth")
    OmegaConf.save(loaded["args"], tmp_path / "config.yaml")
    call = arguments("evaluate", tmp_path / "out", "--model-config", tmp_path / "config.yaml")
    call[call.index("--checkpoint") + 1] = str(tmp_path / "bare.pth")
    assert cli.main(call) == 0


def test_bad_options_are_one_line(arguments, tmp_path, capsys):
    def refuse(message, *more, command="evaluate"):
        assert cli.main(arguments(command, tmp_path / "out", *more)) == 2
        error = capsys.readouterr().err
        assert message in error and "Traceback" not in error, error

    refuse("--option seed: expected NAME=VALUE", "--option", "seed")
    refuse("option seed=None: evaluation needs the same samples", "--option", "seed=None")
    refuse("option aug_crop: evaluation fixes it itself", "--option", "aug_crop=8")
    refuse("unknown option 'camera_id' (did you mean 'camera_ids'?)", "--option", "camera_id=[0]")
    refuse("batch_size=0: expected at least 1", "--batch-size", "0")
    refuse("--frames nowhere: not among the 4 frames, such as test/", "--frames", "nowhere")
    refuse("cell_m=100.0 exceeds extent_m=70.0", "--cell-m", "100")
    refuse("export ['obj']: expected some of depth, mask", "--export", "obj", command="predict")
