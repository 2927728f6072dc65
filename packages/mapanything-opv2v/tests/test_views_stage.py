"""The axes of pages with a scene, by hand."""

import numpy as np
import pytest
from mapanything_opv2v.geometry import Cylinder, T_world_cam_opencv
from mapanything_opv2v.views import stage as stages
from mapanything_opv2v.views.frame import Cloud, Estimate, Pinhole, View
from mapanything_opv2v.views.stage import Stage


def cloud(xyz):
    return Cloud(np.asarray(xyz, float), np.zeros((len(xyz), 3), np.uint8))


def test_x_is_the_heading_y_left_z_up():
    stage = Stage.around(T_world_cam_opencv([100, 50, 2, 0, 90, 0]))  # CARLA: looking along +y
    carla = np.array([[100, 51, 2], [101, 50, 2], [100, 50, 3]])  # 1 m ahead, left, up
    opencv = np.stack([carla[:, 1], -carla[:, 2], carla[:, 0]], axis=1)
    np.testing.assert_allclose(stage.points(opencv), [[1, 0, 0], [0, 1, 0], [0, 0, 1]], atol=1e-9)


def test_up_stays_up_where_the_camera_is_tilted():
    stage = Stage.around(T_world_cam_opencv([0, 0, 0, 5, 30, 20]))
    np.testing.assert_allclose(stage.points(np.array([0, -1.0, 0])), [0, 0, 1], atol=1e-12)
    assert np.linalg.det(stage.T_page_world[:3, :3]) == pytest.approx(1)


def test_cameras_are_drawn_by_their_corner_rays():
    stage = Stage.around(np.eye(4))
    K = np.array([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    image = np.zeros((2, 2, 3), np.uint8)
    drawn = stage.camera(View("camera0", 1, image, Pinhole(K, 2, 2)), np.eye(4))
    assert drawn["centre"] == [0, 0, 0] and drawn["forward"] == [1, 0, 0]
    corner = stages.FRUSTUM_M / np.sqrt(1.5) * np.array([1, 0.5, 0.5])  # first: left and up
    np.testing.assert_allclose(drawn["corners"][0], corner, atol=1e-4)
    ring = stage.camera(View("panorama", 1, image, Cylinder(2, 2)), np.eye(4))["corners"]
    np.testing.assert_allclose(np.linalg.norm(ring, axis=1), stages.FRUSTUM_M, atol=1e-4)
    rays = np.broadcast_to([0.0, 0, 1], (2, 2, 3))
    pred = Estimate(np.eye(4), np.ones((2, 2), np.float32), rays)
    bare = stage.camera(View("camera0", 1, image, None, pred=pred), np.eye(4))
    assert bare["corners"] == [[stages.FRUSTUM_M, 0, 0]] * 4


def test_ground_under_points_else_boxes_else_a_guess():
    stage = Stage(np.eye(4))
    low = cloud([[x, 0, -1.5] for x in range(20)] + [[0, 0, 5]] * 3)
    assert stages.ground_m(stage, [low, cloud(np.empty((0, 3)))], []) == -1.5
    box = {"corners": [[0, 0, -1], [0, 0, 1]]}
    assert stages.ground_m(stage, [cloud([[500, 0, -9]])], [box]) == -1
    assert stages.ground_m(stage, [], []) == -1.9


def test_names():
    assert (stages.vehicle_name(641), stages.vehicle_name(-2)) == ("vehicle 641", "infrastructure -2")
