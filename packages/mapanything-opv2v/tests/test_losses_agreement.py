from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.losses import bounded, range_gap, rotations
from scipy.spatial.transform import Rotation

RAYS = torch.from_numpy(Cylinder(16, 8, 60.0, 0.0).rays()).float()[None]
RANGE = torch.full((1, 8, 16, 1), 10.0)
EVERYWHERE = torch.ones(1, 8, 16, dtype=torch.bool)


def compare(points, *, range_b=RANGE, R=None, t=None, surface=EVERYWHERE, rays=RAYS):
    R = torch.eye(3)[None] if R is None else R
    t = torch.zeros(1, 3) if t is None else t
    return range_gap(points, range_b, rays, R, t, surface)


@pytest.mark.parametrize(("range_m", "expected"), [(10, 0.0), (20, math.log(2)), (5, -math.log(2))])
def test_one_point_by_hand(range_m, expected):
    gap, known = compare(range_m * RAYS[:, 3, 5][:, None])
    assert known.all() and torch.isclose(gap, torch.tensor(expected), atol=1e-5).all()


def test_the_bounded_loss_by_hand():
    gap = torch.tensor([0.0, 0.1, -0.1, 0.2, 100])
    assert torch.allclose(bounded(gap, 0.1), torch.tensor([0, 0.5, 0.5, 0.8, 1.0]), atol=1e-5)


def test_inverse_ranges_are_interpolated():
    """Half way between two columns of 10 and 5 m: 1 / (0.05 + 0.1) = 6.67 m."""
    range_b = RANGE.clone()
    range_b[:, :, 6] = 5
    direction = torch.nn.functional.normalize(RAYS[:, 3, 5] + RAYS[:, 3, 6], dim=-1)
    azimuth = torch.atan2(direction[:, 0], direction[:, 2])
    elevation = torch.asin(RAYS[0, 3, 5, 1])
    level = torch.cos(elevation)
    ray = torch.stack([level * torch.sin(azimuth), torch.sin(elevation).expand(1), level * torch.cos(azimuth)], dim=-1)
    gap, known = compare(7 * ray[:, None], range_b=range_b)
    assert known.all() and math.isclose(gap.item(), math.log(7 * 0.15), abs_tol=1e-4)


def test_a_point_that_b_does_not_see_says_nothing():
    above = torch.tensor([[[0.0, -10, 1]]])
    assert not compare(above)[1].any()
    surface = EVERYWHERE.clone()
    surface[0, 3:5, 5:7] = False
    assert not compare(10 * RAYS[:, 3, 5][:, None], surface=surface)[1].any()
    assert compare(10 * RAYS[:, 3, 2][:, None], surface=surface)[1].all()


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
    gap, known = compare(points, t=t, **same)
    assert known.float().mean() > 0.8 and gap[known].abs().max() < 2e-3
    moved, _ = compare(points, t=t + torch.tensor([[3.0, 0, 0]]), **same)
    assert moved[known].abs().mean() > 0.1


def test_a_road_seen_by_two_vehicles_agrees():
    """A plane at grazing angles, where half a row is many metres: inverse ranges are what to interpolate."""
    rays = Cylinder(504, 126, 60.0, 0.0).rays()
    down = np.maximum(rays[..., 1], 1e-3)
    t_b = np.array([8.0, 0.3, 5.0])  # b's camera is 0.3 m lower
    points = torch.from_numpy(rays * (1.9 / down)[..., None]).float().flatten(0, 1)[None]
    range_b = torch.from_numpy(1.6 / down).float()[None, ..., None]
    road = torch.from_numpy(rays[..., 1] > 0.04)[None]  # to 40 m
    gap, known = compare(
        points,
        range_b=range_b,
        rays=torch.from_numpy(rays).float()[None],
        t=torch.from_numpy(t_b).float()[None],
        surface=road,
    )
    known &= road.flatten(1)
    assert known.float().mean() > 0.3 and gap[known].abs().max() < 0.01


def test_the_scale_cancels():
    points = RAYS.flatten(1, 2) * 9.5
    t = torch.tensor([[0.5, 0.0, -0.3]])
    small, seen = compare(points, t=t)
    large, seen_too = compare(7 * points, range_b=7 * RANGE, t=7 * t)
    assert torch.equal(seen, seen_too) and torch.allclose(small[seen], large[seen], atol=1e-5)


def test_gradients_reach_both_views_and_the_pose():
    points = (RAYS.flatten(1, 2) * 9.7).requires_grad_()
    range_b, t = RANGE.clone().requires_grad_(), torch.zeros(1, 3, requires_grad=True)
    quaternion = torch.tensor([[0.0, 0.02, 0, 1]], requires_grad=True)
    gap, known = compare(points, range_b=range_b, R=rotations(quaternion), t=t + torch.tensor([[0.3, 0, 0]]))
    bounded(gap, 0.1)[known].sum().backward()
    for tensor in (points, range_b, t):
        assert torch.isfinite(tensor.grad).all() and tensor.grad.abs().sum() > 0
    assert torch.isfinite(quaternion.grad).all()
    # Points lie in front of the surface: they are pushed outwards, the surface inwards.
    assert (points.grad * RAYS.flatten(1, 2)).sum() < 0 < range_b.grad.sum()


def test_a_point_in_the_camera_itself_is_finite():
    points = torch.zeros(1, 1, 3, requires_grad=True)
    gap, _ = compare(points)
    gap.sum().backward()
    assert torch.isfinite(gap).all() and torch.isfinite(points.grad).all()


def test_rotations_agree_with_scipy():
    quaternions = np.random.default_rng(0).normal(size=(5, 4))
    expected = Rotation.from_quat(quaternions).as_matrix()
    assert np.allclose(rotations(torch.from_numpy(quaternions)), expected)


def test_descent_brings_a_misplaced_view_back():
    """Two panoramas of one room; the second believes to stand 0.6 m beside its place."""
    rays = Cylinder(96, 40, 70.0, 0.0).rays()
    half_size = np.array([12.0, 4.0, 9.0])

    def ranges(origin):
        with np.errstate(divide="ignore"):
            return ((np.sign(rays) * half_size - origin) / rays).min(axis=-1)

    places = np.array([[0.0, 0, 0], [3.0, 0.5, -2.0]])
    local = [torch.from_numpy(rays * ranges(place)[..., None]).float().flatten(0, 1)[None] for place in places]
    range_ = [torch.from_numpy(ranges(place)).float()[None, ..., None] for place in places]
    view = torch.from_numpy(rays).float()[None]
    everywhere = torch.ones(view.shape[:3], dtype=torch.bool)
    true = torch.from_numpy(places[1:]).float()
    t = (true + torch.tensor([[0.4, -0.2, 0.4]])).requires_grad_()
    optimizer = torch.optim.Adam([t], lr=0.05)
    for _ in range(60):
        first = compare(local[0], range_b=range_[1], rays=view, t=t, surface=everywhere)
        second = compare(local[1] + t[:, None], range_b=range_[0], rays=view, surface=everywhere)
        loss = sum(bounded(gap, 0.1)[known].mean() for gap, known in (first, second))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (t - true).abs().max() < 0.03 and loss < 0.01
