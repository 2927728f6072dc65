"""A precision in which a model cannot run here is a message that says what to do, not a traceback of torch."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import pytest
import torch


class _Fails(torch.nn.Module):
    """A model whose kernels have no other type than float32."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, views):
        raise RuntimeError("no kernel image for BFloat16")


@pytest.fixture
def inference(double_host, monkeypatch):
    image_module = ModuleType("mapanything.utils.image")
    image_module.rgb = None
    monkeypatch.setitem(sys.modules, "mapanything.utils.image", image_module)
    found = importlib.import_module("mapanything_opv2v.host.models.inference")
    monkeypatch.setattr(found, "visible", lambda views, *_, **__: views)
    monkeypatch.setattr(found, "fixed_inputs", lambda model, inputs: torch.no_grad())
    return found


VIEWS = [{"img": torch.zeros(1, 3, 4, 4), "data_norm_type": ["identity"]}]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_message_names_precision_device_and_way_out(inference, precision):
    model = _Fails().train()
    words = rf"precision={precision}: the model cannot run in it on cpu \(.*BFloat16\); use --precision fp32"
    with pytest.raises(ValueError, match=words):
        inference.predict(model, VIEWS, precision=precision)
    assert model.training  # as it was


def test_errors_of_full_precision_are_the_models_own(inference):
    with pytest.raises(RuntimeError, match="no kernel image"):
        inference.predict(_Fails(), VIEWS)
