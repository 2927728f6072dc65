"""Labelled scans become a data folder: by hand, against `check`, and each message."""

import json
import pickle

import numpy as np
import pytest
from influencer_mmdet3d import cli
from influencer_mmdet3d.data.prepare import read_scan
from influencer_mmdet3d.data.rooms import make_room

plyfile = pytest.importorskip("plyfile")
TO_FOUR = np.array([0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 3])
UTM = np.array([500_000.0, 5_400_000.0, 300.0])


def write_ply(path, points, **fields):
    names = ["x", "y", "z", "red", "green", "blue"][: points.shape[1]]
    types = [(name, "f8" if name in "xyz" else "u1") for name in names]
    table = np.empty(len(points), types + [(name, "i4") for name in fields])
    for number, name in enumerate(names):
        table[name] = points[:, number]
    for name, values in fields.items():
        table[name] = values
    path.parent.mkdir(parents=True, exist_ok=True)
    plyfile.PlyData([plyfile.PlyElement.describe(table, "vertex")]).write(str(path))
    return path


def rooms(folder, count=3, points=1500):
    generator = np.random.default_rng(0)
    for number in range(count):
        room = make_room(generator, points=points, objects=(4, 6))
        where = np.concatenate([room.points[:, :3].astype(np.float64) + UTM, room.points[:, 3:]], 1)
        write_ply(folder / f"room_{number}.ply", where, label=TO_FOUR[room.semantic], instance=room.instance)
    (folder / "names.txt").write_text("floor\nwall\npipe\nvalve\n")
    return [str(folder / f"room_{number}.ply") for number in range(count)]


def prepare(folder, scans, *words):
    out = folder / "data"
    return cli.main(["prepare", *scans, "--classes", str(folder / "names.txt"), "--out", str(out), *words, "--quiet"])


def test_georeferenced_rooms_pass_the_check(tmp_path, capsys):
    scans = rooms(tmp_path)
    assert prepare(tmp_path, scans, "--val", "room_2") == 0
    assert cli.main(["check", str(tmp_path / "data"), "--format", "s3dis"]) == 0
    assert "valve" in capsys.readouterr().out
    record = json.loads((tmp_path / "data" / "scans" / "room_0.json").read_text())
    read = np.fromfile(tmp_path / "data" / "points" / "room_0.bin", "<f4").reshape(-1, 6)[:, :3]
    scan = read_scan(tmp_path / "room_0.ply")
    np.testing.assert_allclose(read + np.array(record["offsets"]["room_0"]), scan.xyz, atol=1e-5)
    infos = pickle.loads((tmp_path / "data" / "infos_val.pkl").read_bytes())
    assert [entry["lidar_points"]["lidar_path"] for entry in infos["data_list"]] == ["room_2.bin"]


def test_labels_and_instances_by_hand(tmp_path):
    """Two classes in one instance part; points without an instance are one for each class; 255 goes to 'other'."""
    points = np.arange(12.0).reshape(6, 2) @ np.ones((2, 3))
    (tmp_path / "names.txt").write_text("a\nb\n")
    np.savez(tmp_path / "one.npz", points=points, label=[0, 1, 1, 0, 255, 0], instance=[5, 5, 5, -1, -1, -1])
    np.savez(tmp_path / "two.npz", points=points, label=[0] * 6, instance=[0] * 6)
    scans = [str(tmp_path / name) for name in ("one.npz", "two.npz")]
    assert prepare(tmp_path, scans, "--val", "two", "--unlabelled", "255") == 0
    semantic = np.fromfile(tmp_path / "data" / "semantic_mask" / "one.bin", np.int64)
    instance = np.fromfile(tmp_path / "data" / "instance_mask" / "one.bin", np.int64)
    assert semantic.tolist() == [0, 1, 1, 0, 2, 0]
    assert instance.tolist() == [2, 3, 3, 0, 1, 0]
    assert (tmp_path / "data" / "classes.txt").read_text() == "a\nb\nother\n"
    colours = np.fromfile(tmp_path / "data" / "points" / "one.bin", np.float32).reshape(-1, 6)[:, 3:]
    assert (colours == 128).all()


def test_tiles_hold_every_point_once(tmp_path):
    scans = rooms(tmp_path, 2)
    assert prepare(tmp_path, scans, "--val", "room_1", "--tile", "3") == 0
    record = json.loads((tmp_path / "data" / "scans" / "room_0.json").read_text())
    assert len(record["offsets"]) > 1
    back = [
        np.fromfile(tmp_path / "data" / "points" / f"{name}.bin", "<f4").reshape(-1, 6)[:, :3] + np.array(offset)
        for name, offset in record["offsets"].items()
    ]
    assert all((np.ptp(part[:, :2], axis=0) <= 3 + 1e-4).all() for part in back)
    wanted = read_scan(tmp_path / "room_0.ply").xyz
    got = np.concatenate(back)
    np.testing.assert_allclose(got[np.lexsort(got.T)].sum(0), wanted.sum(0), atol=1)
    assert len(got) == len(wanted)


def test_a_second_call_leaves_what_is_there(tmp_path, monkeypatch):
    scans = rooms(tmp_path, 2)
    assert prepare(tmp_path, scans, "--val", "room_1") == 0
    monkeypatch.setattr("influencer_mmdet3d.data.prepare.read_scan", lambda *_: pytest.fail("read again"))
    assert prepare(tmp_path, scans, "--val", "room_0") == 0
    infos = pickle.loads((tmp_path / "data" / "infos_val.pkl").read_bytes())
    assert [entry["lidar_points"]["lidar_path"] for entry in infos["data_list"]] == ["room_0.bin"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--val", "room_9"), "--val must name some but not all of the scans"),
        (("--val", "room_0", "room_1"), "--val must name some but not all of the scans"),
        (("--val", "room_0", "--tile", "0"), "--tile must be > 0 metres, got 0.0"),
        (("--val", "room_0", "--label", "class"), "has no class, it has"),
    ],
)
def test_wrong_use(tmp_path, capsys, words, message):
    assert prepare(tmp_path, rooms(tmp_path, 2), *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "data" / "infos_train.pkl").exists()


def test_labels_that_no_class_has(tmp_path, capsys):
    scans = rooms(tmp_path, 2)
    (tmp_path / "names.txt").write_text("floor\nwall\npipe\n")
    assert prepare(tmp_path, scans, "--val", "room_1") == 2
    assert "labels outside 0 to 2: 3 (" in (error := capsys.readouterr().err) and "--unlabelled 3" in error
    assert not (tmp_path / "data" / "classes.txt").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.las", b"LASF", "a scan is a .ply or .npz with labels, got .las"),
        ("a.ply", b"version https://git-lfs.github.com/spec/v1\n", "is a Git-LFS pointer"),
        ("a.ply", b"solid", "is no readable .ply with vertices"),
        ("a.npz", b"PK", "is no readable .npz of plain arrays"),
    ],
)
def test_files_that_are_no_scans(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_scan(tmp_path / name)
