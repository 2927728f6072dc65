"""A start on the real host: it trains, goes on, its weights go into the next stage, and mistakes do not start."""

from __future__ import annotations

import pytest
import torch
from mapanything_opv2v.checkpoints import storage
from mapanything_opv2v.losses import UNIT_M
from omegaconf import OmegaConf
from runs import log_of, text_of

POINTS = "OPV2VStartLoss_points_avg"
STEPS = (
    "dataset.max_sets_per_epoch=null",
    "dataset.steps_per_epoch=15",
    "train_params.max_num_of_imgs_per_gpu=8",
    "dataset.opv2v.train.partner_widen_epochs=1000",
    "dataset.opv2v.train.transform=imgnorm",
)
RATE = (
    "model.info_sharing.module_args.init_values=null",
    "train_params.warmup_epochs=0.1",
    "train_params.lr=1e-3",
    "train_params.submodule_configs.encoder.lr=1e-3",
)


@pytest.fixture(scope="module")
def started(launch, tmp_path_factory):
    """The folder of experiments after a start of 3 epochs."""
    folder = tmp_path_factory.mktemp("experiments")
    done = launch("start", folder, *STEPS, *RATE, "train_params.epochs=3")
    assert done.returncode == 0, text_of(done, folder)[-4000:]
    return folder, text_of(done, folder)


def test_the_points_are_learned_and_the_constant_stands_beside(started):
    folder, text = started
    log = log_of(folder / "opv2v" / "start")
    points = [line[f"train_{POINTS}"] for line in log if f"train_{POINTS}" in line]
    assert len(points) == 3
    assert points[-1] < 0.85 * points[0], points
    assert all("train_position_error_m" in line and "train_heading_error_deg" in line for line in log[1:])
    assert "OPV2VStartDataset_validate after 1 epochs: loss " in text and "of a constant that sees no image" in text
    assert "no constant to compare" not in text


def test_it_goes_on_and_its_weights_go_into_the_next_stage(started, launch):
    folder, _ = started
    done = launch("start", folder, *STEPS, *RATE, "train_params.epochs=4")
    run_dir = folder / "opv2v" / "start"
    assert done.returncode == 0, text_of(done, run_dir)[-4000:]
    assert [line["epoch"] for line in log_of(run_dir)] == [0, 1, 2, 3, 3, 4]
    weights = run_dir / "checkpoint-best.pth"
    done = launch("cylindrical", folder, RATE[0], f"model.pretrained={weights}", "train_params.lr=1e-12")
    text = text_of(done, folder / "opv2v" / "cylindrical")
    assert done.returncode == 0, text[-4000:]
    assert "missing_keys=[], unexpected_keys=['patch_points.weight', 'patch_points.bias']" in text
    before, after = (
        storage.load(weights)["model"],
        storage.load(folder / "opv2v/cylindrical/checkpoint-last.pth")["model"],
    )
    assert set(before) == {*after, "patch_points.weight", "patch_points.bias"}
    assert all(torch.allclose(after[name], before[name], atol=1e-4) for name in after)


def test_plain_weights_load_heads_that_do_not_run_stay_and_predictions_are_refused(compose_tiny, tmp_path):
    from mapanything.models import model_factory

    options = OmegaConf.to_container(compose_tiny().model.model_config, resolve=True)
    plain = model_factory("mapanything", **options)
    torch.save({"model": plain.state_dict()}, tmp_path / "plain.pth")
    options = OmegaConf.to_container(compose_tiny().model.model_config, resolve=True)
    model = model_factory("opv2v_start", **{**options, "pretrained_checkpoint_path": str(tmp_path / "plain.pth")})
    state = model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in plain.state_dict().items())
    still, moving = set(), set()
    for name, parameter in model.named_parameters():
        (moving if parameter.requires_grad else still).add(name.split(".")[0])
    resting = {"dpt_feature_head", "dpt_regressor_head", "scale_head"}  # the first two are the dense head
    assert resting <= still and not resting & moving
    assert {"patch_points", "pose_head", "info_sharing", "encoder"} <= moving
    with pytest.raises(ValueError, match="^OPV2VStart: a start predicts no ranges; train on from its weights"):
        model.infer([])


def test_a_random_scale_head_begins_at_the_unit_of_the_movements(compose_tiny):
    from mapanything.models import model_factory

    options = OmegaConf.to_container(compose_tiny().model.model_config, resolve=True)
    bias = model_factory("opv2v_start", **options).scale_head.output_proj.bias
    assert torch.allclose(bias.exp(), torch.full_like(bias, UNIT_M))


def test_a_loss_that_does_not_fit_does_not_start(launch, tmp_path):
    done = launch("start", tmp_path, "loss=opv2v_rel_pose_loss")
    assert done.returncode == 1
    assert "model.model_str=opv2v_start with the loss ConfAndExcludeTopNPercentPixelLoss" in text_of(done, tmp_path)
