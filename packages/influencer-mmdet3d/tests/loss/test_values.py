import copy
import pickle

import pytest
import torch
from influencer_mmdet3d.loss.values import DeferredChecks

GPU = torch.device("cuda")


class Event:
    """Stands for a CUDA event: done when told so, or when waited for."""

    made: list = []

    def __init__(self):
        self.over = False
        Event.made.append(self)

    def record(self, stream):
        assert stream == "stream of cuda"

    def query(self):
        return self.over

    def synchronize(self):
        self.over = True


@pytest.fixture
def events(monkeypatch):
    Event.made = []
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    return Event.made


def bits(*rows):
    return torch.tensor(rows, dtype=torch.int32)


def test_nothing_is_reported_before_the_step_is_done(events):
    checks = DeferredChecks()
    checks.add(bits([0, 0], [0, 0]), [], 13, GPU)
    checks.add(bits([0, 0], [0, 1]), [], 13, GPU)
    checks.poll()
    events[1].over = True
    checks.poll()  # the first step is not done, so the second cannot be
    events[0].over = True
    with pytest.raises(FloatingPointError, match="the last layer, sample 1: masks holds values that are not finite"):
        checks.poll()
    checks.poll()  # an error is reported once


def test_waiting_reports_at_once(events):
    checks = DeferredChecks()
    checks.add(bits([4, 0]), [], 13, GPU)
    with pytest.raises(FloatingPointError, match=r"layer 0, sample 0: scores"):
        checks.poll(wait=True)


def test_cpu_reports_at_once():
    with pytest.raises(FloatingPointError, match="the last layer, sample 0: classes"):
        DeferredChecks().add(bits([3]), [], 13, torch.device("cpu"))  # classes come before masks, as on the plain path


def test_labels_come_first():
    with pytest.raises(ValueError, match=r"sample 1: labels: instance 1 has label -2, expected 0..12"):
        labels = [torch.tensor([1]), torch.tensor([3, -2])]
        DeferredChecks().add(bits([0], [9]), labels, 13, torch.device("cpu"))


def test_captured_steps_are_not_checked(events, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    checks = DeferredChecks()
    checks.add(bits([1]), [], 13, GPU)
    checks.poll(wait=True)
    assert not events


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_start_afresh(events, copied):
    checks = DeferredChecks()
    checks.add(bits([1]), [], 13, GPU)
    copied(checks).poll(wait=True)
    with pytest.raises(FloatingPointError):
        checks.poll(wait=True)


def test_the_label_that_is_named_is_the_wrong_one():
    """0 and 12 are right of 13 classes; the third of a scene's two groups is its second scene."""
    labels = [torch.tensor([1]), torch.tensor([0, 12, 13])]
    with pytest.raises(ValueError, match="sample 1: labels: instance 2 has label 13, expected 0..12"):
        DeferredChecks().add(bits([0], [0], [8], [0]), labels, 13, torch.device("cpu"), groups=2)


def test_the_buffer_on_a_cpu():
    found = DeferredChecks().buffer(2, 3, torch.device("cpu"))
    assert found.shape == (2, 3) and found.dtype == torch.int32 and not found.is_pinned()
