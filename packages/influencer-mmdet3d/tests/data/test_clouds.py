"""Point clouds of every format, as other tools write them: what is read, what is said, what is refused."""

import struct
import sys

import numpy as np
import pytest
from influencer_mmdet3d.data import cloud_files
from influencer_mmdet3d.data.clouds import read_cloud
from influencer_mmdet3d.data.scratch import MEMORY, Scratch
from written import ply

plyfile = pytest.importorskip("plyfile")
XYZ = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0]])
RGB = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]])
UTM = np.array([500_000.0, 5_400_000.0, 300.0])


def las(path, xyz=XYZ, colour=RGB * 257, **fields):
    laspy = pytest.importorskip("laspy")
    header = laspy.LasHeader(point_format=3 if colour is not None else 0, version="1.2")
    header.offsets, header.scales = xyz.min(0), np.array([0.001] * 3)
    for name, values in fields.items():
        header.add_extra_dim(laspy.ExtraBytesParams(name=name, type=values.dtype))
    data = laspy.LasData(header)
    data.x, data.y, data.z = xyz.T
    if colour is not None:
        data.red, data.green, data.blue = colour.T
    for name, values in fields.items():
        data[name] = values
    data.write(str(path))
    return path


def pcd(path, kind):
    """A .pcd as the Point Cloud Library writes it, colours packed into a float."""
    packed = ((RGB[:, 0] << 16) | (RGB[:, 1] << 8) | RGB[:, 2]).astype("<u4").view("<f4")
    head = (
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F F\n"
        f"COUNT 1 1 1 1\nWIDTH 4\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 4\nDATA {kind}\n"
    ).encode()
    rows = np.concatenate([XYZ, packed[:, None]], 1).astype("<f4")
    body = rows.tobytes() if kind == "binary" else b""
    if kind == "ascii":
        body = "\n".join(" ".join(f"{value:.9g}" for value in row) for row in rows.tolist()).encode() + b"\n"
    if kind == "binary_compressed":
        lzf = pytest.importorskip("lzf")
        columns = rows.T.copy().tobytes()
        packed_bytes = lzf.compress(columns, 2 * len(columns))
        body = struct.pack("<II", len(packed_bytes), len(columns)) + packed_bytes
    path.write_bytes(head + body)
    return path


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def text(path, lines):
    path.write_text("\n".join(lines) + "\n")
    return path


ROWS = [" ".join(map(str, [*xyz, *rgb])) for xyz, rgb in zip(XYZ.tolist(), RGB.tolist())]


def npy(path):
    np.save(path, np.concatenate([XYZ, RGB], 1))
    return path


def host_bin(path):
    np.concatenate([XYZ, RGB], 1).astype("<f4").tofile(path)
    return path


FORMATS = {
    "binary.ply": lambda path: ply(path, XYZ, RGB),
    "text.ply": lambda path: ply(path, XYZ, RGB, text=True),
    "short names.ply": lambda path: ply(path, XYZ, RGB, faces=[(0, 1, 2)]),
    "cloud.las": las,
    "cloud.laz": las,
    "ascii.pcd": lambda path: pcd(path, "ascii"),
    "binary.pcd": lambda path: pcd(path, "binary"),
    "compressed.pcd": lambda path: pcd(path, "binary_compressed"),
    "both.npy": npy,
    "points.npz": lambda path: npz(path, points=np.concatenate([XYZ, RGB], 1)),
    "scannet.npz": lambda path: npz(path, xyz=XYZ.astype(np.float32), rgb=RGB.astype(np.uint8), instance=np.arange(4)),
    "blanks.txt": lambda path: text(path, ROWS),
    "cloudcompare.txt": lambda path: text(path, ["//X Y Z R G B", "4", *ROWS]),
    "commas.xyz": lambda path: text(path, ["x,y,z,r,g,b", *(row.replace(" ", ",") for row in ROWS)]),
    "host.bin": host_bin,
}


@pytest.mark.parametrize("where", ["memory", "disk"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_points(tmp_path, name, where, monkeypatch):
    """On disk, two points at a time."""
    if name.endswith((".laz", ".las")):
        pytest.importorskip("lazrs")
    if name.endswith(".pcd"):
        pytest.importorskip("pypcd4")
    monkeypatch.setattr(Scratch.parts, "__defaults__", (2,))
    monkeypatch.setattr(cloud_files, "PART", 2)
    cloud = read_cloud(FORMATS[name](tmp_path / name), scratch=Scratch(tmp_path) if where == "disk" else MEMORY)
    np.testing.assert_allclose(cloud.xyz, XYZ, atol=1e-6)
    np.testing.assert_array_equal(cloud.colour, RGB)
    assert cloud.xyz.dtype == np.float64 and cloud.colour.dtype == np.uint8 and cloud.metres == 1.0


@pytest.mark.parametrize("name", ["text.ply", "short names.ply", "ascii.pcd", "blanks.txt"])
def test_formats_that_are_read_whole_say_so_of_large_files(tmp_path, name, monkeypatch):
    if name.endswith(".pcd"):
        pytest.importorskip("pypcd4")
    said = [note for note in read_cloud(FORMATS[name](tmp_path / name)).notes if "is read whole" in note]
    monkeypatch.setattr(cloud_files, "MANY", 4)
    (note,) = [note for note in read_cloud(tmp_path / name).notes if "is read whole" in note]
    assert not said and ".las, .laz, .npy, .npz and .bin are read in parts" in note


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", [">f4", "<i8", "u1"])
def test_numpys_files_are_read_as_numpy_reads_them(tmp_path, order, kind):
    points = np.asarray(np.concatenate([XYZ, RGB], 1).astype(kind), order=order)
    np.save(tmp_path / "a.npy", points)
    np.savez_compressed(tmp_path / "a.npz", points=points)
    for name in ("a.npy", "a.npz"):
        cloud = read_cloud(tmp_path / name)
        assert (cloud.xyz == XYZ).all() and (cloud.colour == RGB).all()


def test_faces_and_fields_of_a_ply(tmp_path):
    """A triangle stays, a square becomes two triangles, in the order of its corners."""
    cloud = read_cloud(
        ply(tmp_path / "mesh.ply", XYZ, faces=[(0, 1, 2), (0, 1, 2, 3)], label=np.arange(4, dtype=np.int32))
    )
    assert cloud.faces.tolist() == [[0, 1, 2], [0, 1, 2], [0, 2, 3]]
    assert cloud.fields["label"].tolist() == [0, 1, 2, 3]


def test_extra_dimensions_of_a_las(tmp_path):
    cloud = read_cloud(las(tmp_path / "own.las", label=np.array([3, 1, 0, 2], np.uint8)))
    assert cloud.fields["label"].tolist() == [3, 1, 0, 2]


def test_faces_that_name_no_point_are_refused(tmp_path):
    with pytest.raises(ValueError, match="faces name points 0 to 9, but there are 0 to 3"):
        read_cloud(ply(tmp_path / "mesh.ply", XYZ, faces=[(0, 1, 9)]))


def test_missing_colours_are_said_and_grey(tmp_path):
    cloud = read_cloud(ply(tmp_path / "bare.ply", XYZ))
    assert cloud.colour is None
    assert any("no colours: grey is taken" in note for note in cloud.notes)
    assert (cloud.centred()[0][:, 3:] == 128).all()


@pytest.mark.parametrize(
    ("colour", "kind", "word"),
    [(RGB / 255, "f4", "taken for 0 to 1"), (RGB * 257, "u2", "taken for 16 bits")],
)
def test_ranges_of_colours_are_recognised_and_named(tmp_path, colour, kind, word):
    cloud = read_cloud(ply(tmp_path / "colours.ply", XYZ, colour, kind=kind))
    np.testing.assert_array_equal(cloud.colour, RGB)
    assert any(word in note for note in cloud.notes)


def test_georeferenced_points_survive(tmp_path):
    """Float32 counts in steps of 0.5 at 5,400,000: subtracted before, nothing is lost, and it is said."""
    xyz = np.random.default_rng(0).uniform(0, 5, (1000, 3))
    cloud = read_cloud(ply(tmp_path / "utm.ply", xyz=xyz + UTM, colour=None))
    points, offset = cloud.centred()
    assert any("georeferenced" in note and "put back" in note for note in cloud.notes)
    np.testing.assert_allclose(points[:, :3].astype(np.float64) + offset, xyz + UTM, atol=1e-6)
    assert len(np.unique(points[:, 1])) > 990


def test_metres_near_the_origin_stay_bit_for_bit(tmp_path):
    xyz = np.random.default_rng(0).uniform(-5, 5, (100, 3)).astype(np.float32)
    points, offset = read_cloud(ply(tmp_path / "near.ply", xyz.astype(np.float64))).centred()
    assert (points[:, :3] == xyz).all() and (offset == 0).all()


def room(scale):
    """A surface of 6 m x 5 m x 2.5 m, neighbours some centimetres apart, in another unit."""
    xyz = np.random.default_rng(0).uniform(0, 1, (4000, 3)) * [6, 5, 2.5]
    return xyz * scale


def test_millimetres_are_recognised_and_named(tmp_path):
    cloud = read_cloud(ply(tmp_path / "mm.ply", xyz=room(1000), colour=None))
    assert cloud.metres == 0.001
    assert any("taken for millimetres" in note and "--unit" in note for note in cloud.notes)
    assert np.ptp(cloud.centred()[0][:, :3], axis=0) == pytest.approx([6, 5, 2.5], abs=0.1)


def test_centimetres_are_asked_for(tmp_path):
    path = ply(tmp_path / "cm.ply", xyz=room(100), colour=None)
    with pytest.raises(ValueError, match="fits neither metres nor millimetres of a room: name the unit with --unit"):
        read_cloud(path)
    assert read_cloud(path, "cm").metres == 0.01


def test_a_wide_cloud_in_metres_stays(tmp_path):
    xyz = np.random.default_rng(0).uniform(0, 1, (20_000, 3)) * [300, 2, 0.1]
    assert read_cloud(ply(tmp_path / "street.ply", xyz=xyz, colour=None)).metres == 1.0


def broken(path, content):
    path.write_bytes(content)
    return path


REFUSED = {
    "format": (lambda folder: broken(folder / "a.obj", b"v 0 0 0"), r"no known format .* known are \.ply"),
    "absent": (lambda folder: folder / "absent.ply", "does not exist"),
    "folder": (lambda folder: (folder / "a.ply").mkdir() or folder / "a.ply", "is a folder, expected a file"),
    "web page": (lambda folder: broken(folder / "a.ply", b"<!DOCTYPE html>"), "is a web page"),
    "lfs": (lambda folder: broken(folder / "a.las", b"version https://git-lfs.github.com/spec"), "Git-LFS pointer"),
    "cut ply": (lambda folder: broken(folder / "a.ply", b"ply\nformat ascii 1.0\n"), "is no readable .ply"),
    "no z": (lambda folder: text(folder / "a.ply", [
        "ply", "format ascii 1.0", "element vertex 1", "property float x", "property float y", "end_header", "0 0",
    ]), "has no z of its points"),
    "empty npz": (lambda folder: broken(folder / "a.npz", b""), "is no readable .npz"),
    "npz names": (lambda folder: npz(folder / "a.npz", cloud=XYZ), "has neither points nor xyz; it has"),
    "npz rgb": (lambda folder: npz(folder / "a.npz", xyz=XYZ, rgb=RGB[:2]), "rgb must have the shape"),
    "npy": (lambda folder: (np.save(folder / "a.npy", XYZ[:, :2]), folder / "a.npy")[1], r"got float64 \(4, 2\)"),
    "npy cut": (lambda folder: broken(folder / "a.npy", npy(folder / "b.npy").read_bytes()[:-5]), "after 187 of 192"),
    "npz objects": (lambda folder: npz(folder / "a.npz", xyz=XYZ.astype(object)), "holds Python objects"),
    "words": (lambda folder: text(folder / "a.txt", ["here be points"] * 30), "no line of numbers among the first"),
    "columns": (lambda folder: text(folder / "a.xyz", ["1 2 3", "1 2"]), "with as many in each line"),
    "bin": (lambda folder: broken(folder / "a.bin", bytes(20)), "20 bytes, which is no whole number of points"),
    "no points": (lambda folder: broken(folder / "a.bin", b""), "holds no points"),
    "nan": (lambda folder: npz(folder / "a.npz", xyz=np.array([[0, 0, 0], [0, np.nan, 0]])), "1 of 2 points .* row 1"),
    "colours": (lambda folder: npz(folder / "a.npz", xyz=XYZ, rgb=RGB - 1), "colours lie between -1 and 254"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(tmp_path, name):
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        read_cloud(make(tmp_path))


@pytest.mark.parametrize(("library", "name"), [("laspy", "a.las"), ("pypcd4", "a.pcd"), ("plyfile", "a.ply")])
def test_a_missing_library_names_the_extra(tmp_path, monkeypatch, library, name):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ValueError, match=rf"reading {name} needs {library}: pip install 'influencer-mmdet3d\[scans\]'"):
        read_cloud(broken(tmp_path / name, b"anything"))
