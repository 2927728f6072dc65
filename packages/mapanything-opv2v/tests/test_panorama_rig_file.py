"""`rig.yaml`: what it says, what it may not say, and panoramas of it."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import yaml
from mapanything_opv2v import cli, rawdata
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.panorama import load_panorama
from mapanything_opv2v.panorama.rig_file import is_rig_file, load_rig_file
from rig_recording import town_depth, town_recording
from scipy.spatial.transform import Rotation

K = [[50.0, 0, 39.5], [0, 50.0, 29.5], [0, 0, 1]]


def write_images(folder, names, size=(80, 60)):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        cv2.imwrite(str(folder / name), np.full((size[1], size[0], 3), 90, np.uint8))


def rig_file(folder, change=None, **top):
    data = {
        "cameras": {
            "front": {"K": K, "pose": np.eye(4).tolist(), "size": [80, 60], "images": "front/*.png"},
            "left": {"K": K, "pose": {"translation": [-1, 0, 0]}, "size": [80, 60], "images": "left/img_*.png"},
        },
        **top,
    }
    if change is not None:
        change(data)
    path = folder / "rig.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def test_frames_are_what_the_star_stands_for(tmp_path):
    write_images(tmp_path / "front", ["a.png", "b.png", "c.png"])
    write_images(tmp_path / "left", ["img_b.png", "img_c.png", "b.png"])
    rig = load_rig_file(rig_file(tmp_path))
    assert rig.frames == ("b", "c") and not rig.has_depth and is_rig_file(rig.path)
    assert rig.cameras[1].images["b"] == tmp_path / "left" / "img_b.png"
    assert rig.rig.cameras[1].T_pano_cam[:3, 3].tolist() == [-1, 0, 0]
    assert [image.shape for image in rig.images(rig.frame(None))] == [(60, 80, 3)] * 2
    with pytest.raises(ValueError, match="no frame 'a'; 2 are there, such as 'b'"):
        rig.frame("a")


def test_axes_of_the_rig_by_hand(tmp_path):
    """x ahead, y left, z up: a camera 2 m ahead and 1 m up that looks ahead stands at (0, -1, 2) in OpenCV axes."""
    write_images(tmp_path / "front", ["0.png"])
    write_images(tmp_path / "left", ["img_0.png"])
    ahead = [[0, 0, 1, 2], [-1, 0, 0, 0], [0, -1, 0, 1], [0, 0, 0, 1]]  # camera's z is the rig's x

    def change(data):
        data["cameras"]["front"]["pose"] = ahead
        turn = Rotation.from_matrix(np.array(ahead)[:3, :3]).as_quat()
        data["cameras"]["left"]["pose"] = {"translation": [0, 0.5, 0], "quaternion": turn.tolist()}

    rig = load_rig_file(rig_file(tmp_path, change, axes="flu"))
    front, left = (camera.T_pano_cam for camera in rig.rig.cameras)
    assert np.allclose(front[:3, :3], np.eye(3)) and np.allclose(front[:3, 3], (0, -1, 2))
    assert np.allclose(left[:3, :3], np.eye(3)) and np.allclose(left[:3, 3], (-0.5, 0, 0))


def test_time_stamps_are_matched_by_order(tmp_path):
    write_images(tmp_path / "front", ["100.png", "200.png"])
    write_images(tmp_path / "left", ["img_103.png", "img_203.png"])
    with pytest.raises(ValueError, match=r"no frame has an image of every camera.*say `frames: order`"):
        load_rig_file(rig_file(tmp_path))
    rig = load_rig_file(rig_file(tmp_path, frames="order"))
    assert rig.frames == ("000000", "000001") and rig.cameras[1].images["000001"].name == "img_203.png"
    (tmp_path / "left" / "img_203.png").unlink()
    with pytest.raises(ValueError, match=r"frames: order, but the cameras have \[1, 2\] images"):
        load_rig_file(rig_file(tmp_path, frames="order"))


def test_what_is_no_rig_is_named(tmp_path):
    write_images(tmp_path / "front", ["0.png"])
    write_images(tmp_path / "left", ["img_0.png"])

    def refused(message, change=None, **top):
        with pytest.raises(ValueError, match=message):
            load_rig_file(rig_file(tmp_path, change, **top))

    refused("axes: 'ros', expected one of opencv, flu", axes="ros")
    refused("frames: 'time', expected name or order", frames="time")
    refused("unknown camera_order; known: axes, frames, cameras", camera_order=[1])
    refused("expected `cameras`, a mapping", lambda d: d.update(cameras={}))
    refused("camera 'front': size missing", lambda d: d["cameras"]["front"].pop("size"))
    refused("camera 'front': unknown fov", lambda d: d["cameras"]["front"].update(fov=90))
    refused("camera 'front': size: expected", lambda d: d["cameras"]["front"].update(size=[80]))
    refused("camera 'front': K: expected", lambda d: d["cameras"]["front"].update(K=[[0, 0, 0]] * 3))
    refused(
        "camera 'front': expected a rotation", lambda d: d["cameras"]["front"].update(pose=np.ones((4, 4)).tolist())
    )
    refused("images: no file is called .*nothing", lambda d: d["cameras"]["left"].update(images="nothing/*.png"))
    refused(
        r"images: '\*/\*.png', expected a path with one \*", lambda d: d["cameras"]["left"].update(images="*/*.png")
    )
    rig = load_rig_file(rig_file(tmp_path, lambda d: d["cameras"]["left"].update(size=[160, 120])))
    with pytest.raises(ValueError, match=r"img_0\.png: 80 x 60, but .*rig\.yaml says 160 x 120 for camera 'left'"):
        rig.images("0")
    (tmp_path / "front" / "agent.yaml").write_text("lidar_pose: [0, 0, 0, 0, 0, 0]")
    assert not is_rig_file(tmp_path / "front" / "agent.yaml") and not is_rig_file(tmp_path / "none.yaml")


@pytest.fixture
def town_rig(small_town, town_yaml, tmp_path):
    """The rig of a town's car as a rig.yaml of its own, depth and all."""
    agent = rawdata.agent_beside(town_yaml, town_depth(small_town, town_yaml))
    return town_recording(small_town, town_yaml, tmp_path), agent


def test_a_panorama_of_a_rig_file_is_the_agents(town_rig, town_yaml, tmp_path, capsys):
    path, agent = town_rig
    size = ("--panorama-resolution", "128", "32")
    words = ["panorama", str(path), "--frame", town_yaml.stem, "--out", str(tmp_path / "out"), *size]
    assert cli.main(words) == 0
    made = np.load(tmp_path / "out" / "panorama.npz")
    expected = load_panorama(agent, Cylinder(128, 32))
    assert np.array_equal(made["color"], expected.color)
    assert np.allclose(made["range_m"], expected.range_m, rtol=1e-4, atol=1e-3)
    assert "cameras cam" in capsys.readouterr().out
    assert cli.main([*words[:2], *words[4:], "--frame", "7"]) == 2
    assert "no frame '7'" in capsys.readouterr().err
    assert cli.main([*words, "--camera-ids", "0"]) == 2
    assert "--camera-ids: a rig.yaml says itself" in capsys.readouterr().err
    assert cli.main(["panorama", str(town_yaml), "--frame", "a", "--out", str(tmp_path / "no")]) == 2
    assert "the option belongs to a rig.yaml" in capsys.readouterr().err


def test_a_rig_becomes_a_tree_that_everything_reads(town_rig, town_yaml, tmp_path, capsys):
    path, agent = town_rig
    tree = tmp_path / "tree"
    words = ["import", str(path), "--out", str(tree), "--split", "train", "--agent-id", "7", "--quiet"]
    assert cli.main(words) == 0
    frames = rawdata.index_tree(tree).splits["train"]
    assert capsys.readouterr().out.startswith(f"{tree}: {len(frames)} frames written, 0 were there, 0 failed")
    number = load_rig_file(path).frames.index(town_yaml.stem)
    record = frames[number].agent(7)
    assert set(record.camera_paths) == set(record.depth_paths) == {0, 1, 2, 3}
    made, expected = load_panorama(record, Cylinder(128, 32)), load_panorama(agent, Cylinder(128, 32))
    assert np.array_equal(made.color, expected.color)
    assert np.allclose(made.range_m, expected.range_m, rtol=1e-4, atol=1e-3)
    assert cli.main(["check", str(tree), "--no-lidar", "--quiet", "--json"]) in (0, 1)
    report = json.loads(capsys.readouterr().out)
    assert "intrinsic" not in json.dumps(report) and "extrinsic" not in json.dumps(report), report
    assert cli.main(words) == 0 and f"0 frames written, {len(frames)} were there" in capsys.readouterr().out
    assert cli.main([*words[:4], "--split", "all"]) == 2
    assert "split 'all': expected one of train" in capsys.readouterr().err
