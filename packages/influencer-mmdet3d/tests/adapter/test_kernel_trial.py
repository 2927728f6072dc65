"""The comparison that a trial makes, in Triton's interpreter; on a GPU tests/gpu makes the whole of it."""

import pytest
import torch
from influencer_mmdet3d.host import kernel_trial as trial
from influencer_mmdet3d.loss.set_loss import InfluencerSetLoss

SMALL = trial.Case("small", queries=(9, 3), points=(50, 1), instances=(3, 0), groups=3)


def test_kernels_agree_in_a_small_case(device):
    assert trial.difference(SMALL, device) is None


@pytest.mark.parametrize(
    ("wrong", "message"), [("loss", "inst_loss is "), ("gradient", "of shape (9, 50), differs by")]
)
def test_a_difference_is_named(monkeypatch, device, wrong, message):
    fused = InfluencerSetLoss._fused

    def defect(self, samples, groups):
        out = fused(self, samples, groups)
        if wrong == "loss":
            out["loss"] = 1.01 * out["loss"]
        else:
            head = samples[0].masks[0]
            out["loss"] = out["loss"] + (head - head.detach()).sum()
        return out

    monkeypatch.setattr(InfluencerSetLoss, "_fused", defect)
    assert message in trial.difference(SMALL, device)
    monkeypatch.setattr(trial, "CASES", (SMALL,))
    found = trial.try_all(device)
    assert not found.passed and found.reason.startswith("differ from plain torch in the case 'small'")


def test_whatever_a_kernel_stops_with_is_the_verdict(monkeypatch, device):
    monkeypatch.setattr(trial, "CASES", (SMALL,))
    monkeypatch.setattr(InfluencerSetLoss, "_fused", lambda *_: [][1])
    found = trial.try_all(device)
    assert not found.passed and found.reason.startswith("fail in the case 'small': IndexError")
    monkeypatch.undo()
    monkeypatch.setattr(trial, "CASES", (SMALL,))
    assert trial.try_all(device) == trial.Verdict(True, "agree with plain torch in 1 cases")


def test_every_case_is_another():
    assert len({case.name for case in trial.CASES}) == len(trial.CASES)
    assert {case.dtype for case in trial.CASES} == {torch.float32, torch.float16, torch.bfloat16}
