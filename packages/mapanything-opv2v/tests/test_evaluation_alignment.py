from __future__ import annotations

import numpy as np
import pytest
from evaluation_cases import pose, random_poses
from mapanything_opv2v.evaluation.alignment import align
from mapanything_opv2v.evaluation.options import ALIGNMENTS
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation


def test_view0_by_hand():
    """The model's world is 5 m off and turned 90 degrees about y (down): its z is the true x."""
    pred = np.stack([pose(), pose(xyz=(0, 0, 2))])
    true = np.stack([pose((0, 90, 0), (5, 0, 0)), pose((0, 90, 0), (7, 0, 0))])
    found = align(pred, true)
    np.testing.assert_allclose(found.poses(pred), true, atol=1e-12)
    np.testing.assert_allclose(found.points(np.array([[0.0, 0, 3]])), [[8, 0, 0]], atol=1e-12)


@pytest.mark.parametrize("how", ALIGNMENTS)
@pytest.mark.parametrize("views", [2, 5])
def test_exact_poses_in_another_world_have_no_error(how, views):
    rng = np.random.default_rng(views)
    true = random_poses(rng, views)
    world = pose((40, -60, 110), (3, -8, 50))
    scale = 2.5 if how == "similarity" else 1.0
    pred = world @ true
    pred[:, :3, 3] /= scale
    found = align(pred, true, how)
    assert found.scale == pytest.approx(scale)
    np.testing.assert_allclose(found.poses(pred), true, atol=1e-9)
    # points go where cameras go
    np.testing.assert_allclose(found.points(pred[:, :3, 3]), true[:, :3, 3], atol=1e-9)


@pytest.mark.parametrize("how", ["cameras", "similarity"])
def test_least_squares_agree_with_scipy(how):
    rng = np.random.default_rng(7)
    true = random_poses(rng, 6)
    noise = np.stack([pose(rng.normal(0, 10, 3), rng.normal(0, 1, 3)) for _ in range(6)])
    pred = pose((10, 20, 30), (1, 2, 3)) @ true @ noise
    found = align(pred, true, how)
    mean = Rotation.from_matrix(true[:, :3, :3] @ pred[:, :3, :3].transpose(0, 2, 1)).mean()  # chordal, too
    np.testing.assert_allclose(found.T[:3, :3], mean.as_matrix(), atol=1e-9)

    def cost(values):
        moved = values[3] * pred[:, :3, 3] @ mean.as_matrix().T + values[:3]
        return np.square(moved - true[:, :3, 3]).sum()

    free = [None, None, None, (None, None) if how == "similarity" else (1, 1)]
    bounds = [(None, None) if bound is None else bound for bound in free]
    best = minimize(cost, [0, 0, 0, 1.0], bounds=bounds)
    assert found.scale == pytest.approx(best.x[3], abs=1e-4)
    np.testing.assert_allclose(found.T[:3, 3], best.x[:3], atol=1e-3)


def test_what_cannot_be_aligned():
    same = np.stack([pose(), pose()])
    with pytest.raises(ValueError, match="alignment 'icp': expected one of view0, cameras, similarity"):
        align(same, same, "icp")
    with pytest.raises(ValueError, match="the 2 predicted cameras share one centre"):
        align(same, np.stack([pose(), pose(xyz=(1, 0, 0))]), "similarity")
    mirrored = np.stack([pose(xyz=(1, 0, 0)), pose(xyz=(-1, 0, 0))])
    with pytest.raises(ValueError, match="scale -1 is not positive"):
        align(mirrored, mirrored[::-1], "similarity")
