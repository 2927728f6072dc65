"""A rig of one's own through the real model: straight from rig.yaml, and as a tree that the datasets read."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from mapanything_opv2v import cli
from mapanything_opv2v.predictions import list_predictions, load_predictions
from rig_recording import town_recording


@pytest.fixture
def rig_yaml(small_town, town_yaml, tmp_path):
    """The rig of a town's car, told as any other rig."""
    return town_recording(small_town, town_yaml, tmp_path, depth=False)


def predict(checkpoint, out, *more):
    return cli.main([str(w) for w in ("predict", "--checkpoint", checkpoint, "--out", out, "--quiet", *more)])


def frames_of(folder):
    return [load_predictions(path) for path in list_predictions(folder)]


def test_cameras_of_a_rig_are_views_with_known_poses(tiny_checkpoint, rig_yaml, small_town, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict(tiny_checkpoint, out, "--rig", rig_yaml, "--resolution", "56", "42") == 0
    assert "frames of" in capsys.readouterr().out
    found = frames_of(out)
    assert [frame.meta.frame for frame in found] == list(small_town.frames)
    frame, camera = found[0], yaml.safe_load(rig_yaml.read_text())["cameras"]["cam1"]
    assert frame.meta.cameras == (0, 1, 2, 3) and frame.range_m_true is None
    assert np.allclose(frame.pose_world_cam_true[1], camera["pose"])
    # 80 x 60 to 56 x 42 is a factor of 0.7; a pixel's ray stays what it was
    K = np.array(camera["K"])
    assert frame.intrinsics_true[1][0, 0] == pytest.approx(0.7 * K[0, 0])
    assert frame.intrinsics_true[1][0, 2] == pytest.approx((K[0, 2] + 0.5) * 0.7 - 0.5)
    assert cli.main(["evaluate", "--predictions", str(out), "--out", str(tmp_path / "eval"), "--quiet"]) == 0
    text = capsys.readouterr().out
    assert "pose_rotation_deg" in text and "depth_rmse_m" not in text


def test_a_rig_and_its_tree_give_the_same_panorama(tiny_checkpoint, rig_yaml, tmp_path):
    size = ("--resolution", "112", "28")
    assert predict(tiny_checkpoint, tmp_path / "rig", "--rig", rig_yaml, "--panoramas", *size) == 0
    assert cli.main(["import", str(rig_yaml), "--out", str(tmp_path / "tree"), "--quiet"]) == 0
    data = ("--root", tmp_path / "tree", "--dataset", "OPV2VCylindricalDataset", "--num-views", "1")
    assert predict(tiny_checkpoint, tmp_path / "from_tree", *data, *size) == 0
    data = ("--root", rig_yaml, *data[2:])
    assert predict(tiny_checkpoint, tmp_path / "as_data", *data, *size, "--inputs", "pose") == 0
    ours, theirs, read = (frames_of(tmp_path / name) for name in ("rig", "from_tree", "as_data"))
    assert len(ours) == len(theirs) == len(read) > 0
    for a, b, c in zip(ours, theirs, read):
        assert np.array_equal(c.image, b.image) and c.meta.inputs == ("pose",)
        assert np.abs(a.image.astype(int) - b.image.astype(int)).max() <= 1
        assert a.range_m.shape == (1, 28, 112)


def test_a_rig_is_evaluated_as_it_lies(tiny_checkpoint, small_town, town_yaml, tmp_path, capsys):
    """Depth maps beside the images are the truth of the ranges; without them only poses are judged."""
    for depth in (True, False):
        rig, out = town_recording(small_town, town_yaml, tmp_path / f"{depth}", depth=depth), tmp_path / f"out_{depth}"
        words = ("--checkpoint", tiny_checkpoint, "--root", rig, "--dataset", "OPV2VDataset", "--num-views", "4")
        words = ["evaluate", *map(str, words), "--resolution", "56", "42", "--out", str(out), "--quiet"]
        if not depth:
            assert cli.main(words) == 2
            assert "do without with need_depth=False (commands: --option" in capsys.readouterr().err
            words += ["--option", "need_depth=False"]
        assert cli.main(words) == 0, capsys.readouterr().err
        text = capsys.readouterr().out
        assert "pose_rotation_deg" in text and ("depth_rmse_m" in text) == depth
        found = json.loads((out / "summary.json").read_text())
        assert found["frames"] == len(small_town.frames) and not found["failed"]


def test_recordings_train_as_the_guide_says(launch, small_town, town_yaml, tmp_path):
    recordings = tmp_path / "recordings"
    for split in ("train", "validate"):
        town_recording(small_town, town_yaml, recordings / split / "drive")
    done = launch("stage1", tmp_path / "runs", "train_params.epochs=1", roots=(recordings, recordings))
    logs = list((tmp_path / "runs").rglob("log.txt"))
    assert done.returncode == 0 and len(logs) == 1, done.stdout[-2000:] + done.stderr[-2000:]
    last = json.loads(logs[0].read_text().splitlines()[-1])
    assert np.isfinite([last["train_loss"], last["OPV2VDataset_validate_loss_avg"]]).all()


def test_what_does_not_belong_together(tiny_checkpoint, rig_yaml, tmp_path, capsys):
    def refused(message, *more):
        assert predict(tiny_checkpoint, tmp_path / "no", "--rig", rig_yaml, *more) == 2
        assert message in capsys.readouterr().err

    refused("--rig and --root: give one of them", "--root", tmp_path)
    refused("--images and --rig: give one of them", "--images", tmp_path)
    refused("the model sees its images only", "--inputs", "pose")
    refused("need a tree, --root", "--pose-noise", "1")
