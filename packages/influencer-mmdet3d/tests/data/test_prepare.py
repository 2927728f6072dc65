"""Labelled scans become a data folder: by hand, against `check`, and each message."""

import json
import pickle
from pathlib import Path

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


def as_las(path):
    """The same scan as .las: colours of 16 bits, label and instance as extra fields; returns its path."""
    laspy = pytest.importorskip("laspy")
    vertex = plyfile.PlyData.read(str(path))["vertex"]
    header = laspy.LasHeader(point_format=3, version="1.4")
    header.scales, header.offsets = np.full(3, 1e-4), np.floor([vertex[axis].min() for axis in "xyz"])
    for name in ("label", "instance"):
        header.add_extra_dim(laspy.ExtraBytesParams(name, np.int32))
    las = laspy.LasData(header)
    las.x, las.y, las.z = (vertex[axis] for axis in "xyz")
    for colour in ("red", "green", "blue"):
        las[colour] = vertex[colour].astype(np.uint16) * 257
    las.label, las.instance = vertex["label"], vertex["instance"]
    target = Path(path).with_suffix(".las")
    las.write(str(target))
    return target


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
        ("a.e57", b"ASTM", "a scan is a .ply, .las, .laz or .npz with labels, got .e57"),
        ("a.ply", b"version https://git-lfs.github.com/spec/v1\n", "is a Git-LFS pointer"),
        ("a.ply", b"solid", "is no readable .ply with vertices"),
        ("a.npz", b"PK", "is no readable .npz of plain arrays"),
    ],
)
def test_files_that_are_no_scans(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_scan(tmp_path / name)


def test_las_gives_what_its_ply_gives(tmp_path):
    ply = rooms(tmp_path, count=1)[0]
    one, other = read_scan(Path(ply)), read_scan(as_las(ply))
    np.testing.assert_allclose(other.xyz, one.xyz, atol=1e-4)
    np.testing.assert_allclose(other.colour, one.colour)
    assert (other.label == one.label).all() and (other.instance == one.instance).all()
    with pytest.raises(ValueError, match=r"room_0\.las has no kind, it has \[.*'classification'.*'label'"):
        read_scan(Path(ply).with_suffix(".las"), label="kind")


def super_points(folder, name):
    return np.fromfile(folder / "data" / "super_points" / f"{name}.bin", np.int64)


def test_superpoints_of_a_field_of_a_folder_and_of_the_points(tmp_path, capsys):
    points = np.arange(12.0).reshape(6, 2) @ np.ones((2, 3))
    (tmp_path / "names.txt").write_text("a\nb\n")
    for name in ("one", "two"):
        np.savez(
            tmp_path / f"{name}.npz", points=points, label=[0, 1] * 3, instance=[0, 1] * 3, piece=[7, 7, 4, 9, 4, 9]
        )
    scans = [str(tmp_path / f"{name}.npz") for name in ("one", "two")]
    assert prepare(tmp_path, scans, "--val", "two", "--superpoints", "piece") == 0
    assert super_points(tmp_path, "one").tolist() == [1, 1, 0, 2, 0, 2]
    infos = pickle.loads((tmp_path / "data" / "infos_train.pkl").read_bytes())
    assert infos["data_list"][0]["super_pts_path"] == "one.bin"
    folder = tmp_path / "pieces"
    folder.mkdir()
    np.array([5, 5, 5, 0, 0, 0]).astype("<i8").tofile(folder / "one.bin")
    assert prepare(tmp_path, scans, "--val", "two", "--superpoints", str(folder)) == 2
    assert "influencer-mmdet3d superpoints SCAN --out" in capsys.readouterr().err
    np.zeros(5, "<i8").tofile(folder / "two.bin")
    assert prepare(tmp_path, scans, "--val", "two", "--superpoints", str(folder)) == 2
    assert "two.bin has 5 superpoints for the 6 points of its scan" in capsys.readouterr().err
    np.zeros(6, "<i8").tofile(folder / "two.bin")
    assert prepare(tmp_path, scans, "--val", "two", "--superpoints", str(folder)) == 0
    assert super_points(tmp_path, "one").tolist() == [1, 1, 1, 0, 0, 0]
    assert prepare(tmp_path, scans, "--val", "two", "--superpoints", "graph") == 0
    assert super_points(tmp_path, "two").min() == 0
    assert prepare(tmp_path, scans, "--val", "two", "--superpoints", "absent") == 2
    assert "one.npz has no absent" in capsys.readouterr().err


def test_tiles_number_their_superpoints_anew(tmp_path):
    points = np.stack([[0.5, 0.6, 9.5, 9.6], np.zeros(4), np.zeros(4)], 1)
    (tmp_path / "names.txt").write_text("a\n")
    for name in ("one", "two"):
        np.savez(tmp_path / f"{name}.npz", points=points, label=[0] * 4, instance=[0] * 4, piece=[3, 3, 8, 3])
    scans = [str(tmp_path / f"{name}.npz") for name in ("one", "two")]
    assert prepare(tmp_path, scans, "--val", "two", "--superpoints", "piece", "--tile", "5") == 0
    assert super_points(tmp_path, "one_0_0").tolist() == [0, 0]
    assert super_points(tmp_path, "one_1_0").tolist() == [1, 0]


def npz(folder, name="one", *, points=None, colour=None, label=(0, 1), instance=(0, 1), **more):
    xyz = np.array([[0.0, 0, 0], [1, 2, 4]]) if points is None else np.asarray(points)
    xyz = xyz if colour is None else np.concatenate([xyz, np.asarray(colour, float)], 1)
    np.savez(folder / f"{name}.npz", points=xyz, label=np.asarray(label), instance=np.asarray(instance), **more)
    return folder / f"{name}.npz"


@pytest.mark.parametrize(
    ("colour", "wanted"),
    [
        ([[0, 0.5, 1], [0.2, 0, 0]], [[0, 127.5, 255], [51, 0, 0]]),
        ([[0, 0, 2], [1, 0, 0]], [[0, 0, 2], [1, 0, 0]]),
        ([[0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]),
        ([[0, 255, 7], [1, 2, 3]], [[0, 255, 7], [1, 2, 3]]),
        (None, None),
    ],
)
def test_colours_and_their_ranges(tmp_path, colour, wanted):
    found = read_scan(npz(tmp_path, colour=colour)).colour
    assert (found is None) if wanted is None else np.allclose(found, wanted)


@pytest.mark.parametrize("colour", [[[-1, 0, 0], [9, 9, 9]], [[0, 0, 0], [0, 0, 256]]])
def test_colours_out_of_range(tmp_path, colour):
    with pytest.raises(ValueError, match="colours lie between .* expected 0 to 255 or 0 to 1"):
        read_scan(npz(tmp_path, colour=colour))


def test_arrays_of_other_shapes_and_numbers(tmp_path):
    with pytest.raises(ValueError, match="1 points have values that are not finite"):
        read_scan(npz(tmp_path, points=[[0, 0, np.nan], [1, 1, 1]]))
    for points in (np.zeros((2, 4)), np.zeros((0, 3)), np.zeros((2, 3, 1)), np.zeros(3)):
        with pytest.raises(ValueError, match=r"points must be \(N, 3\) or \(N, 6\) with colours, got"):
            read_scan(npz(tmp_path, points=points))
    for label in ([0], [0, 1, 2], [[0], [1]]):
        with pytest.raises(ValueError, match=r"label must have shape \(2,\), one for each point, got"):
            read_scan(npz(tmp_path, label=label))
    for label in ([0, 1.5], [0, -1.5]):
        with pytest.raises(ValueError, match=rf"label must hold whole numbers, got e.g. {label[1]}"):
            read_scan(npz(tmp_path, label=label))
    assert read_scan(npz(tmp_path, label=[0.0, 2.0])).label.tolist() == [0, 2]


def names(folder, text="a\nb\n"):
    (folder / "names.txt").write_text(text)


def test_labels_outside_the_classes(tmp_path, capsys):
    names(tmp_path)
    many = npz(tmp_path, "one", points=np.zeros((9, 3)), label=[-1, -1, 2, 3, 4, 5, 6, 0, 1], instance=[0] * 9)
    assert prepare(tmp_path, [str(many), str(npz(tmp_path, "two"))], "--val", "two") == 2
    error = capsys.readouterr().err
    assert "labels outside 0 to 1: -1 (2 points), 2 (1 points), 3 (1 points), 4 (1 points), 5 (1 points). The" in error


def test_other_must_be_the_last_class(tmp_path, capsys):
    scans = [str(npz(tmp_path, name)) for name in ("one", "two")]
    names(tmp_path, "a\nother\nb\n")
    assert prepare(tmp_path, scans, "--val", "two", "--unlabelled", "255") == 2
    assert "'other' must be the last class" in capsys.readouterr().err
    names(tmp_path, "a\nb\nother\n")
    assert prepare(tmp_path, scans, "--val", "two", "--unlabelled", "255") == 0
    assert (tmp_path / "data" / "classes.txt").read_text() == "a\nb\nother\n"


def test_two_scans_of_one_name_and_no_class_file(tmp_path, capsys):
    names(tmp_path)
    (tmp_path / "more").mkdir()
    scans = [str(npz(tmp_path, "one")), str(npz(tmp_path / "more", "one")), str(npz(tmp_path, "two"))]
    assert prepare(tmp_path, scans, "--val", "two") == 2
    assert "two scans are called one; names must differ" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["prepare", scans[0], "--val", "one", "--out", str(tmp_path / "data")])
    assert "--classes" in capsys.readouterr().err


def test_entries_are_numbered_and_boxed(tmp_path, capsys):
    names(tmp_path)
    scans = [str(npz(tmp_path, name)) for name in ("one", "two", "three")]
    out = tmp_path / "data"
    words = ["prepare", *scans, "--classes", str(tmp_path / "names.txt"), "--val", "three", "--out", str(out)]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert said.count("has no colours, grey is taken") == 3 and "2 scenes to train" in said
    entries = pickle.loads((out / "infos_train.pkl").read_bytes())["data_list"]
    assert [entry["sample_idx"] for entry in entries] == [0, 1]
    assert entries[0]["instances"] == [
        {"bbox_3d": [0.5, 0, 2, 1, 2, 4], "bbox_label_3d": 0}
    ]  # from the offset (0, 1, 0)
    colour = [str(npz(tmp_path, name, colour=[[9, 9, 9], [1, 1, 1]])) for name in ("four", "five")]
    assert cli.main(["prepare", *colour, *words[4:6], "--val", "five", "--out", str(tmp_path / "other")]) == 0
    assert "grey" not in capsys.readouterr().out


def test_a_scan_that_has_changed_is_read_again(tmp_path):
    names(tmp_path)
    scans = [str(npz(tmp_path, name)) for name in ("one", "two")]
    assert prepare(tmp_path, scans, "--val", "two") == 0
    npz(tmp_path, "one", points=[[0, 0, 0], [1, 2, 8]])
    assert prepare(tmp_path, scans, "--val", "two") == 0
    points = np.fromfile(tmp_path / "data" / "points" / "one.bin", "<f4").reshape(-1, 6)
    assert points[:, 2].tolist() == [0, 8]
