"""Superpoints: the rule by hand, against a literal loop, and on shapes whose pieces are known."""

import numpy as np
import pytest
from influencer_mmdet3d import cli
from influencer_mmdet3d.data.rooms import make_room
from influencer_mmdet3d.predict.superpoints import _graph, read_superpoints, segment, superpoints
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


def literal(count, ends, costs, k, least):
    """Felzenszwalb and Huttenlocher's rule with sets, word for word."""
    pieces = [{point} for point in range(count)]
    inner = {id(piece): 0.0 for piece in pieces}
    of = {point: piece for piece in pieces for point in piece}
    order = np.argsort(costs, kind="stable")
    for edge in order:
        one, other = of[ends[edge][0]], of[ends[edge][1]]
        if one is other or costs[edge] > min(inner[id(one)] + k / len(one), inner[id(other)] + k / len(other)):
            continue
        one |= other
        inner[id(one)] = costs[edge]
        of.update(dict.fromkeys(other, one))
    for edge in order:
        one, other = of[ends[edge][0]], of[ends[edge][1]]
        if one is not other and min(len(one), len(other)) < least:
            one |= other
            of.update(dict.fromkeys(other, one))
    names = {}
    return [names.setdefault(id(of[point]), len(names)) for point in range(count)]


def test_a_chain_by_hand():
    """0 -.1- 1 -.1- 2 -.9- 3: with k = 1, {0, 1} may go on to 0.1 + 1/2, {0, 1, 2} to 0.1 + 1/3, so that 0.9 parts."""
    ends, costs = np.array([[0, 1], [1, 2], [2, 3]]), np.array([0.1, 0.1, 0.9])
    assert segment(4, ends, costs, k=1.0, least=1).tolist() == [0, 0, 0, 1]
    assert segment(4, ends, costs, k=3.0, least=1).tolist() == [0, 0, 0, 0]
    assert segment(4, ends, costs, k=1.0, least=2).tolist() == [0, 0, 0, 0], "3 alone is too small"


@pytest.mark.parametrize("seed", range(5))
def test_random_graphs_against_the_literal_rule(seed):
    generator = np.random.default_rng(seed)
    ends = np.unique(np.sort(generator.integers(0, 60, (200, 2)), 1), axis=0)
    ends = ends[ends[:, 0] != ends[:, 1]]
    costs = generator.uniform(0, 1, len(ends)).round(2)  # with ties
    assert segment(60, ends, costs, k=0.5, least=4).tolist() == literal(60, ends, costs, 0.5, 4)


def sheet(count=30, step=0.05):
    """A square of points in the plane z = 0 with its triangles."""
    u, v = np.meshgrid(np.arange(count), np.arange(count), indexing="ij")
    index = u * count + v
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    return np.stack([u * step, v * step, 0 * u], -1).reshape(-1, 3).astype(float), faces


def test_a_flat_sheet_is_one_and_its_fold_two():
    xyz, faces = sheet()
    assert superpoints(xyz, faces).max() == 0
    assert superpoints(xyz).max() == 0, "without faces, too"
    folded = xyz.copy()
    right = xyz[:, 0] > 0.7
    folded[right, 2] = folded[right, 0] - 0.7
    folded[right, 0] = 0.7
    for labels in (superpoints(folded, faces), superpoints(folded)):
        inner = np.abs(xyz[:, 0] - 0.7) > 0.15  # at the fold normals are between both
        sides = [set(labels[inner & side].tolist()) for side in (right, ~right)]
        assert not sides[0] & sides[1], "no piece on both sides of a right angle"
        assert len(sides[0]) == len(sides[1]) == 1


def test_sheets_that_do_not_touch_stay_apart():
    """With and without faces: parallel planes 1 m apart, normals alike."""
    flat, faces = sheet()
    xyz = np.concatenate([flat, flat + np.array([0, 0, 1])])
    for labels in (superpoints(xyz, np.concatenate([faces, faces + len(flat)])), superpoints(xyz)):
        assert labels[: len(flat)].tolist() == [0] * len(flat)
        assert labels[len(flat) :].tolist() == [1] * len(flat)


def test_a_room_is_cut_along_its_objects():
    room = make_room(np.random.default_rng(0), points=20_000, objects=(6, 8))
    xyz = room.points[:, :3].astype(np.float64)
    labels = superpoints(xyz)
    assert labels.min() == 0 and set(labels.tolist()) == set(range(labels.max() + 1))
    sizes = np.bincount(labels)
    ends = _graph(xyz)[0]
    inner = ends[labels[ends[:, 0]] == labels[ends[:, 1]]]
    hanging = coo_matrix((np.ones(len(inner)), inner.T), shape=(len(xyz), len(xyz)))
    assert connected_components(hanging, directed=False)[0] == len(sizes), "each hangs together"
    pure = np.zeros((len(sizes), room.instance.max() + 1))
    np.add.at(pure, (labels, room.instance), 1)
    assert pure.max(1).sum() / len(xyz) > 0.8, "most points lie in a superpoint of mostly their own instance"
    assert 20 < len(sizes) < 2000


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_few_points(count):
    assert len(superpoints(np.random.default_rng(0).uniform(0, 1, (count, 3)))) == count


def test_the_same_points_many_times():
    assert superpoints(np.zeros((40, 3))).tolist() == [0] * 40


def write(folder, name, xyz):
    np.concatenate([xyz, np.full(xyz.shape, 128.0)], 1).astype("<f4").tofile(folder / name)
    return str(folder / name)


def test_the_command_writes_the_hosts_files(tmp_path, capsys):
    scan = write(tmp_path, "room.bin", sheet()[0])
    assert cli.main(["superpoints", scan, "--out", str(tmp_path / "out")]) == 0
    assert "900 points, 1 superpoints by graph" in capsys.readouterr().out
    target = tmp_path / "out" / "room.bin"
    assert read_superpoints(target, 900).tolist() == [0] * 900
    before = target.stat().st_mtime_ns
    assert cli.main(["superpoints", scan, "--out", str(tmp_path / "out")]) == 0
    assert "there already, left" in capsys.readouterr().out and target.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "mesh"), "has no faces; take --method graph"),
        (("--k", "0"), "--k must be above 0"),
        (("--least", "0"), "--least at least 1"),
    ],
)
def test_the_command_refuses(tmp_path, capsys, words, message):
    scan = write(tmp_path, "room.bin", sheet()[0])
    assert cli.main(["superpoints", scan, "--out", str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err
    assert cli.main(["superpoints", scan, scan, "--out", str(tmp_path / "out")]) == 2
    assert "two clouds are called room" in capsys.readouterr().err


def test_superpoint_files_are_looked_at(tmp_path):
    with pytest.raises(ValueError, match="does not exist: `influencer-mmdet3d superpoints` writes it"):
        read_superpoints(tmp_path / "a.bin", 3)
    np.array([0, 1], "<i8").tofile(tmp_path / "a.bin")
    with pytest.raises(ValueError, match="16 bytes, expected 24"):
        read_superpoints(tmp_path / "a.bin", 3)
    np.array([0, 1, -1], "<i8").tofile(tmp_path / "a.bin")
    with pytest.raises(ValueError, match="has a superpoint -1"):
        read_superpoints(tmp_path / "a.bin", 3)
