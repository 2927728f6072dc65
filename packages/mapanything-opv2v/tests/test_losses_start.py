"""The losses of a start: hand-computed values, loops as oracles, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mapanything_opv2v import losses
from scipy.spatial.transform import Rotation


def test_bent_by_hand():
    points = torch.tensor([[0.0, 0, 5], [0, -5 * (math.e - 1), 0], [0, 0, 0]])
    expected = [[0, 0, math.log(2)], [0, -1, 0], [0, 0, 0]]
    assert losses.bent(points).numpy() == pytest.approx(np.array(expected), abs=1e-6)


def test_a_patch_is_asked_for_the_known_pixel_nearest_to_its_middle():
    """Against a loop; where everything is known that is the middle pixel, as in a slice."""
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.normal(size=(2, 6, 12, 3)))
    everything = torch.ones(2, 6, 12, dtype=torch.bool)
    picked, there = losses.of_patches(points, everything, (2, 4))
    assert there.all() and torch.equal(picked, points[:, 1::3, 1::3])
    some = torch.from_numpy(rng.random((2, 6, 12)) < 0.15)
    picked, there = losses.of_patches(points, some, (2, 4))
    assert 0 < there.float().mean() < 1
    for sample, row, column in np.ndindex(2, 2, 4):
        found = [
            ((y - 1) ** 2 + (x - 1) ** 2, points[sample, 3 * row + y, 3 * column + x])
            for y in range(3)
            for x in range(3)
            if some[sample, 3 * row + y, 3 * column + x]
        ]
        assert bool(there[sample, row, column]) is bool(found)
        if found:
            least = min(away for away, _ in found)
            assert any(torch.equal(picked[sample, row, column], p) for away, p in found if away == least)


def test_patches_that_do_not_divide_the_image_are_refused():
    with pytest.raises(ValueError, match="^3 x 4 patches do not divide an image of 8 x 8 pixels$"):
        losses.of_patches(torch.zeros(1, 8, 8, 3), torch.ones(1, 8, 8, dtype=torch.bool), (3, 4))


def test_points_loss_by_hand():
    """One patch is off by 1.05 along one axis (smooth part 0.05 subtracted), one is not known."""
    true = torch.tensor([[[[0.0, 0, 5 * (math.e - 1)], [1, 1, 1]]]])
    said = torch.tensor([[[[0.0, 0, 2.05], [9, 9, 9]]]], requires_grad=True)
    known = torch.tensor([[[True, False]]])
    loss = losses.points_loss(said, true, known)
    assert float(loss) == pytest.approx(1.0, abs=1e-6)
    loss.backward()
    assert said.grad[0, 0].tolist() == [[0, 0, 1], [0, 0, 0]]
    assert float(losses.points_loss(said.detach(), true, torch.zeros_like(known))) == 0


@pytest.mark.parametrize("degrees", [0, 30, 90, 180])
def test_turns_against_their_angle(degrees):
    axis = np.array([0.6, 0.0, 0.8])
    first = Rotation.random(3, random_state=1)
    second = first * Rotation.from_rotvec(math.radians(degrees) * axis)
    a, b = (torch.from_numpy(R.as_matrix()).float() for R in (first, second))
    assert losses.angles_deg(a, b).numpy() == pytest.approx(degrees, abs=0.05)
    assert float(losses.turn_loss(a, b)) == pytest.approx(2 * math.sin(math.radians(degrees / 2)) ** 2, abs=1e-5)


def test_movements_by_hand():
    """5 (e - 1) m are 1 when bent, which makes |1| - 0.05 on one of three axes, times three; far errors count less."""
    said, true = torch.tensor([[5 * (math.e - 1), 0, 0]]), torch.zeros(1, 3)
    assert float(losses.movement_loss(said, true)) == pytest.approx(0.95)
    near, far = (losses.movement_loss(torch.tensor([[m + 3.0, 0, 0]]), torch.tensor([[m, 0, 0]])) for m in (3.0, 30.0))
    assert near > 2 * far
