"""Views, their points, and whose poses place them."""

import re

import numpy as np
import pytest
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.views.frame import Cloud, Estimate, Frame, Pinhole, View, view_cloud


def pose(x=0.0, y=0.0, z=0.0):
    T = np.eye(4)
    T[:3, 3] = x, y, z
    return T


def rng():
    return np.random.default_rng(1)


CAMERA = Pinhole(np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]), 2, 1)  # rays (0, 0, 1) and (1, 0, 1) / sqrt(2)
IMAGE = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
ROOT2 = 2**0.5


def estimate(ranges, T=None, **more):
    return Estimate(pose() if T is None else T, np.array([ranges], np.float32), CAMERA.rays(), **more)


def test_points_by_hand():
    view = View("camera0", 641, IMAGE, CAMERA, true=estimate([2, 3 * ROOT2], pose(10, 0, 5)))
    cloud = view_cloud(view, "gt", "gt", 9, rng())
    np.testing.assert_allclose(cloud.xyz, [[10, 0, 7], [13, 0, 8]], atol=1e-6)
    assert cloud.rgb.tolist() == [[1, 2, 3], [4, 5, 6]] and cloud.error_m is None
    assert view.label == "641 camera0" and view.size_wh == (2, 1)


def test_predicted_points_have_errors_where_truth_is_known():
    true, pred = estimate([2.5, 0], pose(1)), estimate([2, ROOT2], valid=np.array([[True, True]]))
    view = View("camera0", 641, IMAGE, CAMERA, true=true, pred=pred)
    cloud = view_cloud(view, "pred", "pred", 9, rng())
    np.testing.assert_allclose(cloud.xyz, [[0, 0, 2], [1, 0, 1]], atol=1e-6)
    np.testing.assert_allclose(cloud.error_m, [0.5, np.nan])
    np.testing.assert_allclose(view_cloud(view, "gt", "pred", 9, rng()).xyz, [[1, 0, 2], [2, 0, 1]], atol=1e-6)


def test_sky_and_masked_pixels_give_no_points():
    view = View("camera0", 641, IMAGE, CAMERA, true=estimate([-1, 3]))
    assert len(view_cloud(view, "gt", "gt", 9, rng())) == 1
    masked = View("camera0", 641, IMAGE, CAMERA, pred=estimate([2, 3], valid=np.array([[False, False]])))
    assert len(view_cloud(masked, "pred", "pred", 9, rng())) == 0


def test_fewer_points_are_drawn_the_same_each_time_and_far_ones_more_often():
    camera = Cylinder(64, 32)
    ranges = np.where(np.arange(64) < 32, np.float32(1), np.float32(9)) * np.ones((32, 1), np.float32)
    view = View("panorama", 1, np.zeros((32, 64, 3), np.uint8), camera, true=Estimate(pose(), ranges, camera.rays()))
    first, again = (view_cloud(view, "gt", "gt", 200, rng()) for _ in range(2))
    assert len(first) == 200 and np.array_equal(first.xyz, again.xyz)
    far = np.linalg.norm(first.xyz, axis=1) > 5
    assert 0.8 < far.mean() < 0.97
    cloud = Cloud(np.arange(30.0).reshape(10, 3), np.zeros((10, 3), np.uint8), np.arange(10, dtype=np.float32))
    few = cloud.thinned(4, rng())
    assert len(few) == 4 and np.array_equal(few.xyz[:, 0] / 3, few.error_m)
    assert cloud.thinned(10, rng()) is cloud


def test_whose_poses():
    raw = Frame("f", (View("camera0", 1, IMAGE, CAMERA, true=estimate([1, 1])),))
    both = Frame("f", (View("camera0", 1, IMAGE, CAMERA, true=estimate([1, 1]), pred=estimate([1, 1])),))
    assert (raw.pose_source(None), raw.pose_source("gt"), raw.range_source) == ("gt", "gt", "gt")
    assert (both.pose_source(None), both.pose_source("gt"), both.range_source) == ("pred", "gt", "pred")
    with pytest.raises(ValueError, match="f: raw data has no predicted poses; give a predictions file, or gt"):
        raw.pose_source("pred")
    with pytest.raises(ValueError, match="point_pose_source='true', expected one of pred, gt"):
        raw.pose_source("true")
    with pytest.raises(ValueError, match="1 camera0: no prediction is known of this view"):
        raw.views[0].estimate("pred")


def test_titles_name_what_made_the_frame():
    views = (View("camera0", 1, IMAGE, CAMERA, true=estimate([1, 1])),)
    made = Frame("f", views, provenance={"checkpoint": "a.pth", "config": "c", "commit": "0123456789abcdef"})
    assert made.made_by == "a.pth · c · 0123456789ab"
    assert Frame("f", views).made_by == "raw data, no model"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": np.zeros((2, 2, 3), np.uint8)}, "641 camera0: image has shape (2, 2, 3), expected (1, 2, 3)"),
        (
            {"true": Estimate(pose(), masks={"sky": np.ones((2, 2), bool)})},
            "641 camera0: true sky has shape (2, 2), expected (1, 2)",
        ),
    ],
)
def test_wrong_shapes_are_named(changes, message):
    values = {"image": IMAGE, "camera": CAMERA, **changes}
    with pytest.raises(ValueError, match=re.escape(message)):
        View("camera0", 641, **values)


def test_estimates_without_ranges_and_skewed_poses():
    with pytest.raises(ValueError, match="this estimate has no ranges"):
        Estimate(pose()).has_range()
    with pytest.raises(ValueError, match="expected a rotation and translation"):
        Estimate(2 * np.eye(4))
