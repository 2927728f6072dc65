"""What a run would build, on doubles; the real host's models are tried in tests/host."""

import pytest
import torch
from influencer_mmdet3d.host.trial import TrialError, build, check_counts, compare
from mmengine.config import Config
from mmengine.registry import MODELS

DECODER = dict(num_instance_classes=4, num_instance_queries=60, num_semantic_queries=4)
MODEL = dict(
    num_classes=4,
    decoder=DECODER,
    criterion=dict(num_semantic_classes=4, inst_criterion=dict(num_classes=4)),
    test_cfg=dict(num_sem_cls=4, topk_insts=240),
)


def config(**changes):
    cfg = Config(dict(model=MODEL, val_evaluator=dict(metric_meta=dict(classes=[*"abcd", "unlabeled"]))))
    cfg.merge_from_dict(changes)
    return cfg


def test_counts_that_agree():
    check_counts(config())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.test_cfg.topk_insts": 241}, "topk_insts=241 asks for more than 60 queries x 4 classes = 240"),
        ({"model.criterion.num_semantic_classes": 13}, r"contradict each other: .*model\.num_classes=4.*classes=13"),
        ({"model.test_cfg.num_sem_cls": 13}, r"model\.test_cfg\.num_sem_cls=13"),
        ({"val_evaluator.metric_meta.classes": ["a", "unlabeled"]}, r"metric_meta\.classes less 'unlabeled'=1"),
        (
            {"model.decoder": dict(num_classes_1dataset=28, num_classes_2dataset=18)},
            r"two sets of classes at once \(28 and 18\)",
        ),
    ],
)
def test_counts_that_do_not(change, message):
    with pytest.raises(TrialError, match=message):
        check_counts(config(**change))


def test_scannet_has_stuff_classes_beside():
    """20 semantic classes, two of them wall and floor, and 18 instance classes."""
    model = dict(
        num_classes=18,
        decoder=dict(num_instance_classes=18, num_semantic_classes=20, num_semantic_queries=0, num_instance_queries=0),
        criterion=dict(num_semantic_classes=20, inst_criterion=dict(num_classes=18)),
        test_cfg=dict(topk_insts=600, stuff_classes=[0, 1]),
    )
    check_counts(Config(dict(model=model)))
    model["criterion"]["num_semantic_classes"] = 18
    with pytest.raises(TrialError, match=r"num_semantic_classes less 2 stuff classes=16"):
        check_counts(Config(dict(model=model)))


def test_compare_by_hand():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    state = {f"module.{key}": value for key, value in model.state_dict().items() if "num_batches" not in key}
    assert compare(model, {"state_dict": state}, "a.pth") is None
    state["module.0.weight"] = torch.zeros(5, 2)
    del state["module.1.bias"]
    said = compare(model, {"state_dict": state, "meta": {}}, "a.pth")
    assert said == (
        "a.pth: of the 7 weights and buffers that the config's model has, 1 of another shape: "
        "0.weight is (5, 2), the config's model has (3, 2); 1 absent: 1.bias"
    )


def test_the_part_that_does_not_build_is_named():
    MODELS.register_module(name="Fine", module=torch.nn.Identity, force=True)
    with pytest.raises(TrialError, match="model of the config does not build"):
        build(Config(dict(model=dict(type="Absent"))), "train")
    good = dict(model=dict(type="Fine"), default_scope="mmengine")
    build(Config(good), "train")
    for part, value in (
        ("train_dataloader", dict(dataset=dict(type="Absent"))),
        ("val_evaluator", dict(type="Absent")),
        ("custom_hooks", [dict(type="Absent")]),
        ("default_hooks", dict(logger=dict(type="LoggerHook", intervall=1))),
        ("train_cfg", dict(type="EpochBasedTrainLoop", max_epoch=1)),
        ("optim_wrapper", dict(type="OptimWrapper", optimizer=dict(type="Absent"))),
    ):
        with pytest.raises(TrialError, match=rf"{part}\S* of the config does not build"):
            build(Config({**good, part: value}), "train")
