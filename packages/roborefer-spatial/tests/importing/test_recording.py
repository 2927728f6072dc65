import numpy as np
import pytest
from PIL import Image
from roborefer_spatial.importing import recording as rec

K = np.array([[100.0, 0, 32], [0, 100, 24], [0, 0, 1]])


def frame(folder, depth, pose=None, name="000001"):
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(folder / f"{name}.png")
    Image.fromarray(depth).save(folder / f"{name}.depth.png")
    return rec.Frame(name, folder / f"{name}.png", folder / f"{name}.depth.png", np.eye(4) if pose is None else pose)


def test_a_pixel_there_and_back():
    depth = np.full((48, 64), 2.0)
    xyz = rec.back_project(depth, K)
    np.testing.assert_allclose(xyz[24, 32], (0.01, 0.01, 2))  # half a pixel off the axis: 0.5 / 100 * 2
    pixel, inside = rec.project(xyz, K, (64, 48))
    assert inside.all()
    assert (pixel[..., 0] == np.arange(64)).all()
    assert (pixel[..., 1] == np.arange(48)[:, None]).all()


def test_poses_there_and_back():
    turn = np.eye(4)
    turn[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    turn[:3, 3] = (1, 2, 3)
    xyz = np.array([[0.0, 0, 2], [1, 2, 3]])
    np.testing.assert_allclose(rec.to_world(xyz, turn)[0], (3, 2, 3))  # two metres along z of the camera is x
    np.testing.assert_allclose(rec.to_camera(rec.to_world(xyz, turn), turn), xyz)


def test_behind_and_beside_is_not_in_the_picture():
    _, inside = rec.project(np.array([[0.0, 0, -1], [0, 0, 0], [5, 0, 1], [0, 0, 1]]), K, (64, 48))
    assert inside.tolist() == [False, False, False, True]


def test_depth_that_is_not_known(tmp_path):
    millimetres = np.array([[0, 1500], [65535, 30000]], np.uint16)
    one = frame(tmp_path, millimetres)
    recording = rec.Recording("s", "r", (one,), K, K)
    np.testing.assert_allclose(rec.read_depth(one, recording), [[0, 1.5], [0, 0]])


def test_depth_in_colour_is_refused(tmp_path):
    one = frame(tmp_path, np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="mode 'RGB', expected one channel of whole numbers"):
        rec.read_depth(one, rec.Recording("s", "r", (one,), K, K))


def test_values_on_a_larger_colour_picture():
    double = K.copy()
    double[:2] *= 2
    recording = rec.Recording("s", "r", (), double, K)
    values = np.arange(48 * 64).reshape(48, 64)
    assert (rec.on_color(values, recording, (128, 96)) == values.repeat(2, 0).repeat(2, 1)).all()
    wider = double.copy()
    wider[0, 2] += 10  # ten columns that the depth does not reach
    assert (rec.on_color(values + 1, rec.Recording("s", "r", (), wider, K), (128, 96))[:, :10] == 0).all()


def test_labelled_points_by_their_cube_or_its_neighbours():
    points = rec.LabelledPoints(np.array([[0.01, 0.01, 0.01], [0.02, 0.01, 0.01], [0.03, 0.01, 0.01], [1.0, 1, 1]]),
                                np.array([3, 3, 5, 7]))  # fmt: skip
    asked = np.array(
        [[0.001, 0.001, 0.001], [0.05, 0.01, 0.01], [1.03, 1.0, 1.0], [0.5, 0.5, 0.5], [-0.01, 0.01, 0.01]]
    )
    assert points.at(asked).tolist() == [3, 3, 7, 0, 3]


def test_evenly():
    assert rec.evenly(range(10), 4) == [0, 3, 6, 9]
    assert rec.evenly("ab", 5) == ["a", "b"]
