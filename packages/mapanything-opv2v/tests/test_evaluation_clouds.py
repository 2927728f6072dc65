from __future__ import annotations

import numpy as np
import pytest
from mapanything_opv2v.evaluation.clouds import Cloud, chamfer, cloud_figures, ground_y, iou, occupied, voxel_means
from mapanything_opv2v.evaluation.options import CloudOptions
from scipy.spatial.distance import cdist


def test_voxels_by_hand():
    points = np.array([[0.1, 0, 0], [0.3, 0, 0], [1.5, 0, 0], [-0.1, 0, 0]])
    assert sorted(voxel_means(points, 1.0)[:, 0].tolist()) == pytest.approx([-0.1, 0.2, 1.5])
    assert voxel_means(np.zeros((0, 3)), 1.0).shape == (0, 3)


def test_voxels_agree_with_a_dictionary():
    points = np.random.default_rng(1).normal(0, 3, (500, 3)) * (1, 1, 1e9)  # no extent overflows
    cubes = {}
    for point in points:
        cubes.setdefault(tuple(np.floor(point / 0.7)), []).append(point)
    expected = sorted(np.mean(cube, axis=0).tolist() for cube in cubes.values())
    np.testing.assert_allclose(sorted(voxel_means(points, 0.7).tolist()), expected)


def test_chamfer_by_hand_and_by_brute_force():
    a, b = np.array([[0.0, 0, 0], [3, 0, 0]]), np.array([[0.0, 4, 0]])
    assert chamfer(a, b) == (pytest.approx((4 + 5) / 2), pytest.approx(4))
    assert chamfer(a, b[:0]) is None and chamfer(a[:0], b) is None
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(80, 3)), rng.normal(size=(50, 3))
    every = cdist(a, b)
    assert chamfer(a, b) == (pytest.approx(every.min(axis=1).mean()), pytest.approx(every.min(axis=0).mean()))


def test_cells_by_hand():
    """A square of 4 x 4 cells of 1 m around (10, any, 20)."""
    points = np.array([[8.5, 0, 18.5], [11.9, 9, 21.9], [10.0, 0, 20.0], [12.1, 0, 20], [10, 0, 17.9]])
    grid = occupied(points, np.array([10.0, 5, 20]), cell_m=1, extent_m=2)
    assert np.argwhere(grid).tolist() == [[0, 0], [2, 2], [3, 3]]


def test_cells_agree_with_a_histogram():
    rng = np.random.default_rng(3)
    points, center = rng.uniform(-60, 60, (400, 3)), np.array([5.0, 0, -3])
    edges = [np.arange(101) * 0.8 - 40 + center[axis] for axis in (2, 0)]
    expected = np.histogram2d(points[:, 2], points[:, 0], bins=edges)[0] > 0
    assert np.array_equal(occupied(points, center, 0.8, 40), expected)


def test_iou():
    a, b = np.array([True, True, False]), np.array([True, False, False])
    assert iou(a, b) == 0.5 and iou(a, a) == 1 and iou(~a & a, b & ~b) is None


def test_the_ground_is_low_and_near():
    road = np.array([[x, 1.9, z] for x in range(-20, 20) for z in range(-20, 20)], dtype=float)
    wall = np.array([[10.0, -y, 5] for y in range(8)])
    far_pit = np.tile([200.0, 50, 0], (5000, 1))
    assert ground_y(np.concatenate([road, wall, far_pit]), np.zeros(3)) == pytest.approx(1.9)
    assert ground_y(far_pit, np.zeros(3)) is None


def test_filters_by_hand():
    """A wall on a road; the prediction adds a mask-less ghost, a far point and ground that is 0.1 m too high."""
    road = np.array([[x, 2.0, z] for x in range(-5, 6) for z in range(-5, 6)], dtype=float)
    wall = np.array([[4.0, y, z] for y in (0.5, 1.0) for z in range(-5, 6)])
    truth = np.concatenate([road, wall])
    ghost, far = np.array([[-4.0, 0.5, -4]]), np.array([[0.0, 0.5, 65]])
    pred = np.concatenate([road - (0, 0.1, 0), wall, ghost, far])
    kept = np.ones(len(pred), dtype=bool)
    kept[len(truth)] = False
    options = CloudOptions(extent_m=6, cell_m=1, voxel_m=0.05, max_range_m=60)
    found = cloud_figures(
        Cloud(pred, np.linalg.norm(pred, axis=1), kept),
        Cloud(truth, np.linalg.norm(truth, axis=1), np.ones(len(truth), dtype=bool)),
        np.zeros(3),
        options,
    )
    share = len(road) / len(truth)
    assert found["bev_iou_raw"] == 1  # ground everywhere hides the ghost
    assert found["bev_iou_filtered"] == 1  # only the wall is left, of both
    assert found["accuracy_filtered_m"] == found["completeness_filtered_m"] == pytest.approx(0.1 * share)
    assert found["chamfer_filtered_m"] == pytest.approx(0.1 * share)
    ghosts = np.array([np.linalg.norm(ghost - truth, axis=1).min(), np.linalg.norm(far - truth, axis=1).min()])
    expected = (0.1 * len(road) + ghosts.sum()) / (len(truth) + 2)
    assert found["accuracy_raw_m"] == pytest.approx(expected)
    assert found["chamfer_raw_m"] == pytest.approx((expected + found["completeness_raw_m"]) / 2)


def test_empty_clouds_have_no_figures():
    nothing = Cloud(np.zeros((0, 3)), np.zeros(0), np.zeros(0, dtype=bool))
    assert set(cloud_figures(nothing, nothing, np.zeros(3), CloudOptions()).values()) == {None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"voxel_m": 0}, "voxel_m=0: expected a positive number of metres"),
        ({"extent_m": float("nan")}, "extent_m=nan"),
        ({"cell_m": 100}, "cell_m=100 exceeds extent_m=70.0"),
        ({"min_height_m": 4}, "min_height_m=4 is not below max_height_m=4.0"),
    ],
)
def test_wrong_options(changes, message):
    with pytest.raises(ValueError, match=message):
        CloudOptions(**changes)
