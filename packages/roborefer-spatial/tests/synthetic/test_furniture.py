import itertools

import numpy as np
import pytest
from roborefer_spatial.synthetic.furniture import KINDS, WOOD, place


@pytest.mark.parametrize("name", KINDS)
def test_a_piece_stands_on_the_floor_inside_its_circle(name):
    thing = place(name, 2.0, 3.0, 0.7, (0.5, 0.6, 0.7), WOOD[0])
    assert (thing.name, thing.circle) == (name, (2.0, 3.0, KINDS[name][0]))
    assert min(solid.center[2] - solid.half[2] for solid in thing.solids) == pytest.approx(0, abs=0.04)
    for solid in thing.solids:
        assert solid.yaw == 0.7
        cos, sin = np.cos(0.7), np.sin(0.7)
        # a box reaches to its corners, a round solid (equal half-sizes) to its radius
        for i, j in itertools.product((-1, 1), repeat=2) if solid.shape == "box" else [(0, 0)]:
            x, y = i * solid.half[0], j * solid.half[1]
            corner = (solid.center[0] + cos * x - sin * y, solid.center[1] + sin * x + cos * y)
            reach = np.hypot(corner[0] - 2, corner[1] - 3) + (0 if solid.shape == "box" else max(solid.half[:2]))
            assert reach < KINDS[name][0]


def test_turning_keeps_distances():
    one, two = (place("chair", 0, 0, yaw, (1, 1, 1), WOOD[0]).solids for yaw in (0.0, 1.2))
    for a, b in itertools.combinations(range(len(one)), 2):
        distance = np.linalg.norm(np.subtract(one[a].center, one[b].center))
        assert np.linalg.norm(np.subtract(two[a].center, two[b].center)) == pytest.approx(distance)
