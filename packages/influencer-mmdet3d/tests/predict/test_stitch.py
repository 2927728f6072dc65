"""Stitching by hand, and against an oracle that sees whole masks."""

import numpy as np
from influencer_mmdet3d.predict.stitch import Piece, deepest, stitch

# points 0..9 on a line; the left tile sees 0..6, the right one 4..9, so that both see 4, 5, 6
LEFT, RIGHT = np.arange(7), np.arange(4, 10)


def piece(tile, rows, label=0, score=0.5):
    return Piece(tile, np.array(rows), label, score)


def rows(found):
    return [one.rows.tolist() for one in found]


def test_an_object_across_the_border_is_one():
    found = stitch([piece(0, [3, 4, 5, 6], score=0.8), piece(1, [4, 5, 6, 7, 8, 9], score=0.4)], [LEFT, RIGHT])
    assert rows(found) == [[3, 4, 5, 6, 7, 8, 9]]
    assert found[0].score == (4 * 0.8 + 6 * 0.4) / 10


def test_two_objects_in_the_overlap_stay_two():
    """IoU 1 / 3 in the overlap is no agreement."""
    found = stitch([piece(0, [3, 4, 5]), piece(1, [5, 6, 7])], [LEFT, RIGHT])
    assert rows(found) == [[3, 4, 5], [5, 6, 7]]


def test_classes_are_not_mixed():
    found = stitch([piece(0, [4, 5, 6], label=0), piece(1, [4, 5, 6], label=1)], [LEFT, RIGHT])
    assert sorted(one.label for one in found) == [0, 1]


def test_each_finds_its_best():
    """The right tile's object agrees with two of the left: 3 of 3 points win over 2 of 3."""
    found = stitch([piece(0, [4, 5]), piece(0, [2, 4, 5, 6], score=0.6), piece(1, [4, 5, 6, 7])], [LEFT, RIGHT])
    assert [2, 4, 5, 6, 7] in rows(found)


def test_a_rest_inside_a_better_one_is_dropped():
    """The right tile cut an object off and saw 4 alone; the left one saw all of it."""
    found = stitch([piece(0, [2, 3, 4, 5], score=0.9), piece(1, [4], score=0.2)], [LEFT, RIGHT])
    assert rows(found) == [[2, 3, 4, 5]]


def test_one_tile_is_left_as_it_is():
    """Within a tile the model decides, nested masks included; best score first."""
    found = stitch([piece(0, [1], score=0.1), piece(0, [0, 1, 2], score=0.9)], [np.arange(10)])
    assert rows(found) == [[0, 1, 2], [1]]


def test_through_three_tiles():
    tiles = [np.arange(0, 5), np.arange(3, 8), np.arange(6, 11)]
    pieces = [piece(0, [2, 3, 4]), piece(1, [3, 4, 5, 6, 7]), piece(2, [6, 7, 8])]
    assert rows(stitch(pieces, tiles)) == [[2, 3, 4, 5, 6, 7, 8]]


def test_objects_cut_by_tiles_come_back_whole():
    """A grid of objects, each tile reporting its visible part: stitching gives the objects."""
    generator = np.random.default_rng(0)
    xy = generator.uniform(0, 30, (4000, 2))
    truth = (xy[:, 0] // 3).astype(int) * 10 + (xy[:, 1] // 3).astype(int)
    bounds = [(0, 12), (9, 21), (18, 30)]
    tiles = [
        np.flatnonzero((xy[:, 0] >= a) & (xy[:, 0] <= b) & (xy[:, 1] >= c) & (xy[:, 1] <= d))
        for a, b in bounds
        for c, d in bounds
    ]
    pieces = [
        Piece(number, part[truth[part] == one], 0, 1.0)
        for number, part in enumerate(tiles)
        for one in np.unique(truth[part])
    ]
    found = stitch(pieces, tiles)
    assert sorted(map(tuple, rows(found))) == sorted(tuple(np.flatnonzero(truth == one)) for one in np.unique(truth))


def test_deepest_by_hand():
    winner = deepest([(LEFT, np.array([0, 1, 2, 3, 2, 1, 0.0])), (RIGHT, np.array([0, 1, 2, 2, 1, 0.0]))], 11)
    assert winner.tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, -1]
