from __future__ import annotations

import numpy as np
import torch
from mapanything_opv2v.geometry import T_world_cam_opencv, transform_points
from mapanything_opv2v.losses import height_above_camera, height_excess, log_depth_gap, scene_size


def test_gap_by_hand():
    gap = log_depth_gap(torch.tensor([0.0, 3, 7]), torch.tensor([0.0, 1, 7]))
    assert torch.allclose(gap, torch.tensor([0.0, np.log(2), 0]).float())


def test_height_by_hand():
    level = torch.eye(4)[None]
    points = torch.tensor([[[[0.0, 2, 9], [5, -3, 1]]]])  # y points down
    assert height_above_camera(points, level).flatten().tolist() == [-2, 3]
    upside_down = torch.diag(torch.tensor([-1.0, -1, 1, 1]))[None]
    assert height_above_camera(points, upside_down).flatten().tolist() == [2, -3]


def test_height_agrees_with_carla_poses():
    """Heights of points in a tilted camera are differences of CARLA's z."""
    rng = np.random.default_rng(4)
    pose = [10.0, -4.0, 7.0, 12.0, 130.0, -20.0]  # x, y, z, roll, yaw, pitch
    T = T_world_cam_opencv(pose)
    points = rng.normal(size=(1, 5, 6, 3)) * 20
    z_up = -transform_points(T, points)[..., 1]
    got = height_above_camera(torch.from_numpy(points), torch.from_numpy(T)[None])
    assert np.allclose(got, z_up - 7.0)


def test_excess_by_hand():
    height = torch.tensor([-9.0, -6, 0, 40, 43])
    assert height_excess(height, -6, 40).tolist() == [3, 0, 0, 0, 3]


def test_scene_size_by_hand():
    points = [torch.tensor([[[[3.0, 4, 0], [0, 0, 9]]]]), torch.tensor([[[[0.0, 0, 1], [7, 7, 7]]]])]
    masks = [torch.tensor([[[True, False]]]), torch.tensor([[[True, False]]])]
    size, known = scene_size(points, masks)
    assert size.tolist() == [3] and known.tolist() == [True]  # (5 + 1) / 2


def test_a_scene_of_sky_has_no_size():
    size, known = scene_size([torch.ones(2, 1, 2, 3)], [torch.tensor([[[True, True]], [[False, False]]])])
    assert known.tolist() == [True, False] and size[1] == 1
