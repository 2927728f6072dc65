from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evaluation_cases import perfect, pose
from mapanything_opv2v.evaluation import baselines, verdict
from mapanything_opv2v.evaluation.baselines import Truth
from mapanything_opv2v.evaluation.measure import evaluate_frame
from scipy.optimize import minimize


def truth(ranges, poses, agents=(5, 6), mask=None):
    """Samples of two panoramas of 1 x 3 pixels."""
    range_m = np.array(ranges, dtype=np.float32).reshape(len(agents), 1, -1)
    rays = np.zeros((*range_m.shape, 3), dtype=np.float32)
    rays[..., 2] = 1
    return Truth(
        agents=agents,
        cameras=None,
        pose_world_cam=np.stack(poses),
        range_m=range_m,
        mask=np.ones(range_m.shape, dtype=bool) if mask is None else np.array(mask, dtype=bool).reshape(range_m.shape),
        rays=rays,
    )


def test_a_fit_by_hand():
    """Three samples: relative poses 1 m, 2 m and 9 m ahead; pixel medians, an unknown pixel, a pixel of sky."""
    start = pose((0, 30, 0), (100, 0, -7))  # the world must not matter
    samples = [
        truth([[4, 5, 1], [10, 0, 0]], [start, start @ pose((0, 10, 0), (0, 0, 1))], mask=[[1, 1, 1], [1, 1, 0]]),
        truth([[6, 5, 2], [20, 0, 0]], [start, start @ pose((0, 0, 0), (0, 0, 2))], mask=[[1, 1, 1], [1, 1, 0]]),
        truth([[9, 5, 9], [60, 0, 3]], [start, start @ pose((0, 1, 0), (0, 0, 9))]),
    ]
    fitted = baselines.fit(samples)
    assert fitted.roles == ((False, -1), (True, -1)) and fitted.samples == 3
    other, own = fitted.range_m
    assert own.tolist() == [[6, 5, 2]]
    # 20 of 10, 20, 60; the middle pixel is never known: the row's 3, 10, 20, 60; sky twice, once 3
    assert other.tolist() == [[20, 15, 3]]
    assert fitted.mask.tolist() == [[[True, True, False]], [[True, True, True]]]
    assert np.allclose(fitted.T_view0_view[0], pose((0, 1, 0), (0, 0, 2)), atol=1e-5)
    assert np.allclose(fitted.T_view0_view[1], np.eye(4))


def test_the_middle_of_points_and_rotations():
    rng = np.random.default_rng(3)
    points = rng.normal(size=(40, 3)) * (1, 5, 20)
    found = baselines.geometric_median(points)
    best = minimize(lambda x: np.linalg.norm(points - x, axis=1).mean(), points.mean(axis=0), tol=1e-12).x
    assert np.allclose(found, best, atol=1e-3)
    # half of the cars come towards us: a mean rotation would look to the side
    turns = np.stack([pose((0, angle, 0))[:3, :3] for angle in (0, 2, -2, 179, 181)])
    assert np.allclose(baselines.medoid_rotation(turns), turns[0])


def test_the_constant_is_exact_where_the_truth_is_constant():
    rng = np.random.default_rng(0)
    frames = [perfect(rng, views=2, frame="000000")]
    for number in range(1, 4):
        moved = pose(rng.uniform(-90, 90, 3), rng.uniform(-20, 20, 3))
        moved_poses = moved @ frames[0].pose_world_cam_true
        meta = replace(frames[0].meta, frame=f"{number:06d}")
        frames.append(replace(frames[0], meta=meta, pose_world_cam_true=moved_poses))
    fitted = baselines.fit(Truth.of(frame) for frame in frames[:3])
    wrong = replace(frames[3], range_m=frames[3].range_m * np.float32(3))
    figures = evaluate_frame(fitted.predict(wrong))
    assert figures["pose_translation_m"] == pytest.approx(0, abs=1e-6)
    assert figures["depth_relative"] == pytest.approx(0, abs=1e-3) and figures["mask_iou"] == 1
    assert evaluate_frame(wrong)["depth_relative"] == pytest.approx(2, abs=1e-3)


def test_view0_copied_by_hand():
    rng = np.random.default_rng(1)
    frame = perfect(rng, views=2)
    figures = evaluate_frame(baselines.copied(frame))
    away = np.linalg.norm(frame.pose_world_cam_true[1, :3, 3] - frame.pose_world_cam_true[0, :3, 3])
    assert figures["pose_translation_m"] == pytest.approx(away) == figures["vehicle_translation_m"]
    copy = baselines.copied(frame)
    assert np.array_equal(copy.range_m[1], frame.range_m[0]) and np.array_equal(copy.range_m[0], frame.range_m[0])
    assert copy.metric_scale == frame.metric_scale


def test_a_fit_comes_back_from_its_file(tmp_path):
    rng = np.random.default_rng(2)
    frame = perfect(rng, views=3)
    fitted = baselines.fit([Truth.of(frame)])
    baselines.save(tmp_path / "constant.npz", fitted, {"split": "train"})
    again, provenance = baselines.load(tmp_path / "constant.npz")
    assert provenance == {"split": "train"} and again.roles == fitted.roles and again.samples == 1
    for name in ("T_view0_view", "range_m", "mask", "rays"):
        assert np.array_equal(getattr(again, name), getattr(fitted, name))
    (tmp_path / "constant.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"constant\.npz: no fitted constant baseline"):
        baselines.load(tmp_path / "constant.npz")


def test_what_cannot_be_fitted_says_why():
    with pytest.raises(ValueError, match="no samples to fit the constant on"):
        baselines.fit([])
    empty = truth([[0, 0, 0], [0, 0, 0]], [pose(), pose()])
    with pytest.raises(ValueError, match="none of 1 samples has a known range; their split has no depth maps"):
        baselines.fit([empty])
    with pytest.raises(ValueError, match=r"views of \(3, 1\) and \(2, 1\) pixels; fit the constant on one size"):
        baselines.fit([truth([[1, 2, 3], [1, 2, 3]], [pose(), pose()]), truth([[1, 2], [1, 2]], [pose(), pose()])])
    frame = perfect(np.random.default_rng(0), views=2)
    with pytest.raises(ValueError, match="some are missing"):
        Truth.of(replace(frame, range_m_true=None))
    fitted = baselines.fit([truth([[1, 2, 3], [1, 2, 3]], [pose(), pose()])])
    with pytest.raises(ValueError, match="views of 32 x 8, the constant baseline was fitted on 3 x 1"):
        fitted.predict(frame)


def test_a_role_that_training_did_not_have_takes_the_nearest():
    fitted = baselines.fit([truth([[1, 2, 3], [4, 5, 6]], [pose(), pose(xyz=(1, 0, 0))])])
    assert fitted._row((True, -1)) == 1 and fitted._row((False, -1)) == 0
    alone = baselines.fit([truth([[1, 2, 3]], [pose()], agents=(5,))])
    assert alone._row((False, -1)) == 0


def test_a_verdict_by_hand():
    model = {
        "a": {"depth_relative": 0.1, "mask_iou": 0.5, "chamfer_raw_m": 1.0},
        "b": {"depth_relative": 0.3, "mask_iou": 0.7, "chamfer_raw_m": None},
        "c": {"depth_relative": 9.0},
    }
    base = {
        "a": {"depth_relative": 0.3, "mask_iou": 0.6, "chamfer_raw_m": 1.0},
        "b": {"depth_relative": 0.3, "mask_iou": 0.7, "chamfer_raw_m": 5.0},
    }
    judged = {item.figure: item for item in verdict.judge(model, base)}
    assert judged["depth_relative"] == verdict.Judged("depth_relative", pytest.approx(0.2), pytest.approx(0.3), 2)
    assert judged["depth_relative"].better and not judged["mask_iou"].better
    assert not judged["chamfer_raw_m"].better  # a tie
    found = verdict.to_json(list(judged.values()))
    assert found["loses_in"] == ["mask_iou"] and found["ties_in"] == ["chamfer_raw_m"]
    text = verdict.sentence("constant", list(judged.values()))
    assert text == ("constant: the model LOSES in 1 of 3 figures: mask_iou (0.6 against 0.65); a tie in chamfer_raw_m")
    assert verdict.sentence("constant", [judged["depth_relative"]]) == "constant: the model is better in 1 of 1 figures"
    tie = "constant: the model is better in 0 of 1 figures; a tie in chamfer_raw_m"
    assert verdict.sentence("constant", [judged["chamfer_raw_m"]]) == tie
    assert verdict.sentence("constant", []) == "constant: no figure that both have"
