import math

import pytest
import torch
from influencer_mmdet3d import InfluencerCriterion, InfluencerScheduleHook
from influencer_mmdet3d.host.schedule import Ramp
from mmengine.model import BaseModel
from mmengine.runner import Runner
from scenes import make_batch
from torch.utils.data import DataLoader


class Holder:
    def __init__(self):
        self.inst_criterion = InfluencerCriterion(num_classes=13, temperature=0.1)
        self.seen = []


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.criterion = Holder()

    def forward(self, inputs, data_samples=None, mode="loss"):
        pred, insts = make_batch(layers=1)
        pred["masks"] = [mask * self.scale for mask in pred["masks"]]
        self.criterion.seen.append(self.criterion.inst_criterion.options.temperature)
        return self.criterion.inst_criterion(pred, insts)


def runner(tmp_path, epochs, hooks, resume=False):
    return Runner(
        Model(),
        work_dir=str(tmp_path),
        train_dataloader=DataLoader([{"inputs": 0}, {"inputs": 1}], batch_size=1),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01)),
        custom_hooks=hooks,
        resume=resume,
        # mmengine's loggers are global, by this name and the second: two tests must never share one
        experiment_name=f"{tmp_path.name}-{epochs}",
        log_level="ERROR",
    )


RAMP = dict(option="temperature", start=0.1, stop=0.02, end=4)


def test_curves_hand_computed():
    ramp = Ramp("bg_weight", 0.0, 1.0, begin=2, end=6)
    assert [ramp.value(step) for step in (0, 2, 3, 6, 9)] == [0.0, 0.0, 0.25, 1.0, 1.0]
    cosine = Ramp("bg_weight", 1.0, 0.0, end=3, curve="cosine")
    assert cosine.value(1) == pytest.approx((1 + math.cos(math.pi / 3)) / 2)


def test_sets_and_logs_in_a_real_runner_and_survives_resume(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    first = runner(tmp_path, 2, [InfluencerScheduleHook([RAMP])])
    first.train()
    assert first.model.criterion.seen == pytest.approx([0.1, 0.1, 0.08, 0.08])
    logged = first.message_hub.get_scalar("train/influencer/temperature")
    assert logged.current() == pytest.approx(0.08)
    again = runner(tmp_path, 3, [InfluencerScheduleHook([RAMP])], resume=True)
    again.train()
    assert again.model.criterion.seen == pytest.approx([0.06, 0.06])


def test_by_iteration(tmp_path):
    hook = InfluencerScheduleHook([dict(option="temperature", start=1.0, stop=0.6, end=4, by_epoch=False)])
    run = runner(tmp_path, 2, [hook])
    run.train()
    assert run.model.criterion.seen == pytest.approx([1.0, 0.9, 0.8, 0.7])


@pytest.mark.parametrize(
    "ramps, message",
    [
        ([dict(option="temperature", start=1)], r"lacks \['end', 'stop'\]"),
        ([dict(RAMP, speed=2)], r"unknown keys \['speed'\], known: .*'by_epoch'"),
        ([RAMP, RAMP], "two ramps of one option"),
        ([dict(RAMP, begin=4)], "ramp of temperature: need 0 <= begin < end, got 4 and 4"),
        ([dict(RAMP, curve="step")], r"curve must be one of \('linear', 'cosine'\), got 'step'"),
    ],
)
def test_wrong_ramps(ramps, message):
    with pytest.raises(ValueError, match=message):
        InfluencerScheduleHook(ramps)


@pytest.mark.parametrize(
    "hook, message",
    [
        (InfluencerScheduleHook([dict(RAMP, option="form")]), "'form' is not a scalar option of the criterion"),
        (InfluencerScheduleHook([dict(RAMP, option="tau")]), "'tau' is not a scalar option of the criterion"),
        (InfluencerScheduleHook([dict(RAMP, stop=0.0)]), "temperature must be > 0, got 0"),
        (InfluencerScheduleHook([RAMP], criterion="loss.inst"), r"the model has no loss.inst \(stopped at 'loss'\)"),
        (InfluencerScheduleHook([RAMP], criterion="criterion"), "criterion is a Holder, not InfluencerCriterion"),
    ],
)
def test_wrong_targets_stop_before_the_first_step(tmp_path, hook, message):
    run = runner(tmp_path, 1, [hook])
    with pytest.raises(ValueError, match=message):
        run.train()
    assert run.model.criterion.seen == []
