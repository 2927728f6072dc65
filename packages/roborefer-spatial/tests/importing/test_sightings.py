import numpy as np
import pytest
from roborefer_spatial.importing import sightings
from roborefer_spatial.importing.recording import Recording
from roborefer_spatial.importing.sightings import HIDDEN, OUT_OF_VIEW, UNCLEAR, VISIBLE, Sighting

K = np.array([[100.0, 0, 32], [0, 100, 24], [0, 0, 1]])
RECORDING = Recording("s", "r", (), K, K)
SIZE = (48, 64)
POINTS = np.array([[0.0, 0, 2], [0.1, 0, 2], [-0.1, 0, 2], [0, 0.1, 2]])


def sight(depth, labels=None, points=POINTS, number=4):
    return sightings.sight(points, np.full(SIZE, float(depth)), labels, number, np.eye(4), RECORDING)


def test_a_surface_at_the_points_depth_is_seen():
    assert sight(2.0)[0] == sight(2.03)[0] == 1
    assert sight(2.1)[0] == 0


def test_something_nearer_hides_all_points():
    assert sight(1.0) == (0, HIDDEN)


def test_unknown_depth_and_depth_behind_are_unclear():
    assert sight(0) == (0, UNCLEAR)
    assert sight(3.0) == (0, UNCLEAR)


def test_out_of_view_with_a_margin():
    assert sight(2.0, points=POINTS + np.array([5.0, 0, 0])) == (0, OUT_OF_VIEW)
    assert sight(2.0, points=np.array([[0.645, 0, 2]])) == (0, UNCLEAR)  # 0.25 pixels beside the border


def test_labels_decide_where_there_are_any():
    labels = np.full(SIZE, 9)
    assert sight(2.0, labels) == (0, HIDDEN)  # another thing, in touch with it
    labels[24, 32] = 4
    assert sight(2.0, labels) == (0.25, UNCLEAR)


@pytest.mark.parametrize(
    ("pixels", "share", "state"),
    [(100, 0.5, VISIBLE), (100, 0.2, UNCLEAR), (2, 0.5, UNCLEAR), (0, 0.0, HIDDEN)],
)
def test_judged(pixels, share, state):
    mask = np.zeros(SIZE, bool)
    mask.reshape(-1)[:pixels] = True
    found = sightings.judged(share, HIDDEN, mask, 0.3, 0.01)
    assert (found.state, found.pixels, found.truncated) == (state, pixels, pixels > 0)


def sighting(state, pixels=0):
    return Sighting(state, 1.0 if pixels else 0.0, pixels, pixels / 1000, False)


def test_views_by_hand():
    states = [sighting(VISIBLE, 10), sighting(VISIBLE, 50), sighting(OUT_OF_VIEW), sighting(HIDDEN)]
    states += [sighting(UNCLEAR, 3), sighting(VISIBLE, 20), sighting(VISIBLE, 30)]
    centres = np.array([[0.1, 0, 0], [0, 0, 0], [1, 0, 0], [9, 0, 0], [0, 0, 0], [4, 0, 0], [3, 0, 0]])
    # best: frame 1; farthest from it: 5; the hidden one before the one out of view, although it is far away
    assert sightings.choose(states, centres, 3, 1) == [1, 3, 5]
    assert sightings.choose(states, centres, 4, 2) == [1, 2, 3, 5]
    assert sightings.choose(states, centres, 9, 0) == [1, 0, 2, 3, 5, 6]
    assert sightings.choose([sighting(HIDDEN)], centres[:1], 3, 1) == []
