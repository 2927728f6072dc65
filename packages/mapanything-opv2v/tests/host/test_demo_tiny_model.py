"""The demo's model, in fewer steps: the real MapAnything through launcher and command line."""

from __future__ import annotations

from mapanything_opv2v.demo import learned, tiny_model
from mapanything_opv2v.predictions import load_predictions


def test_the_demo_trains_and_evaluates_the_real_model(host_root, tmp_path, monkeypatch):
    for name in ("START_STEPS", "START_EPOCHS", "DENSE_STEPS", "DENSE_EPOCHS", "START_PAIRS", "DENSE_PAIRS"):
        monkeypatch.setattr(tiny_model, name, 2)
    monkeypatch.setattr(tiny_model, "TOWNS", {"train": 3, "validate": 1, "test": 3})
    monkeypatch.setattr(tiny_model, "AGENTS", 3)
    monkeypatch.setattr(tiny_model, "NEAR_M", 70.0)
    monkeypatch.setenv("PYTHONPATH", str(host_root))  # no shims of the tests: the demo runs where a user's does
    trained = tiny_model.train_and_evaluate(tmp_path, 1, quiet=True)
    assert [len(losses) for losses in trained.losses] == [2, 2]
    assert all(loss > 0 for losses in trained.losses for loss in losses)
    for summary in (trained.summary, trained.strangers):
        assert summary["frames"] >= 6 and not summary["failed"]
        assert summary["provenance"]["inputs"] == ["calibration"]
    told = dict(learned.verdicts(trained))
    assert list(told) == ["heading of the partner", "position of the partner", "range, mean relative error"]
    assert all(text.endswith((learned.BETTER, learned.NOT_BETTER)) for text in told.values())
    first, second = (trained.summary["figures"], trained.strangers["figures"])
    assert first["vehicle_rotation_deg"]["mean"] != second["vehicle_rotation_deg"]["mean"]
    frame = load_predictions(trained.predictions)
    assert frame.meta.split == "test" and frame.meta.inputs == ("calibration",) and frame.views == 2
    assert frame.meta.checkpoint == "cylindrical/checkpoint-final.pth"
