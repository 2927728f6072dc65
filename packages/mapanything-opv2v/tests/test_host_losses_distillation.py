"""The frozen teacher and the scale loss, on the double of the host."""

from __future__ import annotations

import math
import sys

import pytest
import torch


@pytest.fixture
def host(double_host):
    """The host's criterion namespace with our names in it."""
    from mapanything_opv2v.host.register import register

    register()
    return vars(sys.modules["mapanything.train.training"])


def batch_of(samples=2):
    image = torch.rand(samples, 3, 14, 28, generator=torch.Generator().manual_seed(0))
    return [{"img": image, "non_ambiguous_mask": torch.ones(samples, 14, 28, dtype=torch.bool)} for _ in range(2)]


def prediction(size, factor):
    """Points at distance `size` metres, made of a metric factor and what it multiplies."""
    factor = torch.as_tensor(factor, dtype=torch.float32)[:, None].requires_grad_()
    raw = (torch.as_tensor(size, dtype=torch.float32) / factor.detach()[:, 0]).requires_grad_()
    direction = torch.tensor([0.6, 0.0, 0.8]).expand(len(raw), 14, 28, 3)
    points = direction * raw[:, None, None, None] * factor[..., None, None]
    return {"pts3d": points, "metric_scaling_factor": factor}, raw


class Says(torch.nn.Module):
    """A teacher whose scene has this size."""

    def __init__(self, *size):
        super().__init__()
        self.size, self.layer = size, torch.nn.Dropout()

    def forward(self, batch):
        return [prediction(self.size, [1.0] * len(self.size))[0]] * len(batch)


def test_by_hand(host):
    loss = host["OPV2VScaleDistillationLoss"](Says(10.0, 10.0))
    student, raw = prediction([20.0, 5.0], [4.0, 4.0])
    value, details = loss(batch_of(), [student, student])
    assert math.isclose(value.item(), math.log(2), rel_tol=1e-5)  # twice and half as large
    assert math.isclose(details["scale_student_to_teacher"], 1.0, rel_tol=1e-5)
    value.backward()
    gradient = student["metric_scaling_factor"].grad[:, 0]
    assert torch.allclose(gradient, torch.tensor([0.5 / 4, -0.5 / 4]))  # d|log s|/ds = +-1/s, mean of two
    assert raw.grad is None  # the geometry is left alone


def test_what_the_factor_multiplies_counts(host):
    """Half the factor on twice the geometry is the same scene."""
    loss = host["OPV2VScaleDistillationLoss"](Says(12.0))
    for factor in (1.0, 3.0, 6.0):
        student, _ = prediction([12.0], [factor])
        assert loss(batch_of(1), [student, student])[0].abs() < 1e-6


def test_sky_does_not_count(host):
    batch = batch_of()
    batch[0]["non_ambiguous_mask"] = batch[1]["non_ambiguous_mask"] = torch.stack(
        [torch.zeros(14, 28, dtype=torch.bool), torch.ones(14, 28, dtype=torch.bool)]
    )
    student, _ = prediction([999.0, 20.0], [1.0, 1.0])
    value, _ = host["OPV2VScaleDistillationLoss"](Says(10.0, 10.0))(batch, [student, student])
    assert math.isclose(value.item(), math.log(2), rel_tol=1e-5)


def test_a_batch_of_sky_is_zero(host):
    batch = [{**view, "non_ambiguous_mask": torch.zeros(2, 14, 28, dtype=torch.bool)} for view in batch_of()]
    student, _ = prediction([20.0, 5.0], [1.0, 1.0])
    value, _ = host["OPV2VScaleDistillationLoss"](Says(1.0, 1.0))(batch, [student, student])
    value.backward()
    assert value == 0 and not student["metric_scaling_factor"].grad.any()


def test_a_teacher_stays_in_eval_mode(host):
    teacher = Says(1.0)
    loss = host["OPV2VScaleDistillationLoss"](teacher.train())
    assert not teacher.training and not teacher.layer.training
    loss.train()
    assert loss.training and not teacher.training and not teacher.layer.training


@pytest.fixture
def saved(host, tmp_path):
    """A checkpoint of the host's model: its path, and the model."""
    from mapanything.models import model_factory

    torch.manual_seed(4)
    model = model_factory("mapanything", name="student")
    torch.save({"model": model.state_dict(), "epoch": 3}, tmp_path / "checkpoint-best.pth")
    return tmp_path / "checkpoint-best.pth", model


def teacher_of(host, path, **changes):
    options = {"checkpoint": path, "model_str": "mapanything", "model_config": {"name": "t"}, "amp_dtype": "fp32"}
    return host["OPV2VTeacher"](**{**options, **changes})


def test_the_teacher_predicts_like_its_model_and_never_trains(host, saved):
    path, model = saved
    teacher = teacher_of(host, path, model_config={"name": "t", "pretrained_checkpoint_path": "not used"})
    batch = batch_of()
    expected, got = model(batch), teacher(batch)
    assert all(torch.equal(a["pts3d"], b["pts3d"]) for a, b in zip(expected, got, strict=True))
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not got[0]["pts3d"].requires_grad
    teacher.train()
    assert not any(module.training for module in teacher.modules())


def test_a_bare_state_dict_will_do(host, saved, tmp_path):
    _, model = saved
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    teacher = teacher_of(host, tmp_path / "weights.pth")
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), teacher.model.state_dict().values()))


def test_the_students_random_numbers_are_the_same_with_and_without(host, saved):
    state = torch.get_rng_state()
    teacher = teacher_of(host, saved[0])
    teacher(batch_of())  # the double draws random numbers in forward, like the host
    assert torch.equal(torch.get_rng_state(), state)


def test_the_config_is_not_changed(host, saved):
    config = {"name": "t", "nested": {"a": [1]}}
    teacher_of(host, saved[0], model_config=config)
    assert config == {"name": "t", "nested": {"a": [1]}}


def test_half_precision(host, saved):
    points = teacher_of(host, saved[0], amp_dtype="bf16")(batch_of())[0]["metric_scaling_factor"]
    exact = teacher_of(host, saved[0])(batch_of())[0]["metric_scaling_factor"]
    assert not torch.equal(points.float(), exact) and torch.allclose(points.float(), exact, rtol=0.05)


def test_a_student_that_is_the_teacher_has_no_loss(host, saved):
    path, model = saved
    loss = host["OPV2VScaleDistillationLoss"](teacher_of(host, path))
    batch = batch_of()
    value, _ = loss(batch, model(batch))
    assert value.abs() < 1e-6
    assert repr(0.5 * loss) == f"0.5*OPV2VScaleDistillationLoss(OPV2VTeacher({str(path)!r}))"


def test_what_it_refuses(host, saved, tmp_path):
    path, _ = saved
    with pytest.raises(ValueError, match="amp_dtype='int8', expected one of fp32, fp16, bf16"):
        teacher_of(host, path, amp_dtype="int8")
    with pytest.raises(FileNotFoundError, match="checkpoint=.*nowhere.pth is not a file"):
        teacher_of(host, tmp_path / "nowhere.pth")
    torch.save({"model": {"other": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="(?s)are not those of mapanything with this model_config"):
        teacher_of(host, tmp_path / "other.pth")


class _Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code ran')",))


def test_code_in_a_checkpoint_does_not_run(host, tmp_path):
    torch.save({"model": {}, "args": _Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="asks for more than tensors and plain values"):
        teacher_of(host, tmp_path / "evil.pth")
