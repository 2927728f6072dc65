from __future__ import annotations

import math

import numpy as np
import pytest
from evaluation_cases import pose, random_poses
from mapanything_opv2v.evaluation import metrics
from scipy.spatial.transform import Rotation
from sklearn import metrics as sklearn_metrics


def test_ranges_by_hand():
    pred, true = np.array([2.0, 5, 3, 7]), np.array([1.0, 5, 4, 0])  # the last is not known
    found = metrics.range_figures(pred, true)
    assert found == {
        "depth_pixels": 3,
        "depth_rmse_m": pytest.approx(math.sqrt(2 / 3)),
        "depth_mae_m": pytest.approx(2 / 3),
        "depth_relative": pytest.approx((1 + 0 + 0.25) / 3),
        "depth_within_25pct": pytest.approx(1 / 3),
        "scale_ratio": 1.0,
        "scale_log_error": 0.0,
        "depth_relative_scaled": pytest.approx((1 + 0 + 0.25) / 3),
        "depth_within_25pct_scaled": pytest.approx(1 / 3),
    }


def test_ranges_agree_with_sklearn():
    rng = np.random.default_rng(1)
    true = rng.uniform(1, 80, (2, 5, 7)) * (rng.random((2, 5, 7)) < 0.7)
    pred = rng.uniform(1, 80, (2, 5, 7))
    found, known = metrics.range_figures(pred, true), true > 0
    assert found["depth_rmse_m"] == pytest.approx(sklearn_metrics.root_mean_squared_error(true[known], pred[known]))
    assert found["depth_mae_m"] == pytest.approx(sklearn_metrics.mean_absolute_error(true[known], pred[known]))
    relative = sklearn_metrics.mean_absolute_percentage_error(true[known], pred[known])
    assert found["depth_relative"] == pytest.approx(relative)


def test_a_wrong_scale_is_told_from_a_wrong_shape():
    true = np.array([1.0, 5, 4])
    found = metrics.range_figures(2 * true, true)
    assert found["scale_ratio"] == 2 and found["scale_log_error"] == pytest.approx(math.log(2))
    assert found["depth_relative"] == 1 and found["depth_relative_scaled"] == 0


def test_nothing_known_is_nothing_measured():
    found = metrics.range_figures(np.ones(3), np.zeros(3))
    assert found.pop("depth_pixels") == 0 and set(found.values()) == {None}
    assert metrics.range_figures(np.zeros(3), np.ones(3))["scale_log_error"] is None


@pytest.mark.parametrize(
    ("ratio", "scale", "expected"),
    [
        (1.0, 2.0, "once"),
        (2.0, 2.0, "twice"),
        (0.5, 2.0, "never"),
        (0.5, 0.5, "twice"),
        (1.4, 2.0, "unclear"),  # neither
        (1.0, 1.05, "unclear"),  # such a factor changes too little
        (None, 2.0, "unclear"),
    ],
)
def test_how_often_the_scale_is_applied(ratio, scale, expected):
    assert metrics.scale_applied(ratio, scale) == expected


def test_masks_by_hand_and_by_sklearn():
    mask = np.array([[True, True, True, False]])
    true = np.array([[True, True, False, False]])
    assert metrics.mask_figures(mask, true) == {
        "mask_pred_share": 0.75,
        "mask_true_share": 0.5,
        "mask_precision": pytest.approx(2 / 3),
        "mask_recall": 1.0,
        "mask_iou": pytest.approx(2 / 3),
        "mask_accuracy": 0.75,
    }
    rng = np.random.default_rng(3)
    a, b = rng.random((2, 6, 9)) < 0.4, rng.random((2, 6, 9)) < 0.6
    found = metrics.mask_figures(a, b)
    a, b = a.ravel(), b.ravel()
    assert found["mask_precision"] == pytest.approx(sklearn_metrics.precision_score(b, a))
    assert found["mask_recall"] == pytest.approx(sklearn_metrics.recall_score(b, a))
    assert found["mask_iou"] == pytest.approx(sklearn_metrics.jaccard_score(b, a))
    assert found["mask_accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(b, a))


def test_empty_masks_have_no_ratios():
    none = np.zeros((2, 2), dtype=bool)
    found = metrics.mask_figures(none, none)
    assert (found["mask_precision"], found["mask_recall"], found["mask_iou"]) == (None, None, None)
    assert found["mask_accuracy"] == 1
    assert metrics.mask_figures(none, None)["mask_iou"] is None


def test_angles_between_rays():
    forward = np.tile([0.0, 0, 1], (4, 5, 1))
    aside = np.tile([math.sin(0.1), 0, math.cos(0.1)], (4, 5, 1))
    assert metrics.ray_angle_deg(aside, forward) == pytest.approx(math.degrees(0.1))
    tiny = np.tile([1e-9, 0, 1.0], (4, 5, 1))
    assert metrics.ray_angle_deg(tiny, forward) == pytest.approx(math.degrees(1e-9))


def test_poses_by_hand():
    true = np.stack([pose(), pose(xyz=(10, 0, 0)), pose(xyz=(0, 0, 5))])
    pred = np.stack([pose(), pose((0, 30, 0), (10, 3, 4)), pose((0, 0, 10), (0, 0, 5))])
    found = metrics.pose_figures(pred, true, "view0")
    assert found == {"pose_translation_m": pytest.approx(2.5), "pose_rotation_deg": pytest.approx(20)}
    found = metrics.pose_figures(pred, true, "cameras")
    assert found["pose_translation_m"] == pytest.approx(5 / 3)
    alone = metrics.pose_figures(pred[:1], true[:1], "view0")
    assert set(alone.values()) == {None}


def test_poses_between_vehicles_by_hand():
    true = np.stack([pose(), pose(xyz=(10, 0, 0)), pose(xyz=(10, 0, 1))])
    # vehicle 2 (both its cameras) is believed 3 m farther and turned by 12 degrees about its first camera
    moved = pose((0, 12, 0), (13, 0, 0))
    pred = np.stack([pose(), moved, moved @ pose(xyz=(0, 0, 1))])
    found = metrics.vehicle_figures(pred, true, (1, 2, 2))
    assert found["vehicle_pairs"] == 2 and found["vehicle_rotation_deg"] == pytest.approx(12)
    second = np.hypot(3 + math.sin(math.radians(12)), math.cos(math.radians(12)) - 1)
    assert found["vehicle_translation_m"] == pytest.approx((3 + second) / 2)
    one = metrics.vehicle_figures(pred, true, (1, 1, 1))
    assert one.pop("vehicle_pairs") == 0 and set(one.values()) == {None}


def test_poses_between_vehicles_ignore_the_world_and_agree_with_scipy():
    rng = np.random.default_rng(2)
    true, pred = random_poses(rng, 3), random_poses(rng, 3)
    found = metrics.vehicle_figures(pred, true, (1, 2, 3))
    again = metrics.vehicle_figures(pose((10, 50, -70), (4, 4, 4)) @ pred, true, (1, 2, 3))
    assert found == pytest.approx(again)
    angles, away = [], []
    for i, j in ((0, 1), (0, 2), (1, 2)):
        between = []
        for poses in (pred, true):
            R = Rotation.from_matrix(poses[:, :3, :3])
            between.append((R[i].inv() * R[j], R[i].inv().apply(poses[j, :3, 3] - poses[i, :3, 3])))
        angles.append(np.degrees((between[0][0].inv() * between[1][0]).magnitude()))
        away.append(np.linalg.norm(between[0][1] - between[1][1]))
    assert found["vehicle_rotation_deg"] == pytest.approx(np.mean(angles))
    assert found["vehicle_translation_m"] == pytest.approx(np.mean(away))


def test_mask_figures_count_known_pixels_only():
    mask = np.array([True, True, False, True])
    true = np.array([True, True, True, False])
    ranges = np.array([5.0, 0.0, 0.0, 0.0])  # the second and third may be sky or surface
    figures = metrics.mask_figures(mask, true, ranges)
    assert figures["mask_known_share"] == 0.5 and figures["mask_true_share"] == 0.5
    assert figures["mask_accuracy"] == 0.5 and figures["mask_iou"] == 0.5 and figures["mask_recall"] == 1
    assert metrics.mask_figures(mask, true)["mask_accuracy"] == 0.5
    nothing = metrics.mask_figures(mask, np.ones(4, bool), np.zeros(4))
    assert nothing["mask_known_share"] == 0 and nothing["mask_iou"] is None and nothing["mask_pred_share"] is None
