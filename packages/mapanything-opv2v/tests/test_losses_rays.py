from __future__ import annotations

import numpy as np
import pytest
import torch
from mapanything_opv2v.geometry import Cylinder, pinhole_rays, project_pinhole
from mapanything_opv2v.losses import closes, is_panorama, neighbours, project

K = np.array([[30.0, 0, 19.3], [0, 28.0, 12.1], [0, 0, 1]])
SIZE = (40, 26)
CYLINDER = Cylinder(56, 14, 60.0, -5.0)


def unit(rays):
    return torch.from_numpy(rays / np.linalg.norm(rays, axis=-1, keepdims=True)).float()[None]


PINHOLE, AROUND = unit(pinhole_rays(K, SIZE)), unit(CYLINDER.rays())


def test_kinds_of_cameras():
    both = [is_panorama(PINHOLE), is_panorama(AROUND), closes(PINHOLE), closes(AROUND)]
    assert [bool(item) for item in both] == [False, True, False, True]
    half = AROUND[:, :, 4:-4]  # looks back, but has an open edge
    assert is_panorama(half) and not closes(half)


def places(height, width):
    """Column and row of every pixel, flattened."""
    v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return u.flatten(), v.flatten()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rays", [PINHOLE, AROUND], ids=["pinhole", "panorama"])
def test_every_ray_falls_onto_its_own_pixel(rays, dtype):
    distance = 1 + 50 * torch.rand(rays.shape[:3], generator=torch.Generator().manual_seed(0))
    u, v, seen = project(rays.to(dtype), (rays * distance[..., None]).flatten(1, 2).to(dtype))
    columns, rows = places(*rays.shape[1:3])
    assert seen.all() and (u[0] - columns).abs().max() < 1e-3 and (v[0] - rows).abs().max() < 1e-3


def test_the_full_size_panorama_too():
    rays = unit(Cylinder(1008, 252).rays())
    u, v, seen = project(rays, rays.flatten(1, 2) * 7)
    columns, rows = places(252, 1008)
    assert seen.all() and (u[0] - columns).abs().max() < 1e-2 and (v[0] - rows).abs().max() < 1e-2


@pytest.mark.parametrize("name", ["pinhole", "panorama"])
def test_agrees_with_the_geometry_module(name):
    points = np.random.default_rng(1).normal(size=(4000, 3)) * (4, 2, 4)
    if name == "pinhole":
        rays, (width, height) = PINHOLE, SIZE
        u, v, _ = project_pinhole(K, points)
    else:
        rays, (width, height) = AROUND, (CYLINDER.width, CYLINDER.height)
        u, v, _ = CYLINDER.project(points)
    with np.errstate(invalid="ignore"):
        inside = (u > -0.5) & (u < width - 0.5) & (v > -0.5) & (v < height - 0.5)
    got_u, got_v, seen = (item[0].numpy() for item in project(rays, torch.from_numpy(points).float()[None]))
    assert np.array_equal(seen, inside) and 100 < inside.sum() < 4000
    assert np.allclose(got_u[inside], u[inside], atol=2e-3) and np.allclose(got_v[inside], v[inside], atol=2e-3)


def test_samples_of_one_batch_may_have_different_cameras():
    rays = torch.cat([unit(Cylinder(40, 26).rays()), PINHOLE])
    u, v, seen = project(rays, rays.flatten(1, 2))
    columns, rows = places(26, 40)
    assert seen.all() and (u - columns).abs().max() < 1e-3 and (v - rows).abs().max() < 1e-3
    assert is_panorama(rays).tolist() == closes(rays).tolist() == [True, False]


def test_neighbours_by_hand():
    index, weight = neighbours(AROUND, torch.tensor([[2.25, 55.5, -0.25]]), torch.tensor([[1.5, 0.0, 13.25]]))
    width = CYLINDER.width
    expected = {
        0: [(1 * width + 2, 0.375), (1 * width + 3, 0.125), (2 * width + 2, 0.375), (2 * width + 3, 0.125)],
        1: [(55, 0.5), (0, 0.5), (width + 55, 0.0), (width, 0.0)],  # across the seam
        2: [(13 * width + 55, 0.1875), (13 * width, 0.5625), (13 * width + 55, 0.0625), (13 * width, 0.1875)],
    }
    for number, pairs in expected.items():
        assert index[0, :, number].tolist() == [pixel for pixel, _ in pairs]
        assert weight[0, :, number].tolist() == [share for _, share in pairs]
    index, weight = neighbours(PINHOLE, torch.tensor([[39.25]]), torch.tensor([[-0.25]]))
    assert index[0, :, 0].tolist() == [39, 39, 39, 39] and weight.sum() == 1  # the corner stands in for what is missing
