import numpy as np
import pytest
import scannetpp_rooms
from roborefer_spatial.importing.ply import read_faces, read_vertices
from roborefer_spatial.importing.surface import NEAR_M, Surface, rasterize

K = np.array([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]])
WH = (64, 48)


def met(xyz, faces, k, wh):
    """Return depth and triangle of every pixel's centre, by intersecting its ray with every triangle (Moeller)."""
    depth, which = np.zeros(wh[::-1]), np.full(wh[::-1], -1)
    for row in range(wh[1]):
        for col in range(wh[0]):
            ray = np.array([(col + 0.5 - k[0, 2]) / k[0, 0], (row + 0.5 - k[1, 2]) / k[1, 1], 1.0])
            best = np.inf
            for number, (a, b, c) in enumerate(xyz[faces]):
                cross = np.cross(ray, c - a)
                size = (b - a) @ cross
                if abs(size) < 1e-12:
                    continue
                u = -a @ cross / size
                other = np.cross(-a, b - a)
                v, t = ray @ other / size, (c - a) @ other / size
                if u >= 0 and v >= 0 and u + v <= 1 and NEAR_M < t < best:
                    best, depth[row, col], which[row, col] = t, t, number
    return depth, which


def test_random_triangles_are_seen_as_rays_meet_them():
    rng = np.random.default_rng(3)
    xyz = rng.uniform((-2, -2, -1), (2, 2, 4), (36, 3))  # some reach behind the camera
    faces = np.arange(36).reshape(12, 3)
    depth, which = rasterize(xyz, faces, K, WH)
    true_depth, true_which = met(xyz, faces, K, WH)
    assert (which != true_which).mean() < 0.001
    same = which == true_which
    np.testing.assert_allclose(depth[same], true_depth[same], rtol=1e-9)
    assert len(np.unique(which)) > 5


def test_the_nearer_of_two_walls_hides_the_other_whatever_their_order():
    square = np.array([(-9.0, -9, 0), (9, -9, 0), (9, 9, 0), (-9, 9, 0)])
    two = np.array([(0, 1, 2), (0, 2, 3)])
    for near, far in ((0, 1), (1, 0)):
        xyz = np.concatenate([square, square])
        xyz[:, 2] = np.repeat((2.0 + near, 2.0 + far), 4)
        depth, which = rasterize(xyz, np.concatenate([two, two + 4]), K, WH)
        assert (depth == pytest.approx(2.0)) and (which // 2 == near).all()


def test_a_room_around_the_camera_has_no_holes():
    depth, which = rasterize(*scannetpp_rooms.box((0.3, 0.1, 0.5), (2.0, 1.5, 3.0)), K, WH)
    assert (which >= 0).all() and depth.max() == pytest.approx(3.5)


def test_seen_in_the_world_and_kept():
    xyz, faces = scannetpp_rooms.box((5.0, 0, 0), (0.5, 0.5, 0.5))
    surface = Surface(xyz, faces, np.arange(12) // 2 + 1)
    pose = np.eye(4)
    pose[:3, :3] = np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])  # looks along x, z is up
    depth, label = surface.seen(pose, K, WH)
    assert depth[24, 32] == pytest.approx(4.5) and (depth > 0).mean() < 0.2
    assert set(np.unique(label)) == {0, 1}
    assert surface.seen(pose, K, WH)[0] is depth


def test_faces_of_files(tmp_path):
    xyz, faces = scannetpp_rooms.box((1.0, 2, 3), (1, 1, 1))
    path = tmp_path / "mesh.ply"
    scannetpp_rooms.write_ply(path, xyz, faces)
    assert np.array_equal(read_faces(path), faces) and np.array_equal(read_vertices(path), xyz)
    text = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    text += "element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"
    path.write_text(text)
    assert read_faces(path).tolist() == [[0, 1, 2]]
    path.write_text(text.replace("3 0 1 2", "3 0 1 5"))
    with pytest.raises(ValueError, match="a corner that is none of the 3 vertices"):
        read_faces(path)
    path.write_text(text.replace("3 0 1 2", "4 0 1 2 0"))
    with pytest.raises(ValueError, match="a face has 4 corners, expected triangles"):
        read_faces(path)
    path.write_text(text.replace("element face 1", "element edge 1"))
    with pytest.raises(ValueError, match="expected vertices, then faces"):
        read_faces(path)
