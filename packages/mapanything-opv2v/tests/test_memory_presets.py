"""Presets of memory: what they change of an experiment, and that they change nothing else."""

from __future__ import annotations

import pytest
from hydra import compose
from omegaconf import OmegaConf
from test_configs import HOST
from test_experiments import EXPERIMENTS, MORE

PARTS = ("model.encoder", "model.info_sharing.module_args", "model.pred_head")
KEYS = [f"{part}.gradient_checkpointing" for part in PARTS]
ENCODER = "train_params.submodule_configs.encoder"
PRESETS = {"opv2v_24gb": (True, True), "opv2v_48gb": (True, False), "opv2v_80gb": (False, False)}
"""Whether activations are computed again, and whether the encoder is frozen."""


@pytest.fixture
def composed(host_configs):
    with host_configs({**HOST, **MORE}):
        yield lambda *overrides: compose("train", overrides=list(overrides))


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_changes_checkpointing_and_the_encoder_alone(composed, name, preset):
    plain, found = composed(f"+experiment={name}"), composed(f"+experiment={name}", f"+memory={preset}")
    again, frozen = PRESETS[preset]
    assert [OmegaConf.select(found, key) for key in KEYS] == [again] * 3
    rates = [OmegaConf.select(found, f"{ENCODER}.{rate}") for rate in ("lr", "min_lr")]
    assert (rates == [0, 0]) is frozen
    for key in (*KEYS, f"{ENCODER}.lr", f"{ENCODER}.min_lr"):
        OmegaConf.update(found, key, OmegaConf.select(plain, key))
    assert found == plain


def test_a_preset_gives_way_to_the_command_line(composed):
    config = composed("+experiment=opv2v_stage1", "+memory=opv2v_24gb", f"{ENCODER}.lr=1e-6")
    assert config.train_params.submodule_configs.encoder.lr == 1e-6


def test_stage_3_on_a_small_card_as_the_docs_say(composed):
    """12 images do not fit 24 GB; with 8 the test batch still holds a sample."""
    words = ("dataset.num_views=8", "train_params.max_num_of_imgs_per_gpu=8")
    config = composed("+experiment=opv2v_stage3", "+memory=opv2v_24gb", *words)
    assert config.train_params.max_num_of_imgs_per_gpu // config.dataset.opv2v.val.num_views == 1
    assert "num_views=8" in config.dataset.train_dataset
