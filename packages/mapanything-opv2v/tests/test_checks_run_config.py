from __future__ import annotations

import importlib
from pathlib import Path

import hydra
import mapanything_opv2v
import pytest
from mapanything_opv2v.checks.run_config import run_problems
from mapanything_opv2v.host.training.config_callback import RunCheck
from omegaconf import OmegaConf

GOOD = {
    "test_dataset": "OPV2VCoopDataset_validate( ROOT='a', num_views=2)",
    "num_views": 4,
    "max_num_of_imgs_per_gpu": 4,
    "epochs": 5,
    "warmups": {"train_params.warmup_epochs": 1},
    "weights": {"model.pretrained": None},
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"test_dataset": "[null]"},
        {"test_dataset": "10 @ OPV2VDataset(split='validate') + 5 @ BlendedMVSWAI(split='val')"},
        {"test_dataset": "OPV2VDataset_validate(num_views=2) + 1 * OPV2VDataset_validate(num_views=4)"},
        {"test_dataset": "OtherDataset(split='test')"},
        {"weights": {"model.pretrained": __file__}},
        {"model_str": "mapanything", "train_criterion": "ConfLoss(Regr3D())"},
        {"model_str": "opv2v_start", "train_criterion": "OPV2VStartLoss(points_weight=1.0)"},
    ],
)
def test_good_runs_have_no_problem(changes):
    assert run_problems(**{**GOOD, **changes}) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"num_views": 5},
            "the test batch is 2 * (4 // 5) = 0 samples: raise train_params.max_num_of_imgs_per_gpu",
        ),
        (
            {"warmups": {"train_params.warmup_epochs": 10}},
            "train_params.warmup_epochs=10 is not shorter than",
        ),
        ({"warmups": {"a.b": 5}}, "a.b=5 is not shorter than train_params.epochs=5"),
        (
            {"test_dataset": "OPV2VDataset(split='validate') +OPV2VDataset(split='validate', seed=2)"},
            "2 test sets begin with 'OPV2VDataset': MapAnything keeps the last one only",
        ),
        (
            {"test_dataset": "OPV2VDataset(split='train')"},
            "a test set reads the split 'train' (OPV2VDataset).",
        ),
        (
            {"test_dataset": "9 @ OPV2VCoopDataset_test(x=1)"},
            "reads the split 'test' (OPV2VCoopDataset_test).",
        ),
        (
            {"test_dataset": "OPV2VDataset_validate(transform='colorjitter+grayscale+gaublur')"},
            "MapAnything cuts dataset.test_dataset at every '+', which leaves",
        ),
        (
            {"weights": {"model.pretrained": "stage1/checkpoint-best.pth"}},
            "model.pretrained=stage1/checkpoint-best.pth is not there: train the stage before this one",
        ),
        (
            {"model_str": "opv2v_start", "train_criterion": "ConfLoss(Regr3D())"},
            "model.model_str=opv2v_start with the loss ConfLoss: opv2v_start tells poses and points of patches only",
        ),
        (
            {"model_str": "mapanything", "train_criterion": "OPV2VStartLoss(points_weight=1.0)"},
            "model.model_str=mapanything with the loss OPV2VStartLoss: opv2v_start tells poses",
        ),
    ],
)
def test_each_mistake_is_told(changes, problem):
    found = run_problems(**{**GOOD, **changes})
    assert any(problem in text for text in found), found


def test_validate_and_test_of_one_class_tell_both_mistakes():
    text = "OPV2VDataset(split='validate') +OPV2VDataset(split='test')"
    found = run_problems(**{**GOOD, "test_dataset": text})
    assert len(found) == 2


def callback_config(**params):
    submodules = {"encoder": {"lr": 1e-7, "warmup_epochs": 1}, "head": {"lr": 0}}
    return OmegaConf.create(
        {
            "dataset": {"test_dataset": GOOD["test_dataset"], "num_views": 4},
            "train_params": {
                "max_num_of_imgs_per_gpu": 8,
                "epochs": 5,
                "warmup_epochs": 1,
                "submodule_configs": submodules,
                **params,
            },
        }
    )


def test_the_callback_ends_the_run_with_every_problem():
    RunCheck().on_job_start(callback_config())
    with pytest.raises(SystemExit) as stop:
        RunCheck().on_job_start(callback_config(epochs=1, max_num_of_imgs_per_gpu=2))
    text = str(stop.value)
    assert "train_params.warmup_epochs=1 is not shorter" in text and "(2 // 4) = 0" in text
    assert "train_params.submodule_configs.encoder.warmup_epochs=1 is not shorter" in text
    assert "submodule_configs.head" not in text
    config = callback_config()
    config.model = {"pretrained": None, "model_config": {"pretrained_checkpoint_path": "weights.pth"}}
    with pytest.raises(SystemExit, match=r"model_config\.pretrained_checkpoint_path=weights\.pth is not there"):
        RunCheck().on_job_start(config)


def test_hydra_makes_the_callback_from_our_config():
    path = Path(mapanything_opv2v.__file__).parent / "configs/hydra/callbacks/opv2v.yaml"
    (target,) = OmegaConf.load(path).hydra.callbacks.values()
    # other tests import the adapter anew against the double of the host: ask for the class that is there now
    now = importlib.import_module("mapanything_opv2v.host.training.config_callback").RunCheck
    assert isinstance(hydra.utils.instantiate(target), now)
