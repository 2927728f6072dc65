from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.losses import agreement
from mapanything_opv2v.losses.agreement import rotations
from scipy.spatial.transform import Rotation

RAYS = torch.from_numpy(Cylinder(16, 8, 60.0, 0.0).rays()).float()[None]
RANGE = torch.full((1, 8, 16, 1), 10.0)
EVERYWHERE = torch.ones(1, 8, 16, dtype=torch.bool)
OPTIONS = {"softness": 0.1, "hidden_beyond": 0.25}


def compare(points, *, range_b=RANGE, R=None, t=None, surface=EVERYWHERE, rays=RAYS):
    R = torch.eye(3)[None] if R is None else R
    t = torch.zeros(1, 3) if t is None else t
    return agreement(points, range_b, rays, R, t, surface, **OPTIONS)


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        (1.0, 0.0),
        (math.exp(0.1), 0.5),  # at the softness
        (math.exp(-0.2), 0.8),  # 0.04 / (0.04 + 0.01)
        (1.3, None),  # behind the surface: hidden
    ],
)
def test_one_point_by_hand(factor, expected):
    points = 10 * factor * RAYS[:, 3, 5][:, None]
    loss, visible = compare(points)
    assert visible.item() == (expected is not None)
    assert torch.isclose(loss, torch.tensor(expected or 0.0), atol=1e-5).all()


def test_a_point_that_b_does_not_see_says_nothing():
    above = torch.tensor([[[0.0, -10, 1]]])
    assert not compare(above)[1].any()
    surface = EVERYWHERE.clone()
    surface[0, 3, 5] = False
    assert not compare(10 * RAYS[:, 3, 5][:, None], surface=surface)[1].any()


def test_a_sphere_seen_from_two_places_agrees():
    """Independent construction: ranges of one sphere, intersected from two posed cameras."""
    turn = Rotation.from_euler("yxz", [40, 5, -3], degrees=True)
    t_b = np.array([1.5, 0.2, -2.0])
    rays = Cylinder(128, 64, 60.0, 0.0).rays()

    def ranges(origin, directions, radius=12.0):
        b = directions @ origin
        return -b + np.sqrt(b * b - origin @ origin + radius**2)

    points = torch.from_numpy(rays * ranges(np.zeros(3), rays)[..., None]).float().flatten(0, 1)[None]
    same = {
        "range_b": torch.from_numpy(ranges(t_b, rays @ turn.as_matrix().T)).float()[None, ..., None],
        "rays": torch.from_numpy(rays).float()[None],
        "surface": torch.ones(1, 64, 128, dtype=torch.bool),
        "R": rotations(torch.from_numpy(turn.as_quat()).float()[None]),
    }
    t = torch.from_numpy(t_b).float()[None]
    loss, visible = compare(points, t=t, **same)
    assert visible.float().mean() > 0.5 and loss[visible].mean() < 1e-3  # what half a pixel makes
    worse, _ = compare(points, t=t + torch.tensor([[3.0, 0, 0]]), **same)
    assert worse[visible].mean() > 0.1


def test_the_scale_cancels():
    points = RAYS.flatten(1, 2) * 9.5
    t = torch.tensor([[0.5, 0.0, -0.3]])
    small, seen = compare(points, t=t)
    large, seen_too = compare(7 * points, range_b=7 * RANGE, t=7 * t)
    assert torch.equal(seen, seen_too) and torch.allclose(small, large, atol=1e-5)


def test_gradients_reach_both_views_and_the_pose():
    points = (RAYS.flatten(1, 2) * 9.7).requires_grad_()
    range_b, t = RANGE.clone().requires_grad_(), torch.zeros(1, 3, requires_grad=True)
    quaternion = torch.tensor([[0.0, 0.02, 0, 1]], requires_grad=True)
    loss, _ = compare(points, range_b=range_b, R=rotations(quaternion), t=t + torch.tensor([[0.3, 0, 0]]))
    loss.sum().backward()
    for tensor in (points, range_b, t):
        assert torch.isfinite(tensor.grad).all() and tensor.grad.abs().sum() > 0
    assert torch.isfinite(quaternion.grad).all()
    # Points lie in front of the surface: they are pushed outwards, the surface inwards.
    assert (points.grad * RAYS.flatten(1, 2)).sum() < 0 < range_b.grad.sum()


def test_a_point_in_the_camera_itself_is_finite():
    points = torch.zeros(1, 1, 3, requires_grad=True)
    loss, _ = compare(points)
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(points.grad).all()


def test_rotations_agree_with_scipy():
    quaternions = np.random.default_rng(0).normal(size=(5, 4))
    expected = Rotation.from_quat(quaternions).as_matrix()
    assert np.allclose(rotations(torch.from_numpy(quaternions)), expected)
