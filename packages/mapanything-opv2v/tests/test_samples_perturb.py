from __future__ import annotations

import numpy as np
import pytest
from evaluation_cases import pose
from mapanything_opv2v.geometry import invert, rotation_angle_deg
from mapanything_opv2v.samples.perturb import Perturbation, kept_views, noisy_poses


class Fixed:
    """A generator that says what a test wants."""

    def __init__(self, *draws):
        self.draws = list(draws)

    def standard_normal(self, count):
        return np.array(self.draws.pop(0), dtype=float)


def test_vehicles_that_are_missing():
    agents = (7, 3, 7, 5, 3)
    left = {drop: kept_views(agents, drop, np.random.default_rng(1)) for drop in range(4)}
    assert left[0] == [0, 1, 2, 3, 4] and left[2] == left[3] == [0, 2]
    assert left[1] in ([0, 2, 3], [0, 1, 2, 4]) and set(left[2]) < set(left[1])
    gone = {tuple(kept_views(agents, 1, np.random.default_rng(seed))) for seed in range(20)}
    assert len(gone) == 2  # either of the others


def test_noise_of_poses_by_hand():
    """Vehicle 9 believes itself 2 m farther ahead, 1 m to the right and turned by 90 degrees; 5 is view 0's."""
    poses = np.stack([pose(), pose(xyz=(10, 0, 0)), pose(xyz=(10, 0, 3)), pose(xyz=(0, 0, 5))])
    found = noisy_poses(poses, (5, 9, 9, 5), 1.0, Fixed((2, 1, 90)))
    assert np.allclose(found[0], poses[0]) and np.allclose(found[3], poses[3])
    assert np.allclose(found[1, :3, 3], (11, 0, 2))
    # its second camera stood 3 m ahead of the first; a quarter turn about y (down) to the right: 3 m to the right
    assert np.allclose(found[2, :3, 3], (14, 0, 2))
    assert np.allclose(invert(found[1]) @ found[2], invert(poses[1]) @ poses[2])
    assert rotation_angle_deg(found[1, :3, :3]) == pytest.approx(90)
    half = noisy_poses(poses, (5, 9, 9, 5), 0.5, Fixed((2, 1, 90)))
    assert np.allclose(half[1, :3, 3], (10.5, 0, 1)) and rotation_angle_deg(half[1, :3, :3]) == pytest.approx(45)


def test_what_could_not_act_is_refused():
    def refused(message, *, cooperative=True, inputs=("pose",), batch_size=1, **values):
        with pytest.raises(ValueError, match=message):
            Perturbation(**values).check(cooperative=cooperative, inputs=inputs, batch_size=batch_size)

    refused("drop_agents=-1: expected an integer of at least 0", drop_agents=-1)
    refused("pose_noise=nan: expected a number of metres", pose_noise=float("nan"))
    refused("pose_noise=0.2: the model is given no poses; add --inputs pose", pose_noise=0.2, inputs=())
    refused("need several vehicles in a sample; give a Coop dataset", time_offset=1, cooperative=False)
    refused("batch_size=2 must be 1", drop_agents=1, batch_size=2)
    whole = Perturbation()
    whole.check(cooperative=False, inputs=(), batch_size=4)
    assert whole.to_json() == {} and Perturbation(time_offset=2).to_json() == {"time_offset": 2}
