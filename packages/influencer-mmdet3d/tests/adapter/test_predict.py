"""`predict` around a stand-in for the model that knows the truth: tiles, thinning, units, resuming, files."""

import argparse
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from influencer_mmdet3d import cli, read_predictions
from influencer_mmdet3d.data.scratch import MEMORY, Scratch
from influencer_mmdet3d.host import predict
from influencer_mmdet3d.host.segment import Found
from written import ply

OBJECTS, SIDE = 36, 3.0


class Oracle:
    """Finds the objects by the red of their points; an object of which few points are seen is not found."""

    def __init__(self, needs_superpoints=False):
        self.classes, self.semantic_classes = ["box"], ["box"]
        self.needs_superpoints, self.voxel, self.score, self.head = needs_superpoints, 0.05, 0.4, None
        self.progress, self.device = {"iter": 7}, "cpu"
        self.model, self.cfg = SimpleNamespace(), SimpleNamespace(pretty_text="")
        self.seen = []

    def __call__(self, points, superpoint=None):
        self.seen.append((points, superpoint))
        masks = np.stack([np.rint(points[:, 3]) == k for k in range(OBJECTS)])
        masks = masks[masks.sum(1) >= 5]
        return Found(masks, np.zeros(len(masks), int), np.full(len(masks), 0.9, np.float32), np.zeros(len(points), int))


def scene(points=6000):
    """Boxes on a grid of 6 x 6 in 18 m x 18 m; the red of a point is its box."""
    generator = np.random.default_rng(0)
    xyz = generator.uniform(0, [6 * SIDE, 6 * SIDE, 2], (points, 3))
    box = (xyz[:, 0] // SIDE).astype(int) * 6 + (xyz[:, 1] // SIDE).astype(int)
    return xyz, np.stack([box, 0 * box + 255, 0 * box], 1), box


def run(folder, cloud, oracle=None, **options):
    checkpoint = folder / "model.pth"
    if not checkpoint.exists():
        checkpoint.write_bytes(b"weights")
    parser = argparse.ArgumentParser()
    predict.add_arguments(parser)
    words = [str(word) for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    args = parser.parse_args(
        ["config.py", str(checkpoint), str(cloud), "--out", str(folder / "out"), "--quiet", *words]
    )
    oracle, said = oracle or Oracle(), []
    summary = predict._predict(cloud, oracle, predict._plan(args), predict._key(args, oracle), args, said.append)
    return summary, said, oracle


@pytest.mark.parametrize("tile", [100, 8, 7])
def test_boxes_come_back_whole_from_tiles(tmp_path, tile):
    xyz, colour, box = scene()
    summary, _, oracle = run(tmp_path, ply(tmp_path / "scene.ply", xyz, colour), tile=tile, overlap=2.5)
    found = read_predictions(tmp_path / "out" / "scene" / "instances.npz")
    assert (summary["tiles"] == 1) == (tile == 100) and len(oracle.seen) == summary["tiles"]
    assert sorted(map(tuple, (np.flatnonzero(mask) for mask in found.masks))) == sorted(
        tuple(np.flatnonzero(box == k)) for k in range(OBJECTS)
    )
    assert (found.semantic == 0).all()
    assert summary["classes"] == {"box": OBJECTS} and summary["checkpoint"]["iter"] == 7


def test_files_are_the_same_whether_arrays_lie_in_memory_or_on_disk(tmp_path, monkeypatch):
    """In memory all is done at once; on disk a few points at a time, and nothing but the results is left."""
    xyz, colour, _ = scene()
    cloud = ply(tmp_path / "scene.ply", xyz + np.array([500_000, 5_400_000, 300]), colour)
    monkeypatch.setattr(Scratch.parts, "__defaults__", (1000,))
    run(tmp_path, cloud, tile=8, overlap=2.5)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scene"]
    (tmp_path / "out").rename(tmp_path / "disk")
    monkeypatch.setattr(Scratch.parts, "__defaults__", (10**9,))
    monkeypatch.setattr(predict, "Scratch", lambda folder: MEMORY)
    run(tmp_path, cloud, tile=8, overlap=2.5)
    for name in ("instances.npz", "instances.ply", "page.html"):
        assert (tmp_path / "disk/scene" / name).read_bytes() == (tmp_path / "out/scene" / name).read_bytes(), name


def test_a_dense_tile_is_thinned_and_every_point_gets_an_instance(tmp_path):
    xyz, colour, box = scene()
    _, _, oracle = run(tmp_path, ply(tmp_path / "scene.ply", xyz, colour), tile_points=4000, tile=100)
    assert len(oracle.seen[0][0]) <= 4000
    found = read_predictions(tmp_path / "out" / "scene" / "instances.npz")
    own = found.instance_of_points()
    truth = np.array([np.bincount(box[own == k]).argmax() for k in range(len(found))])
    inside = ((xyz[:, :2] % SIDE > 0.5) & (xyz[:, :2] % SIDE < SIDE - 0.5)).all(1)  # at a border, colours are mixed
    assert (own >= 0)[inside].all() and (truth[own] == box)[inside].all()


def test_the_model_gets_metres_near_the_origin_and_the_ply_the_files_own(tmp_path):
    """A georeferenced cloud in millimetres."""
    xyz, colour, _ = scene()
    far = (xyz + np.array([500_000, 5_400_000, 300])) * 1000
    cloud = ply(tmp_path / "scene.ply", far, colour)
    summary, said, oracle = run(tmp_path, cloud)
    points = oracle.seen[0][0]
    assert np.abs(points[:, :3]).max() < 11 and points.dtype == np.float32
    assert any("millimetres" in line for line in said) and any("georeferenced" in line for line in said)
    assert summary["metres_in_a_unit"] == 0.001
    assert summary["instances"][0]["low"][1] > 5e9
    from plyfile import PlyData

    np.testing.assert_array_equal(PlyData.read(str(tmp_path / "out/scene/instances.ply"))["vertex"]["y"], far[:, 1])


def test_tiles_that_are_done_are_not_segmented_again(tmp_path):
    """The model stops at the third tile; the next call starts there, and ends as if nothing had been."""
    xyz, colour, _ = scene()
    cloud = ply(tmp_path / "scene.ply", xyz, colour)

    class Stops(Oracle):
        def __call__(self, points, superpoint=None):
            if len(self.seen) == 2:
                raise KeyboardInterrupt
            return super().__call__(points, superpoint)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, cloud, Stops(), tile=8, overlap=2.5)
    folder = tmp_path / "out" / "scene"
    assert len(list((folder / "tiles").iterdir())) == 2 and not (folder / "summary.json").exists()
    with pytest.raises(ValueError, match="a run with other arguments was ended before it was done"):
        run(tmp_path, cloud, tile=9, overlap=2.5)
    summary, _, oracle = run(tmp_path, cloud, tile=8, overlap=2.5)
    assert len(oracle.seen) == summary["tiles"] - 2
    first = read_predictions(folder / "instances.npz")
    assert {path.name for path in folder.iterdir()} == {"instances.npz", "instances.ply", "page.html", "summary.json"}
    _, said, oracle = run(tmp_path, cloud, tile=8, overlap=2.5)
    assert not oracle.seen and said == ["scene: done before, 36 box"]
    with pytest.raises(ValueError, match="holds predictions of another cloud, checkpoint or other options"):
        run(tmp_path, cloud, tile=8, overlap=2.5, score=0.1)
    shutil.rmtree(folder)
    run(tmp_path, cloud, tile=8, overlap=2.5)
    np.testing.assert_array_equal(read_predictions(folder / "instances.npz").indices, first.indices)


def test_a_damaged_tile_is_segmented_again(tmp_path):
    """Tiles appear whole, but disks lose bytes: what cannot be read is done again."""
    xyz, colour, _ = scene()
    cloud = ply(tmp_path / "scene.ply", xyz, colour)

    class Stops(Oracle):
        def __call__(self, points, superpoint=None):
            if self.seen:
                raise KeyboardInterrupt
            return super().__call__(points, superpoint)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, cloud, Stops(), tile=8, overlap=2.5)
    (tile,) = (tmp_path / "out" / "scene" / "tiles").iterdir()
    tile.write_bytes(tile.read_bytes()[:100])
    summary, _, oracle = run(tmp_path, cloud, tile=8, overlap=2.5)
    assert len(oracle.seen) == summary["tiles"] and summary["classes"] == {"box": OBJECTS}


def test_superpoints_of_a_mesh_a_graph_and_a_file(tmp_path):
    u, v = np.meshgrid(np.arange(20), np.arange(20), indexing="ij")
    xyz = np.stack([u * 0.05, v * 0.05, 0 * u], -1).reshape(-1, 3)
    a = (u * 20 + v)[:-1, :-1].reshape(-1)
    halves = [(k, k + 20, k + 21) for k in a if k // 20 != 9]  # the sheet is cut between two rows
    colour = np.zeros((400, 3), int)
    mesh = ply(
        tmp_path / "mesh.ply", xyz, colour + 1, faces=[*halves, *((k, k + 21, k + 1) for k in a if k // 20 != 9)]
    )
    _, _, oracle = run(tmp_path, mesh, Oracle(needs_superpoints=True))
    assert sorted(np.bincount(oracle.seen[0][1]).tolist()) == [200, 200], "by its faces, two pieces"
    shutil.rmtree(tmp_path / "out")
    _, _, oracle = run(tmp_path, mesh, Oracle(needs_superpoints=True), superpoints="graph")
    assert oracle.seen[0][1].max() == 0, "by its points, one plane"
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "own").mkdir()
    (np.arange(400) // 100 * 7).astype("<i8").tofile(tmp_path / "own" / "mesh.bin")
    _, _, oracle = run(tmp_path, mesh, Oracle(needs_superpoints=True), superpoints=tmp_path / "own")
    assert np.bincount(oracle.seen[0][1]).tolist() == [100] * 4, "numbered without gaps"
    shutil.rmtree(tmp_path / "out")
    bare = ply(tmp_path / "bare.ply", xyz, colour + 1)
    with pytest.raises(ValueError, match="has no faces; take --superpoints graph"):
        run(tmp_path, bare, Oracle(needs_superpoints=True), superpoints="mesh")
    with pytest.raises(ValueError, match="takes voxels; leave it out"):
        run(tmp_path, bare, Oracle(), superpoints="graph")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tile", "0"], "--tile must be above 0, got 0"),
        (["--overlap", "7"], r"--overlap must be at least 0 and below half of --tile \(12 m\), got 7"),
        (["--tile-points", "0"], "--tile-points must be above 0"),
        (["--superpoints", "magic"], "--superpoints must be one of .* or a folder, got 'magic'"),
        ([], "absent.ply does not exist"),
    ],
)
def test_arguments_that_are_refused(tmp_path, capsys, words, message):
    import re

    words = ["predict", "config.py", "model.pth", str(tmp_path / "absent.ply"), "--out", str(tmp_path / "out"), *words]
    assert cli.main(words) == 2
    assert re.search(message, capsys.readouterr().err)


def test_two_clouds_of_one_name_and_an_empty_folder(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "room.txt").write_text("0 0 0\n")
    words = ["predict", "config.py", "model.pth", "--out", str(tmp_path / "out")]
    assert cli.main([*words, str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "two clouds are called room" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert cli.main([*words, str(tmp_path / "empty")]) == 2
    assert "empty holds no point cloud; known are .ply" in capsys.readouterr().err


def test_summary_is_plain_json(tmp_path):
    xyz, colour, _ = scene(500)
    run(tmp_path, ply(tmp_path / "scene.ply", xyz, colour))
    summary = json.loads((tmp_path / "out" / "scene" / "summary.json").read_text())
    assert summary["points"] == 500 and summary["versions"]["torch"] and len(summary["checkpoint"]["sha256"]) == 64
    assert {"instance", "class", "score", "points", "low", "high"} == set(summary["instances"][0])
