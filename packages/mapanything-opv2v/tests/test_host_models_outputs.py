"""Outputs of models that have others than MapAnything's; no host is needed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mapanything_opv2v.host.models import outputs


def test_points_become_rays_and_ranges():
    """(3, 4, 0) is 5 m away along (0.6, 0.8, 0); a point in the camera's centre looks ahead."""
    points = torch.tensor([[3.0, 4, 0], [0, 0, 0]]).reshape(1, 1, 2, 3)
    rays, ranges = outputs.rays_and_ranges([{"pts3d_cam": points}], 0)
    assert rays.shape == (1, 1, 2, 3) and ranges.tolist() == [[[5, 0]]]
    assert np.allclose(rays[0, 0], [[0.6, 0.8, 0], [0, 0, 1]])
    with pytest.raises(ValueError, match=r"predicts no ranges in its views' own axes \(it has pts3d\); expected"):
        outputs.rays_and_ranges([{"pts3d": points}], 0)


def test_rays_and_ranges_are_taken_as_they_are():
    preds = [
        {"ray_directions": torch.full((2, 1, 1, 3), k), "depth_along_ray": torch.full((2, 1, 1, 1), k)}
        for k in (1.0, 2.0)
    ]
    rays, ranges = outputs.rays_and_ranges(preds, 1)
    assert rays[:, 0, 0, 0].tolist() == [1, 2] and ranges.tolist() == [[[1]], [[2]]]


@pytest.mark.parametrize("last", [(), (1,)])
def test_confidence_with_a_last_axis_of_one_or_without(last):
    """Pi3 has (B, H, W, 1), MapAnything (B, H, W)."""
    conf = torch.arange(12.0).reshape(2, 2, 3, *last)
    found = outputs.confidence_of([{"conf": conf}, {"conf": conf + 1}], 1)
    assert found.dtype == np.float32 and found.tolist() == [[[6, 7, 8], [9, 10, 11]], [[7, 8, 9], [10, 11, 12]]]
    assert outputs.confidence_of([{}], 0) is None


def test_several_views_need_poses():
    turn = torch.tensor([[0.0, 0, 2**-0.5, 2**-0.5]])  # x, y, z, w: 90 degrees about z
    poses = outputs.poses_of([{"cam_quats": turn, "cam_trans": torch.tensor([[1.0, 2, 3]])}], 0)
    assert np.allclose(poses[0], [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])
    assert np.array_equal(outputs.poses_of([{"pts3d": 0}], 0), np.eye(4)[None])
    with pytest.raises(ValueError, match=r"predicts no poses \(it has pts3d\); give it one view, --num-views 1"):
        outputs.poses_of([{"pts3d": 0}] * 2, 0)
