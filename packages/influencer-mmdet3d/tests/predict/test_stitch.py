"""Stitching by hand, and against an oracle that sees whole masks."""

from itertools import combinations, product

import numpy as np
import pytest
from influencer_mmdet3d.data.scratch import MEMORY, Scratch
from influencer_mmdet3d.predict.stitch import Piece, deeper, stitch

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


def test_deeper_by_hand():
    """Points 4 and 5 lie as deep in the first tile or deeper; point 6 does not; point 10 lies in none."""
    best = np.full(11, -np.inf)
    assert deeper(best, LEFT, np.array([0, 1, 2, 3, 2, 1, 0.0])).all()
    assert deeper(best, RIGHT, np.array([0, 1, 2, 2, 1, 0.0])).tolist() == [False, False, True, True, True, True]
    assert best.tolist() == [0, 1, 2, 3, 2, 1, 2, 2, 1, 0, -np.inf]


def slow_stitch(pieces, tiles, agree=0.5, covered=0.8):
    """The same by Python's sets, as the two rules are written."""
    sets, parent = [set(one.rows.tolist()) for one in pieces], list(range(len(pieces)))

    def root(number):
        return number if parent[number] == number else root(parent[number])

    for first, second in combinations(range(len(tiles)), 2):
        common = set(tiles[first].tolist()) & set(tiles[second].tolist())
        mine, theirs = ([k for k, one in enumerate(pieces) if one.tile == tile] for tile in (first, second))
        iou = np.zeros((len(mine), len(theirs)))
        for (i, a), (j, b) in product(enumerate(mine), enumerate(theirs)):
            if pieces[a].label == pieces[b].label:
                iou[i, j] = len(sets[a] & sets[b]) / max(len((sets[a] | sets[b]) & common), 1)
        for i, a in enumerate(mine):
            j = iou[i].argmax()
            if iou[i, j] >= agree and iou[:, j].argmax() == i:
                parent[root(a)] = root(theirs[j])
    groups = {}
    for number in range(len(pieces)):
        groups.setdefault(root(number), []).append(number)
    joined = []
    for group in groups.values():
        own = [pieces[number] for number in group]
        largest = max(own, key=lambda one: len(one.rows))
        score = np.average([one.score for one in own], weights=[len(one.rows) for one in own])
        joined.append((-score, sorted(set().union(*(sets[number] for number in group))), largest.label, largest.tile))
    kept = []
    for one in sorted(joined, key=lambda one: (one[0], one[1][0])):
        better = [other for other in kept if other[2] == one[2] and other[3] != one[3]]
        if not any(len(set(one[1]) & set(other[1])) >= covered * len(one[1]) for other in better):
            kept.append(one)
    return [(rows, label, pytest.approx(-score), tile) for score, rows, label, tile in kept]


@pytest.mark.parametrize("kind", ["memory", "disk"])
@pytest.mark.parametrize("seed", range(4))
def test_against_sets(tmp_path, monkeypatch, seed, kind):
    """Random pieces that overlap each other in and between four tiles; lists are worked on three points at a time."""
    monkeypatch.setattr("influencer_mmdet3d.predict.stitch.PART", 3)
    generator = np.random.default_rng(seed)
    tiles = [np.arange(start, start + 30, dtype=np.int32) for start in (0, 12, 24, 36)]
    pieces = [
        Piece(number, own[start : start + generator.integers(1, 14)], int(generator.integers(2)), generator.uniform())
        for number, own in enumerate(tiles)
        for start in generator.integers(0, 29, 12)
    ]
    scratch = Scratch(tmp_path) if kind == "disk" else MEMORY
    found = [(one.rows.tolist(), one.label, one.score, one.tile) for one in stitch(pieces, tiles, scratch=scratch)]
    assert found == slow_stitch(pieces, tiles)
    assert len(found) < len(pieces), "some were joined or dropped"
