"""Clouds from files; plyfile and numpy write what is read."""

import re

import numpy as np
import plyfile
import pytest
from mapanything_opv2v import rawdata
from mapanything_opv2v.views.cloudfile import load_cloud

XYZ = np.array([[1, 2, 3], [4, 5, 6.5]], np.float32)
RGB = np.array([[10, 20, 30], [255, 0, 128]], np.uint8)


def write_ply(path, *, text=False, order="<", colour=True):
    fields = [(axis, "f4") for axis in "xyz"] + ([(name, "u1") for name in ("red", "green", "blue")] if colour else [])
    rows = [(*p, *c) if colour else tuple(p) for p, c in zip(XYZ.tolist(), RGB.tolist())]
    faces = np.array([([0, 1, 1],)], dtype=[("vertex_indices", "i4", (3,))])
    vertices = plyfile.PlyElement.describe(np.array(rows, dtype=fields), "vertex")
    plyfile.PlyData([vertices, plyfile.PlyElement.describe(faces, "face")], text=text, byte_order=order).write(path)


@pytest.mark.parametrize("form", [{"text": True}, {"order": "<"}, {"order": ">"}, {"colour": False}])
def test_ply(tmp_path, form):
    write_ply(tmp_path / "a.ply", **form)
    cloud = load_cloud(tmp_path / "a.ply")
    np.testing.assert_array_equal(cloud.xyz, XYZ)
    expected = RGB if form.get("colour", True) else np.full((2, 3), 200)
    np.testing.assert_array_equal(cloud.rgb, expected)


def test_npy_and_axes(tmp_path):
    np.save(tmp_path / "a.npy", np.concatenate([XYZ, RGB / np.float32(255)], axis=1))
    np.testing.assert_array_equal(load_cloud(tmp_path / "a.npy").rgb, RGB)
    np.save(tmp_path / "b.npy", np.concatenate([XYZ, [[np.nan, 0, 0]]]))
    assert len(load_cloud(tmp_path / "b.npy")) == 2
    # CARLA: x ahead, y right, z up; OpenCV: x right, y down, z ahead
    np.testing.assert_array_equal(load_cloud(tmp_path / "b.npy", "carla").xyz, [[2, -3, 1], [5, -6.5, 4]])


def test_pcd(tmp_path):
    rawdata.save_pcd(tmp_path / "a.pcd", rawdata.PointCloud(XYZ, np.array([0, 1], np.float32)))
    cloud = load_cloud(tmp_path / "a.pcd")
    np.testing.assert_array_equal(cloud.xyz, XYZ)
    assert cloud.rgb[:, 0].tolist() == [60, 255]


HEAD = b"ply\nformat binary_little_endian 1.0\nelement vertex 2\nproperty float x\nproperty float y\n"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.ply", b"pla", "not a PLY file"),
        ("a.ply", HEAD + b"property float z\nend_header\n" + bytes(23), "truncated: 23 bytes of 24 for vertices"),
        ("a.ply", HEAD + b"end_header\n" + bytes(16), "vertices have ['x', 'y'], expected x, y and z"),
        ("a.ply", HEAD + b"property list uchar int i\nend_header\n", "vertices with lists are not a point cloud"),
        ("a.ply", HEAD + b"property half z\nend_header\n", "vertex property 'z' of unknown type 'half'"),
        ("a.ply", b"ply\nformat ascii 1.0\nend_header\n", "PLY of format 'ascii' with -1 vertices"),
        ("a.ply", b"ply\nelement face 1\nend_header\n", "element 'face' stands before the vertices"),
        ("a.ply", HEAD + b"property float y\nend_header\n", "vertex property 'y' appears twice"),
        ("a.ply", HEAD.replace(b"2\n", b"99999999999999\n"), "not a PLY file"),
        ("a.ply", HEAD.replace(b"2\n", b"99999999999999\n") + b"property float z\nend_header\n", "truncated: "),
        (
            "a.ply",
            b"ply\nformat ascii 1.0\nelement vertex " + b"9" * 5000 + b"\nend_header\n",
            "element",
        ),
        ("a.npy", b"\x93NUMPY", "not a whole .npy array"),
        ("a.obj", b"", "expected a cloud as .pcd, .ply, .npy, got '.obj'"),
    ],
)
def test_bad_files_are_named(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / name}: {message}")):
        load_cloud(tmp_path / name)


def test_other_refusals(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 4)))
    with pytest.raises(ValueError, match=re.escape("shape (N, 3) or (N, 6), got float64 (3, 4)")):
        load_cloud(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.full((3, 6), 200.0))
    with pytest.raises(ValueError, match="colours reach from 0 to 200, expected 0 to 1"):
        load_cloud(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.full((3, 3), np.inf))
    with pytest.raises(ValueError, match="no point with finite coordinates"):
        load_cloud(tmp_path / "b.npy")
    with pytest.raises(ValueError, match="axes='ros', expected one of opencv, carla"):
        load_cloud(tmp_path / "b.npy", "ros")
