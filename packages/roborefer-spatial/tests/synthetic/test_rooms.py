import itertools
from dataclasses import replace

import numpy as np
import pytest
from roborefer_spatial.synthetic.raycast import cast
from roborefer_spatial.synthetic.rooms import cameras, furnish, shoot


@pytest.fixture(scope="module")
def room():
    return furnish(np.random.default_rng(3), 6)


@pytest.fixture(scope="module")
def views(room):
    return cameras(np.random.default_rng(4), room, 4, (64, 48))


def test_things_stand_in_the_room_and_apart(room):
    assert len(room.things) == 6
    for thing in room.things:
        x, y, radius = thing.circle
        assert radius < x < room.size[0] - radius
        assert radius < y < room.size[1] - radius
    for a, b in itertools.combinations(room.things, 2):
        assert np.hypot(a.circle[0] - b.circle[0], a.circle[1] - b.circle[1]) > a.circle[2] + b.circle[2]


def test_shown_is_the_nearest_thing(room, views):
    """Independent oracle: cast every solid over the whole image and take the nearest."""
    for camera in views:
        depth = np.stack(
            [np.min([cast(s, camera.position, camera.rays())[0] for s in t.solids], axis=0) for t in room.things]
        )
        expected = np.where(np.isfinite(depth.min(axis=0)), depth.argmin(axis=0), -1)
        np.testing.assert_array_equal(shoot(room, camera).compose()[1], expected)


def test_leaving_a_thing_out_is_the_room_without_it(room, views):
    """Independent oracle: furnish the room without the thing and render that. Its shadow is gone with it."""
    shaded = 0
    for camera in views:
        shot = shoot(room, camera)
        rgb, shown = shot.compose()
        for index in range(len(room.things)):
            kept = [number for number in range(len(room.things)) if number != index]
            expected, numbers = shoot(replace(room, things=[room.things[i] for i in kept]), camera).compose()
            without, shown_without = shot.compose(without=index)
            np.testing.assert_array_equal(without, expected)
            np.testing.assert_array_equal(shown_without, np.array([*kept, -1])[numbers])
            shaded += int(((rgb != without).any(-1) & (shown != index)).sum())
    assert shaded > 0  # with the thing there, its shadow was seen beside it


def test_colours_are_colours(room, views):
    for camera in views:
        rgb, _ = shoot(room, camera).compose()
        assert rgb.shape == (48, 64, 3)
        assert np.isfinite(rgb).all()
        assert rgb.min() >= 0
        assert rgb.max() <= 1
        assert rgb.std() > 0.05


def test_cameras_are_in_the_room(room, views):
    for camera in views:
        assert all(0 < at < side for at, side in zip(camera.position, room.size))
