"""The four shipped configs build in the real host, at full size."""

import copy

import pytest
from influencer_mmdet3d import InfluencerCriterion
from mmdet3d.registry import DATASETS, METRICS, MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from tiny import CONFIGS

NAMES = ["s3dis_area5_baseline", "s3dis_area5_influencer", "scannet_baseline", "scannet_influencer"]


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope("mmdet3d")  # as the runner does


def test_all_configs_are_tested():
    assert sorted(path.stem for path in CONFIGS.glob("*.py")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_model_builds(name):
    cfg = Config.fromfile(CONFIGS / f"{name}.py")
    model = MODELS.build(cfg.model)
    criterion = model.criterion.inst_criterion
    if name.endswith("influencer"):
        assert isinstance(criterion, InfluencerCriterion)
        assert criterion.options.num_classes == cfg.num_instance_classes == model.decoder.out_cls[-1].out_features - 1
    else:
        assert type(criterion).__name__ == "InstanceCriterion"
    METRICS.build(cfg.val_evaluator)


@pytest.mark.parametrize("data", ["s3dis_area5", "scannet"])
def test_influencer_differs_in_the_criterion_alone(data):
    base, ours = (Config.fromfile(CONFIGS / f"{data}_{kind}.py").to_dict() for kind in ("baseline", "influencer"))
    assert ours["model"]["criterion"].pop("inst_criterion")["type"] == "InfluencerCriterion"
    base["model"]["criterion"].pop("inst_criterion")
    assert ours == base


def test_unset_root_is_named(monkeypatch):
    monkeypatch.delenv("ONEFORMER3D_ROOT")
    with pytest.raises(KeyError, match="ONEFORMER3D_ROOT"):
        Config.fromfile(CONFIGS / "s3dis_area5_influencer.py")


def test_without_delete_the_matcher_is_explained():
    cfg = Config.fromfile(CONFIGS / "s3dis_area5_baseline.py")
    criterion = copy.deepcopy(cfg.model.criterion)
    criterion.inst_criterion.update(type="InfluencerCriterion")
    with pytest.raises(ValueError, match=r"unknown option 'matcher'.*_delete_=True"):
        MODELS.build(criterion)


def test_datasets_of_the_configs_exist():
    for name in NAMES:
        dataset = Config.fromfile(CONFIGS / f"{name}.py").val_dataloader.dataset
        assert DATASETS.get(dataset.type) is not None
