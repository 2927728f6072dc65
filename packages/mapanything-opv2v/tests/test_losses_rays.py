from __future__ import annotations

import numpy as np
import pytest
import torch
from mapanything_opv2v.geometry import Cylinder, pinhole_rays, project_pinhole
from mapanything_opv2v.losses import closes, is_panorama, nearest_pixels

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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rays", [PINHOLE, AROUND], ids=["pinhole", "panorama"])
def test_every_ray_falls_onto_its_own_pixel(rays, dtype):
    distance = 1 + 50 * torch.rand(rays.shape[:3], generator=torch.Generator().manual_seed(0))
    points = (rays * distance[..., None]).flatten(1, 2).to(dtype)
    index, seen = nearest_pixels(rays.to(dtype), points)
    assert seen.all() and torch.equal(index[0], torch.arange(rays.shape[1] * rays.shape[2]))


def test_the_full_size_panorama_too():
    rays = unit(Cylinder(1008, 252).rays())
    index, seen = nearest_pixels(rays, rays.flatten(1, 2) * 7)
    assert seen.all() and torch.equal(index[0], torch.arange(1008 * 252))


@pytest.mark.parametrize("name", ["pinhole", "panorama"])
def test_agrees_with_the_geometry_module(name):
    points = np.random.default_rng(1).normal(size=(4000, 3)) * (4, 2, 4)
    if name == "pinhole":
        rays, (width, height) = PINHOLE, SIZE
        u, v, _ = project_pinhole(K, points)
    else:
        rays, (width, height) = AROUND, (CYLINDER.width, CYLINDER.height)
        u, v, _ = CYLINDER.project(points)
    near_an_edge = (np.abs(u % 1 - 0.5) < 1e-3) | (np.abs(v % 1 - 0.5) < 1e-3)
    with np.errstate(invalid="ignore"):
        inside = (u > -0.5) & (u < width - 0.5) & (v > -0.5) & (v < height - 0.5)
    index, seen = nearest_pixels(rays, torch.from_numpy(points).float()[None])
    keep = ~near_an_edge
    assert np.array_equal(seen[0].numpy()[keep], inside[keep]) and 100 < inside.sum() < 4000
    keep &= inside
    expected = np.round(v[keep]) * width + np.round(u[keep])
    assert np.array_equal(index[0].numpy()[keep], expected)


def test_samples_of_one_batch_may_have_different_cameras():
    rays = torch.cat([unit(Cylinder(40, 26).rays()), PINHOLE])
    index, seen = nearest_pixels(rays, rays.flatten(1, 2))
    assert seen.all() and torch.equal(index, torch.arange(40 * 26).expand(2, -1))
    assert is_panorama(rays).tolist() == closes(rays).tolist() == [True, False]
