"""Tiles cover every point, overlap, and stay small; thinning keeps a way back."""

import numpy as np
import pytest
from influencer_mmdet3d.data.scratch import Scratch
from influencer_mmdet3d.predict.tiles import cut, neighbours, thin, tiles


@pytest.mark.parametrize(
    ("length", "wanted"),
    [
        (10.0, [(0, 10)]),
        (18.0, [(0, 10), (8, 18)]),  # 10 + 10 with an overlap of exactly 2
        (18.1, [(0, 10), (4.05, 14.05), (8.1, 18.1)]),  # two would overlap by 1.9 only
        (20.0, [(0, 10), (5, 15), (10, 20)]),
    ],
)
def test_intervals_by_hand(length, wanted):
    assert np.allclose(cut(length, 10, 2), wanted)


def test_tiles_by_hand():
    """Points at x = 0, 9 and 18: the middle one lies in both tiles of 10 m with 2 m of overlap."""
    xyz = np.array([[0.0, 0, 0], [9, 0, 0], [18, 0, 0]])
    parts = tiles(xyz, 10, 2)
    assert [part.name for part in parts] == ["0_0", "1_0"]
    assert [part.rows.tolist() for part in parts] == [[0, 1], [1, 2]]
    assert parts[0].depth(np.array([[9.0, 0.0]])) == pytest.approx([0.0])  # the tile is flat in y


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(5))
def test_every_point_lies_in_a_tile_and_neighbours_share_some(seed, kind):
    """The outermost too, whose distance from the origin is rounded."""
    xyz = np.random.default_rng(seed).uniform([-20.3, 7.1, 0], [20, 31, 3], (5_000, 3)).astype(kind)
    parts = tiles(xyz, 12, 2)
    assert set(np.concatenate([part.rows for part in parts]).tolist()) == set(range(len(xyz)))
    assert all((np.diff(part.rows) > 0).all() for part in parts), "sorted, which stitching relies on"
    sides = [np.subtract(part.high, part.low) for part in parts]
    assert (np.array(sides) <= 12 + 1e-9).all()
    by_name = {part.name: part for part in parts}
    assert len(np.intersect1d(by_name["0_0"].rows, by_name["1_0"].rows)) > 50


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_tiles_do_not_depend_on_the_parts_in_which_points_are_read(tmp_path, size, monkeypatch):
    """The oracle compares all points with all tiles at once; lists on disk hold the same."""
    xyz = np.random.default_rng(0).uniform([-20.3, 7.1, 0], [20, 31, 3], (500, 3)).astype(np.float32)
    monkeypatch.setattr(Scratch.parts, "__defaults__", (size,))
    scratch = Scratch(tmp_path, block=64)
    place = xyz[:, :2].astype(np.float64)
    for part in tiles(xyz, 12, 2, scratch):
        inside = (place >= np.subtract(part.low, 1e-6)) & (place <= np.add(part.high, 1e-6))
        assert part.rows.tolist() == np.flatnonzero(inside.all(1)).tolist() and part.rows.dtype == np.int32


def test_neighbours_are_the_tiles_that_share_points():
    xyz = np.random.default_rng(0).uniform(0, [50, 31, 3], (5_000, 3))
    parts = tiles(xyz, 12, 2)
    near = neighbours(parts)
    pairs = [(a, b) for a in range(len(parts)) for b in range(a + 1, len(parts))]
    assert set(near) >= {(a, b) for a, b in pairs if len(np.intersect1d(parts[a].rows, parts[b].rows))}
    assert len(near) < len(pairs) / 2, "those far apart are not among them"


def test_a_small_cloud_is_one_tile_and_an_empty_cell_none():
    assert len(tiles(np.zeros((5, 3)), 12, 2)) == 1
    corners = np.array([[0.0, 0, 0], [100, 100, 0]])
    assert len(tiles(corners, 12, 2)) == 2


@pytest.mark.parametrize("overlap", [-1, 6, 7])
def test_an_overlap_that_covers_all_is_refused(overlap):
    with pytest.raises(ValueError, match="below half of the tile"):
        tiles(np.zeros((5, 3)), 12, overlap)


def test_thinning_by_hand():
    """Two points 1 mm apart become one at their mean; a third stays; each knows who stands for it."""
    points = np.array([[0, 0, 0, 10, 0, 0], [0.001, 0, 0, 20, 0, 0], [1, 0, 0, 30, 0, 0]], np.float32)
    few, inverse, cell = thin(points, 2, 0.01)
    assert cell == 0.01
    assert inverse.tolist() == [0, 0, 1]
    np.testing.assert_allclose(few, [[0.0005, 0, 0, 15, 0, 0], [1, 0, 0, 30, 0, 0]], atol=1e-6)
    same, inverse, cell = thin(points, 3, 0.01)
    assert same is points and inverse.tolist() == [0, 1, 2] and cell == 0


def test_thinning_reaches_its_aim():
    points = np.random.default_rng(0).uniform(0, 1, (5000, 6)).astype(np.float32)
    few, inverse, _ = thin(points, 100, 0.001)
    assert len(few) <= 100 and len(inverse) == 5000 and inverse.max() == len(few) - 1
