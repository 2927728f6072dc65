"""The demo's model, in fewer steps: the real MapAnything through launcher and command line."""

from __future__ import annotations

from mapanything_opv2v.demo import tiny_model
from mapanything_opv2v.predictions import load_predictions


def test_the_demo_trains_and_evaluates_the_real_model(host_root, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_model, "EPOCHS", 2)
    monkeypatch.setattr(tiny_model, "STEPS", 2)
    monkeypatch.setattr(tiny_model, "SIZE_WH", (56, 42))
    monkeypatch.setenv("PYTHONPATH", str(host_root))  # no shims of the tests: the demo runs where a user's does
    trained = tiny_model.train_and_evaluate(tmp_path, 1)
    assert len(trained.losses) == 2 and all(loss > 0 for loss in trained.losses)
    assert trained.summary["frames"] == 6 and not trained.summary["failed"]
    assert trained.summary["provenance"]["inputs"] == []
    frame = load_predictions(trained.predictions)
    assert frame.meta.split == "test" and frame.meta.inputs == () and frame.views == 4
    assert frame.meta.checkpoint == "stage2/checkpoint-final.pth"
