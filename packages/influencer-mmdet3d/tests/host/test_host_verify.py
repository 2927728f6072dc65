"""What `verify` and the launcher's trial say of configs, by building and running them in the real host."""

import os
from pathlib import Path

import pytest
import torch
from influencer_mmdet3d.host.overrides import parse_options
from influencer_mmdet3d.host.trial import TrialError, try_scene
from influencer_mmdet3d.host.verify import check_criterion
from launcher import SMALL, launch
from mmdet3d.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from tiny import CONFIGS

FOUR = {
    "model.num_classes": 4,
    "model.decoder.num_classes": 4,
    "model.decoder.num_instance_classes": 4,
    "model.decoder.num_semantic_queries": 4,
    "model.criterion.num_semantic_classes": 4,
    "model.criterion.inst_criterion.num_classes": 4,
    "model.test_cfg.num_sem_cls": 4,
}


@pytest.fixture(scope="module")
def all_areas(tmp_path_factory):
    from influencer_mmdet3d.data.synthetic import write_s3dis

    root = tmp_path_factory.mktemp("areas")
    write_s3dis(root, areas=range(1, 7), rooms_per_area=1, seed=0, points_per_room=1_000, objects=(4, 5))
    return root


def config(name, **changes):
    cfg = Config.fromfile(CONFIGS / f"{name}_influencer.py")
    cfg.merge_from_dict({"model.num_channels": 16, "model.decoder.in_channels": 16, **changes})
    cfg.model.backbone.num_planes = [16, 32, 48]
    return cfg


@pytest.mark.parametrize("name", ["s3dis_area5", "scannet"])
def test_shipped_configs_run(name):
    (said,) = try_scene(config(name))
    assert "went through loss" in said and "evaluator" in said


def test_more_instances_than_queries_times_classes():
    cfg = config("s3dis_area5", **FOUR, **{"model.decoder.num_instance_queries": 60})
    cfg.val_evaluator.metric_meta.classes = ["a", "b", "c", "d", "unlabeled"]
    with pytest.raises(TrialError, match="topk_insts=450 asks for more than 60 queries x 4 classes = 240"):
        try_scene(cfg)


def test_semantic_classes_that_were_not_changed():
    cfg = config("s3dis_area5", **{**FOUR, "model.criterion.num_semantic_classes": 13})
    with pytest.raises(TrialError, match=r"contradict each other.*model\.criterion\.num_semantic_classes=13"):
        try_scene(cfg)


def test_a_dataset_of_more_classes_than_the_model():
    """All counts agree, but the dataset still has S3DIS's 13 classes: the host's own words follow the place."""
    cfg = config("s3dis_area5", **FOUR)
    cfg.val_evaluator.metric_meta.classes = ["a", "b", "c", "d", "unlabeled"]
    with pytest.raises(TrialError, match="the model's loss fails on a synthetic scene that holds every class"):
        try_scene(cfg)


def test_the_hosts_instance_only_config():
    root = Path(os.environ["ONEFORMER3D_ROOT"])
    cfg = Config.fromfile(root / "configs" / "instance-only-oneformer3d_1xb2_scannet-and-structured3d.py")
    cfg.model.criterion = dict(type="InfluencerCriterion", num_classes=18)
    check_criterion(cfg, Path("config.py"))
    with pytest.raises(TrialError, match=r"two sets of classes at once \(28 and 18\)"):
        try_scene(cfg)


def test_the_evaluator_is_tried_too():
    cfg = config("s3dis_area5")
    cfg.val_evaluator.stuff_class_inds = [99]
    with pytest.raises(TrialError, match="the evaluator fails on a synthetic scene"):
        try_scene(cfg)


def test_a_dry_run_builds_what_would_run(all_areas, tmp_path):
    words = (
        "train",
        "s3dis",
        "influencer",
        "--data-root",
        str(all_areas),
        "--dry-run",
        "--cfg-options",
        "load_from=None",
    )
    code, output = launch(tmp_path, *words, "model.criterion.inst_criterion.bg_weigth=0.3")
    assert code == 2 and "model of the config does not build" in output and "Did you mean 'bg_weight'?" in output
    code, output = launch(tmp_path, *words)
    assert code == 0, output


def test_a_checkpoint_of_other_classes_is_refused(all_areas, tmp_path):
    cfg = Config.fromfile(CONFIGS / "s3dis_area5_influencer.py")
    cfg.merge_from_dict(parse_options(SMALL["s3dis"]))
    cfg.merge_from_dict(FOUR)
    init_default_scope("mmdet3d")
    torch.save({"state_dict": MODELS.build(cfg.model).state_dict(), "meta": {}}, tmp_path / "four.pth")
    words = ("--data-root", str(all_areas), "--cfg-options", *SMALL["s3dis"])
    code, output = launch(tmp_path, "eval", "s3dis", "influencer", "four.pth", *words)
    assert code == 2 and "of another shape: " in output and "belongs to another config" in output
    assert "decoder.out_cls.2.weight is (5, 64), the config's model has (14, 64)" in output, output[-1500:]
