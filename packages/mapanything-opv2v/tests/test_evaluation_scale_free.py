"""Models that predict no metric scale: figures that need none, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evaluation_cases import perfect
from mapanything_opv2v.evaluation.measure import evaluate_frame
from mapanything_opv2v.evaluation.metrics import NEED_SCALE, vehicle_figures
from mapanything_opv2v.evaluation.options import EvaluationOptions
from mapanything_opv2v.evaluation.results import summarise
from mapanything_opv2v.predictions import load_predictions, save_predictions


def shrunk(frame, factor):
    """The same scene in another unit, as a model without a scale might see it."""
    poses = frame.pose_world_cam_pred.copy()
    poses[:, :3, 3] *= factor
    return replace(frame, range_m=frame.range_m * np.float32(factor), pose_world_cam_pred=poses, metric_scale=None)


def test_a_perfect_scene_in_another_unit_is_perfect_without_a_scale(tmp_path):
    frame = shrunk(perfect(np.random.default_rng(4)), 0.25)
    frame = load_predictions(save_predictions(tmp_path, frame))
    assert frame.metric_scale is None
    figures = evaluate_frame(frame)
    assert figures["metric_scale"] is None
    assert all(figures[name] is None for name in NEED_SCALE)
    assert "chamfer_raw_m" not in figures
    for name in ("pose_translation_scaled_m", "vehicle_translation_scaled_m", "depth_relative_scaled"):
        assert figures[name] == pytest.approx(0, abs=1e-5), name
    assert figures["vehicle_direction_deg"] == pytest.approx(0, abs=1e-4)
    assert figures["depth_within_25pct_scaled"] == 1
    assert summarise({"a": figures})["scale_applied"] == {"unclear": 1}


def test_an_alignment_with_a_scale_brings_poses_to_metres():
    frame = shrunk(perfect(np.random.default_rng(4)), 0.25)
    figures = evaluate_frame(frame, EvaluationOptions(alignment="similarity"))
    assert figures["pose_translation_m"] == pytest.approx(0, abs=1e-6)
    assert figures["depth_rmse_m"] is None and figures["pose_translation_scaled_m"] is None
    assert figures["chamfer_raw_m"] is not None


def test_a_metric_model_has_both_kinds():
    frame = perfect(np.random.default_rng(4))
    half = replace(shrunk(frame, 0.5), metric_scale=1.0)
    figures = evaluate_frame(half)
    assert figures["pose_translation_m"] > 1 and figures["pose_translation_scaled_m"] == pytest.approx(0, abs=1e-5)
    assert figures["depth_within_25pct"] == 0 and figures["depth_within_25pct_scaled"] == 1


def test_directions_by_hand():
    true = np.stack([np.eye(4)] * 2)
    pred = true.copy()
    true[1, :3, 3], pred[1, :3, 3] = (0, 0, 10), (3, 0, 3)
    assert vehicle_figures(pred, true, (5, 6))["vehicle_direction_deg"] == pytest.approx(45)
    pred[1, :3, 3] = 0  # stands nowhere else: no direction
    assert vehicle_figures(pred, true, (5, 6))["vehicle_direction_deg"] is None
