from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from evaluation_cases import perfect, pose
from mapanything_opv2v.evaluation.measure import evaluate_frame
from mapanything_opv2v.evaluation.options import ALIGNMENTS, EvaluationOptions
from mapanything_opv2v.evaluation.results import scale_warning, summarise

ERRORS = (
    "depth_rmse_m",
    "depth_relative",
    "scale_log_error",
    "pose_translation_m",
    "pose_rotation_deg",
    "vehicle_translation_m",
    "vehicle_rotation_deg",
    "chamfer_filtered_m",
    "ray_angle_deg",
)


@pytest.mark.parametrize("how", ALIGNMENTS)
def test_the_truth_in_another_world_has_no_error(how):
    frame = perfect(np.random.default_rng(1))
    found = evaluate_frame(frame, EvaluationOptions(alignment=how))
    assert {name: found[name] for name in ERRORS} == pytest.approx(dict.fromkeys(ERRORS, 0), abs=1e-4)
    assert found["mask_iou"] == found["bev_iou_filtered"] == 1
    assert found["views"] == found["vehicles"] == 3


def test_a_world_moved_and_turned_changes_nothing():
    """Poses are compared in one frame: the model's own choice of world is no error."""
    frame = perfect(np.random.default_rng(2), range_m=np.full((3, 8, 32), 9, np.float32))
    moved = dataclasses.replace(
        frame, pose_world_cam_pred=pose((30, 80, -50), (100, 200, 300)) @ frame.pose_world_cam_pred
    )
    assert evaluate_frame(moved) == pytest.approx(evaluate_frame(frame), abs=1e-6)


def test_a_scale_applied_twice_is_detected():
    rng = np.random.default_rng(3)
    once = [perfect(rng, metric_scale=1.7) for _ in range(3)]
    twice = [
        dataclasses.replace(
            frame,
            range_m=(frame.range_m * 1.7).astype(np.float32),
            pose_world_cam_pred=frame.pose_world_cam_pred * np.array([[1, 1, 1, 1.7]] * 3 + [[1, 1, 1, 1]]),
        )
        for frame in once
    ]
    good = summarise({str(i): evaluate_frame(frame) for i, frame in enumerate(once)})
    bad = summarise({str(i): evaluate_frame(frame) for i, frame in enumerate(twice)})
    assert good["scale_applied"] == {"once": 3} and scale_warning(good) is None
    assert bad["scale_applied"] == {"twice": 3}
    assert "in 3 of 3 frames the ranges look as if the metric scale were applied twice" in scale_warning(bad)
    assert bad["figures"]["scale_ratio"]["mean"] == pytest.approx(1.7)
    assert bad["figures"]["pose_translation_m"]["mean"] > 1


def test_similarity_hides_the_scale_that_a_rigid_alignment_shows():
    frame = perfect(np.random.default_rng(4))
    T = frame.pose_world_cam_pred.copy()
    T[:, :3, 3] *= 2
    frame = dataclasses.replace(frame, pose_world_cam_pred=T, range_m=2 * frame.range_m)
    similar = evaluate_frame(frame, EvaluationOptions(alignment="similarity"))
    rigid = evaluate_frame(frame, EvaluationOptions(alignment="cameras"))
    assert similar["pose_translation_m"] < 1e-6 < 1 < rigid["pose_translation_m"]
    assert similar["chamfer_filtered_m"] < 1e-3 < 1 < rigid["chamfer_filtered_m"]
    assert similar["scale_ratio"] == rigid["scale_ratio"] == pytest.approx(2)  # ranges are never aligned


def test_what_the_file_lacks_is_not_measured():
    rng = np.random.default_rng(5)
    found = evaluate_frame(perfect(rng, pose_world_cam_true=None))
    assert "pose_translation_m" not in found and found["depth_rmse_m"] == 0
    found = evaluate_frame(perfect(rng, range_m_true=None, mask_true=None))
    assert "depth_rmse_m" not in found and "chamfer_raw_m" not in found
    assert found["vehicle_rotation_deg"] == pytest.approx(0, abs=1e-5) and found["mask_iou"] is None
    with pytest.raises(ValueError, match="test/town/000001_agent5: the predictions hold no truth"):
        evaluate_frame(perfect(rng, range_m_true=None, pose_world_cam_true=None))


def test_unknown_alignment():
    with pytest.raises(ValueError, match="alignment='icp': expected one of"):
        EvaluationOptions(alignment="icp")
