"""A start on the real host: it trains, goes on, its weights go into the next stage, and mistakes do not start."""

from __future__ import annotations

import json

import pytest
import torch
from mapanything_opv2v.checkpoints import storage
from omegaconf import OmegaConf

POINTS = "OPV2VStartLoss_points_avg"
STEPS = ("dataset.max_sets_per_epoch=null", "dataset.steps_per_epoch=40", "train_params.max_num_of_imgs_per_gpu=8")
RATE = ("train_params.lr=1e-3", "train_params.submodule_configs.encoder.lr=1e-3")


def text_of(done, folder):
    logs = [path.read_text() for path in sorted(folder.rglob("*.log"))]
    return "\n".join([done.stdout, done.stderr, *logs])


def log_of(run_dir):
    return [json.loads(line) for line in (run_dir / "log.txt").read_text().splitlines()]


@pytest.fixture(scope="module")
def started(launch, tmp_path_factory):
    """The folder of experiments after a start of 3 epochs, its training kept from looking at validation often."""
    folder = tmp_path_factory.mktemp("experiments")
    done = launch("start", folder, *STEPS, *RATE, "train_params.epochs=3")
    assert done.returncode == 0, text_of(done, folder)[-4000:]
    return folder, text_of(done, folder)


def test_the_points_are_learned_and_the_constant_stands_beside(started):
    folder, text = started
    log = log_of(folder / "opv2v" / "start")
    points = [line[f"train_{POINTS}"] for line in log if f"train_{POINTS}" in line]
    assert len(points) == 3 and points[-1] < 0.8 * points[0]
    assert all("train_position_error_m" in line and "train_heading_error_deg" in line for line in log[1:])
    assert "OPV2VStartDataset_validate after 1 epochs: loss " in text and "of a constant that sees no image" in text
    assert "no constant to compare" not in text


def test_heads_that_do_not_run_are_not_trained(started, compose_tiny):
    state = storage.load(started[0] / "opv2v/start/checkpoint-final.pth")["model"]
    first = storage.load(started[0] / "opv2v/start/checkpoint-last.pth")
    names = {name.split(".")[0] for name in state}
    assert {"patch_points", "pose_head", "dense_head", "scale_head"} <= names
    trained = sum(len(group["params"]) for group in first["optimizer"]["param_groups"])
    assert trained == sum(not name.startswith(("dense_head.", "scale_head.")) for name in state)


def test_it_goes_on_and_its_weights_go_into_the_next_stage(started, launch):
    folder, _ = started
    done = launch("start", folder, *STEPS, *RATE, "train_params.epochs=4")
    run_dir = folder / "opv2v" / "start"
    assert done.returncode == 0, text_of(done, run_dir)[-4000:]
    assert [line["epoch"] for line in log_of(run_dir)] == [0, 1, 2, 3, 3, 4]
    weights = run_dir / "checkpoint-best.pth"
    done = launch("cylindrical", folder, f"model.pretrained={weights}", "train_params.lr=1e-12")
    text = text_of(done, folder / "opv2v" / "cylindrical")
    assert done.returncode == 0, text[-4000:]
    assert "missing_keys=[], unexpected_keys=['patch_points.weight', 'patch_points.bias']" in text
    before, after = storage.load(weights)["model"], storage.load(folder / "opv2v/cylindrical/checkpoint-last.pth")["model"]
    assert set(before) == {*after, "patch_points.weight", "patch_points.bias"}
    assert all(torch.allclose(after[name], before[name], atol=1e-4) for name in after)


def test_predictions_are_refused_by_name(compose_tiny, tmp_path):
    from mapanything.models import model_factory

    options = OmegaConf.to_container(compose_tiny().model.model_config, resolve=True)
    plain = model_factory("mapanything", **options)
    torch.save({"model": plain.state_dict()}, tmp_path / "plain.pth")
    options = OmegaConf.to_container(compose_tiny().model.model_config, resolve=True)
    model = model_factory("opv2v_start", **{**options, "pretrained_checkpoint_path": str(tmp_path / "plain.pth")})
    state = model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in plain.state_dict().items())
    with pytest.raises(ValueError, match="^OPV2VStart: a start predicts no ranges; train on from its weights"):
        model.infer([])


def test_a_loss_that_does_not_fit_does_not_start(launch, tmp_path):
    done = launch("start", tmp_path, "loss=opv2v_rel_pose_loss")
    assert done.returncode == 1
    assert "model.model_str=opv2v_start with the loss ConfAndExcludeTopNPercentPixelLoss" in text_of(done, tmp_path)
