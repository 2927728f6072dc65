"""Figures, pictures and arrays of views."""

import json

import numpy as np
import pytest
from mapanything_opv2v import rawdata
from mapanything_opv2v.views.figures import error_limit_m, range_error, view_figures, write_figures
from mapanything_opv2v.views.frame import Estimate, Pinhole, View, view_cloud
from mapanything_opv2v.views.sources import load_predicted_frame

CAMERA = Pinhole(np.eye(3), 2, 1)


def view(**changes):
    turned = np.array([[0, -1.0, 0, 3], [1, 0, 0, 4], [0, 0, 1, 0], [0, 0, 0, 1]])  # 90 degrees, 5 m away
    true = Estimate(turned, np.array([[4, 0]], np.float32), CAMERA.rays())
    pred = Estimate(np.eye(4), np.array([[7, 9]], np.float32), CAMERA.rays(), scale=2.0)
    return View("camera0", 641, np.zeros((1, 2, 3), np.uint8), CAMERA, **{"true": true, "pred": pred, **changes})


def test_errors_by_hand():
    figures = view_figures(view(), "pred")
    assert figures["translation_error_m"] == pytest.approx(5)
    assert figures["rotation_error_deg"] == pytest.approx(90)
    assert figures["depth_rmse_m"] == pytest.approx(3)  # the second pixel's truth is not known
    assert figures["depth_scale_ratio"] == pytest.approx(7 / 4)
    assert (figures["metric_scale"], figures["depth_share_pred"], figures["depth_share_true"]) == (2, 1, 0.5)
    assert figures["pose_world_cam"] == np.eye(4).tolist() and figures["pose_source"] == "pred"
    error, known = range_error(view())
    assert error[0, 0] == 3 and known.tolist() == [[True, False]]


def test_truth_alone_has_no_errors():
    figures = view_figures(view(pred=None), "gt")
    assert figures["pose_world_cam"][0][3] == 3 and range_error(view(pred=None)) is None
    assert not {"depth_rmse_m", "metric_scale", "translation_error_m"} & set(figures)


def test_files_of_every_view(town_predictions, tmp_path):
    frame = load_predicted_frame(town_predictions)
    path = write_figures(tmp_path, frame, "pred")
    summary = json.loads(path.read_text())
    assert (summary["checkpoint"], summary["point_pose_source"]) == ("checkpoint-best.pth", "pred")
    assert len(summary["views"]) == 4
    for figures, shown in zip(summary["views"], frame.views):
        assert np.array_equal(np.load(tmp_path / figures["depth"]), shown.pred.range_m)
        height, width = shown.image.shape[:2]
        rows, columns, _ = rawdata.load_image(tmp_path / figures["picture"]).shape
        assert columns == width and rows >= 4 * (height + 24)  # four pictures, captions of one line or more
        known = shown.true.has_range()
        expected = np.sqrt(np.mean((0.1 * shown.true.range_m[known].astype(float)) ** 2))
        assert figures["depth_rmse_m"] == pytest.approx(expected, rel=1e-4)
        assert figures["depth_scale_ratio"] == pytest.approx(1.1, rel=1e-5)
    assert [round(v["translation_error_m"], 6) for v in summary["views"]] == [0, 0.5, 0.5, 0.5]
    # the whole frame: means of its views, and the box of its points
    assert summary["translation_error_m"] == pytest.approx(0.375)
    assert summary["depth_scale_ratio"] == pytest.approx(1.1, rel=1e-5)
    assert summary["depth_rmse_m"] == pytest.approx(np.mean([v["depth_rmse_m"] for v in summary["views"]]))
    assert summary["pred_mask_mean"] == pytest.approx(np.mean([v.pred.masks["mask"].mean() for v in frame.views]))
    assert summary["gt_mask_mean"] == pytest.approx(np.mean([v.true.masks["mask"].mean() for v in frame.views]))
    xyz = np.concatenate([view_cloud(v, "pred", "pred", 10**6, np.random.default_rng(0)).xyz for v in frame.views])
    assert np.allclose(summary["bounds"]["min"], xyz.min(axis=0), atol=1e-3)
    assert np.allclose(summary["bounds"]["max"], xyz.max(axis=0), atol=1e-3)


def test_the_mask_of_raw_views_is_what_is_seen_and_no_sky():
    sky, covered = np.array([[True, False, False, False]]), np.array([[True, True, False, True]])
    ranges, rays = np.array([[-1.0, 2.0, 0.0, 0.0]], np.float32), np.tile([0.0, 0.0, 1.0], (1, 4, 1))
    image = np.zeros((1, 4, 3), np.uint8)
    true = Estimate(np.eye(4), ranges, rays, masks={"covered": covered, "sky": sky})
    figures = view_figures(View("panorama", 1, image, None, true=true), "gt")
    assert figures["gt_mask_mean"] == 0.5 and "pred_mask_mean" not in figures


@pytest.mark.parametrize(
    ("errors", "limit"), [([0.1] * 10, 1), ([3.0] * 10, 5), ([900.0] * 10, 50), ([1.0] * 95 + [9.0] * 5, 1)]
)
def test_errors_are_drawn_to_a_limit_that_fits(errors, limit):
    error = np.array([[*errors, 1e6]])
    known = error < 1e6
    assert error_limit_m(error, known) == limit
    assert error_limit_m(error, np.zeros_like(known)) == 1
