"""The compiled loops against plain numpy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.panorama import Rig, RigCamera, builder, kernels
from numpy.polynomial import chebyshev, polynomial

CYLINDER = Cylinder(90, 40, 100, -5)
K = np.array([[20.0, 0.3, 15.2], [0, 22.0, 11.1], [0, 0, 1]])


def camera_row(T_pano_cam=None, size=(32, 24), cylinder=CYLINDER):
    T = np.eye(4) if T_pano_cam is None else T_pano_cam
    return builder._camera_rows(Rig((RigCamera(K, T, size),)), cylinder)[0]


def splat(depth, row, cylinder=CYLINDER):
    count = cylinder.width * cylinder.height
    ranges, sources = np.full(count, kernels.FAR, np.float32), np.full(count, -1, np.int32)
    kernels.splat(depth, row, builder._cylinder_row(cylinder), ranges, sources)
    return ranges, sources


def test_arctangent_coefficients_are_the_least_squares_fit():
    nodes = (np.cos(np.pi * (np.arange(4000) + 0.5) / 4000) + 1) / 2
    s = np.sqrt(nodes)
    fit = chebyshev.cheb2poly(chebyshev.chebfit(2 * nodes - 1, np.arctan(s) / s, 6))
    shifted = np.zeros(1)
    for power, coefficient in enumerate(fit):
        shifted = polynomial.polyadd(shifted, coefficient * polynomial.polypow([-1, 2], power))
    assert np.allclose(kernels._ATAN, shifted, atol=1e-7)


def test_arctangent_in_every_direction():
    angles = np.concatenate([np.linspace(-math.pi, math.pi, 20_001), [0, math.pi / 2, -math.pi / 2]])
    y, x = np.sin(angles).astype(np.float32), np.cos(angles).astype(np.float32)
    found = np.array([kernels._atan2(b, a) for a, b in zip(x, y)])
    error = np.abs(np.angle(np.exp(1j * (found - np.arctan2(y.astype(float), x)))))
    assert error.max() < 1.5e-6  # a four-thousandth of a panorama pixel
    assert kernels._atan2(np.float32(0), np.float32(0)) == 0


def reference_splat(depth, T_pano_cam, cylinder):
    """Plain loops over pixels with the package's float64 geometry."""
    ranges = {}
    for v, u in zip(*np.nonzero(depth > 0)):
        y = (v - K[1, 2]) / K[1, 1]
        ray = np.array([(u - K[0, 2] - K[0, 1] * y) / K[0, 0], y, 1.0])
        point = T_pano_cam[:3, :3] @ (ray * float(depth[v, u])) + T_pano_cam[:3, 3]
        column, row, distance = cylinder.project(point)
        m = (round(float(row)), round(float(column)) % cylinder.width)
        if 0 <= m[0] < cylinder.height:
            ranges[m] = min(ranges.get(m, math.inf), float(distance))
    return ranges


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.02, 1))
def test_splat_equals_plain_loops(seed, share):
    rng = np.random.default_rng(seed)
    depth = np.where(rng.random((24, 32)) < share, rng.uniform(0.5, 60, (24, 32)), 0).astype(np.float32)
    depth[0, 0] = -1  # sky is left out
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = q * np.sign(np.linalg.det(q)), rng.normal(0, 2, 3)
    ranges, sources = splat(depth, camera_row(T))
    expected = reference_splat(depth, T, CYLINDER)
    found = {divmod(m, CYLINDER.width): ranges[m] for m in np.flatnonzero(sources >= 0)}
    # a sample within rounding of a pixel's border may fall on either side
    assert len(found.keys() ^ expected.keys()) <= 2
    both = found.keys() & expected.keys()
    wrong = [m for m in both if abs(found[m] - expected[m]) > 1e-4 * expected[m]]
    assert len(wrong) <= 2
    assert (depth.ravel()[sources[sources >= 0]] > 0).all()


def test_the_nearest_sample_stays_whatever_the_order():
    depth = np.zeros((24, 32), np.float32)
    depth[11, 18], depth[11, 19] = 30, 5
    coarse = Cylinder(8, 4)
    for swapped in (False, True):
        if swapped:
            depth[11, 18], depth[11, 19] = 5, 30
        ranges, sources = splat(depth, camera_row(cylinder=coarse), coarse)
        assert sorted(ranges[sources >= 0])[0] == pytest.approx(5, rel=0.05)
        assert (sources >= 0).sum() == 1


def test_the_seam_closes():
    """A camera that looks backwards fills both edges and nothing else."""
    T = np.diag([-1.0, 1, -1, 1])
    _, sources = splat(np.full((24, 32), 10, np.float32), camera_row(T))
    columns = np.flatnonzero((sources >= 0).reshape(40, 90).any(0))
    assert {0, 89} <= set(columns.tolist())
    assert not set(range(20, 70)) & set(columns.tolist())


def test_blend_by_hand():
    pixels = np.zeros((12, 3), np.uint8)  # two images of 3 x 2
    pixels[:6] = np.array([[0, 0, 0], [100, 0, 0], [0, 0, 0], [0, 0, 0], [200, 0, 0], [0, 0, 0]])
    pixels[6:] = [10, 20, 30]
    out = np.full((3, 3), 9, np.uint8)
    kernels.blend(
        pixels,
        np.array([0, 1, 3, 3], np.int32),
        np.array([0, 0, 6], np.int32),
        np.array([3, 3, 3], np.int32),
        np.array([[0.5, 0.25], [1.0, 0.0], [0.5, 0.5]], np.float32),
        np.array([1.0, 0.25, 0.75], np.float32),
        out,
    )
    # 0.5 * (0.75 * 100 + 0.25 * 200) = 62.5; 0.25 * 100 + 0.75 * 10 = 32.5, 15, 22.5; no taps: black
    assert out.tolist() == [[63, 0, 0], [33, 15, 23], [0, 0, 0]]


def plane_depth(normal, distance, row=K, size=(32, 24)):
    """z-depth of the plane ``normal . X = distance`` in camera axes."""
    v, u = np.mgrid[: size[1], : size[0]]
    y = (v - row[1, 2]) / row[1, 1]
    x = (u - row[0, 2] - row[0, 1] * y) / row[0, 0]
    return (distance / (normal[0] * x + normal[1] * y + normal[2])).astype(np.float32)


def follow(depth, direction, origin=(0, 0, 0), start=(12, 16)):
    row = camera_row()
    direction = np.asarray(direction, float) / np.linalg.norm(direction)
    return kernels._follow(depth.ravel(), row, *map(float, origin), *direction, start[0] * 32 + start[1])


@pytest.mark.parametrize("normal", [(0, 0, 1), (0.3, -0.2, 1), (0, 1, 0.35), (-0.6, 0.1, 1)])
def test_a_ray_meets_a_plane_exactly(normal):
    direction = np.array([0.06, 0.09, 1.0])
    expected = 8 * np.linalg.norm(direction) / np.dot(normal, direction)
    state, t = follow(plane_depth(normal, 8.0), direction)
    assert state == kernels.MET
    assert t == pytest.approx(expected, rel=1e-4)


def test_a_ray_beside_an_edge_meets_the_surface_behind():
    depth = np.full((24, 32), 20, np.float32)
    depth[:, :17] = 5  # the pole ends between columns 16 and 17
    direction = [(17.2 - K[0, 2]) / K[0, 0], (12 - K[1, 2]) / K[1, 1], 1.0]
    state, t = follow(depth, direction, start=(12, 16))  # a sample of the near surface fell into its pixel
    assert state == kernels.MET
    assert t == pytest.approx(20 * np.linalg.norm(direction), rel=1e-3)


def test_a_ray_between_two_surfaces_meets_nothing():
    """Seen from the right, the ray passes behind the near surface and in front of the far one's seen part."""
    depth = np.full((24, 32), 20, np.float32)
    depth[:, :17] = 5
    row = camera_row()
    row[kernels._REACH] = 100
    x = (16.8 - K[0, 2]) / K[0, 0]
    origin = np.array([2.0, 0.0, 0.0])
    target = np.array([x * 5.2 - 0.3, 0.0, 12.0])  # behind the near surface
    direction = (target - origin) / np.linalg.norm(target - origin)
    state, _ = kernels._follow(depth.ravel(), row, *origin, *direction, 11 * 32 + 16)
    assert state == kernels.MISSED


def test_an_isolated_sample_is_kept_and_sky_is_missed():
    depth = np.zeros((24, 32), np.float32)
    depth[12, 16] = 7
    assert follow(depth, [0.05, 0.05, 1])[0] == kernels.ISOLATED
    depth[:, :16] = -1
    depth[12, 15] = depth[11, 16] = 7
    direction = [(15.0 - K[0, 2]) / K[0, 0], (11.0 - K[1, 2]) / K[1, 1], 1.0]
    assert follow(depth, direction)[0] == kernels.MISSED


def test_a_thin_pole_keeps_its_distance():
    """Its only neighbours along the row are background: no slope may be made of that step."""
    depth = np.full((24, 32), 50, np.float32)
    depth[:, 16] = 10
    direction = [(16.3 - K[0, 2] - K[0, 1] * 0.04) / K[0, 0], (12 - K[1, 2]) / K[1, 1], 1.0]
    state, t = follow(depth, direction)
    assert state == kernels.MET
    assert t == pytest.approx(10 * np.linalg.norm(direction), rel=1e-3)
