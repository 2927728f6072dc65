"""nuScenes' info files in both layouts, and a real key frame through the whole way where it is at hand."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from mapanything_opv2v import cli, rawdata
from mapanything_opv2v.geometry import Cylinder, invert
from mapanything_opv2v.panorama import load_panorama
from mapanything_opv2v.rawdata import nuscenes
from scipy.spatial.transform import Rotation

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
RIG = Path(os.environ.get("NUSCENES_RIG", SHARED / "nuscenes_rig/rig.json"))
K = np.array([[60.0, 0, 41], [0, 60, 31], [0, 0, 1]])
AHEAD = np.array([[1.0, 0, 0, 0], [0, 0, -1, -0.5], [0, 1, 0, -0.4], [0, 0, 0, 1]])
"""LiDAR (x right, y ahead, z up) to the front camera, which stands 0.4 m ahead of it and 0.5 m below."""


def new_sample(**more):
    front = {"img_path": "front.jpg", "cam2img": K.tolist(), "lidar2cam": AHEAD.tolist()}
    points = {"lidar_path": "sweep.pcd.bin", "lidar2ego": np.eye(4).tolist()}
    world = np.eye(4)
    world[:3, :3] = Rotation.from_euler("z", 90, degrees=True).as_matrix()  # the vehicle drives along -x
    world[:3, 3] = (100, 200, 3)
    return {
        "images": {"CAM_FRONT": front},
        "lidar_points": points,
        "ego2global": world.tolist(),
        "timestamp": 5,
        **more,
    }


def old_sample(new):
    """The same in the layout before mmdetection3d 1.1."""
    T_lidar_cam = invert(AHEAD)
    cam = {
        "data_path": "./data/nuscenes/samples/CAM_FRONT/front.jpg",
        "sensor2lidar_rotation": T_lidar_cam[:3, :3],
        "sensor2lidar_translation": T_lidar_cam[:3, 3],
        "cam_intrinsic": K,
    }
    world = np.array(new["ego2global"])
    quat = Rotation.from_matrix(world[:3, :3]).as_quat()
    return {
        "cams": {"CAM_FRONT": cam},
        "lidar_path": "sweep.pcd.bin",
        "lidar2ego_rotation": [1.0, 0, 0, 0],
        "lidar2ego_translation": [0.0, 0, 0],
        "ego2global_rotation": quat[[3, 0, 1, 2]].tolist(),
        "ego2global_translation": world[:3, 3].tolist(),
        "timestamp": 5,
    }


def test_a_sample_by_hand_in_both_layouts(tmp_path):
    sample = new_sample()
    (tmp_path / "new.json").write_text(json.dumps({"data_list": [sample]}))
    for protocol in (2, 4, 5):
        (tmp_path / f"old{protocol}.pkl").write_bytes(pickle.dumps({"infos": [old_sample(sample)]}, protocol))
    for path in sorted(tmp_path.iterdir()):
        (info,) = nuscenes.load_infos(path)
        pose = info.T_center_cam("CAM_FRONT")
        assert np.allclose(pose[:3, :3], np.eye(3)), path
        assert np.allclose(pose[:3, 3], (0, 0.5, 0.4)), path  # x right, y down, z ahead
        # 90 degrees to the left about the vertical; the world's (100, 200, 3) is (100, -3, 200)
        assert np.allclose(info.T_world_center[:3, 3], (100, -3, 200)), path
        assert np.allclose(info.T_world_center[:3, :3] @ (0, 0, 1), (-1, 0, 0)), path
        assert np.allclose(info.cameras["CAM_FRONT"].intrinsic, K), path


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("made-by-a-pickle",)


def test_what_is_no_info_file_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def refused(message, value, name="infos.pkl"):
        data = pickle.dumps(value) if name.endswith(".pkl") else json.dumps(value).encode()
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=message):
            nuscenes.load_infos(tmp_path / name)

    refused(r"infos\.pkl: no info file: it asks for (posix|nt)\.mkdir, which plain data does not need", [Hostile()])
    assert not (tmp_path / "made-by-a-pickle").exists()
    refused("expected samples under `data_list` or `infos`", {"metainfo": {}})
    refused("sample 0: not as mmdetection3d writes it: no key 'cams'", {"infos": [{"token": "a"}]}, "a.json")
    bad = new_sample()
    bad["images"]["CAM_FRONT"]["lidar2cam"] = np.ones((4, 4)).tolist()
    refused("sample 0: not as mmdetection3d writes it: expected a rotation", {"data_list": [bad]}, "b.json")
    (tmp_path / "c.pkl").write_bytes(b"\x80\x04nothing")
    with pytest.raises(ValueError, match=r"c\.pkl: no info file"):
        nuscenes.load_infos(tmp_path / "c.pkl")
    (tmp_path / "sweep.pcd.bin").write_bytes(b"\0" * 8)
    with pytest.raises(ValueError, match="2 numbers, expected a multiple of 5"):
        nuscenes.load_sweep(tmp_path / "sweep.pcd.bin")


def test_a_sweep_by_hand(tmp_path):
    values = np.array([[1, 2, 3, 255, 0], [4, 5, 6, 51, 1], [np.nan, 0, 0, 0, 0]], dtype="<f4")
    values.tofile(tmp_path / "sweep.pcd.bin")
    points, intensity = nuscenes.load_sweep(tmp_path / "sweep.pcd.bin")
    assert points.tolist() == [[1, -3, 2], [4, -6, 5]] and intensity.tolist() == [1, pytest.approx(0.2)]


def test_import_writes_a_tree(tmp_path, capsys):
    samples = [new_sample(scene_token="s1", timestamp=t) for t in (9, 7)] + [new_sample(scene_token="s2")]
    folder = tmp_path / "nuscenes"
    (folder / "samples" / "CAM_FRONT").mkdir(parents=True)
    (folder / "samples" / "LIDAR_TOP").mkdir()
    cv2.imwrite(str(folder / "samples" / "CAM_FRONT" / "front.jpg"), np.full((60, 80, 3), 128, np.uint8))
    ahead = np.array([[0, 10, 0, 255, 0]], dtype="<f4")
    ahead.tofile(folder / "samples" / "LIDAR_TOP" / "sweep.pcd.bin")
    (folder / "infos.json").write_text(json.dumps({"data_list": samples}))
    tree = tmp_path / "tree"
    assert cli.main(["import", str(folder / "infos.json"), "--out", str(tree), "--quiet"]) == 0
    text = capsys.readouterr().out
    assert "3 frames written, 0 were there, 0 failed" in text and "camera_ids=[0]" in text
    frames = rawdata.index_tree(tree).splits["test"]
    assert [frame.name for frame in frames] == ["test/s1/000000", "test/s1/000001", "test/s2/000000"]
    assert cli.main(["depth", str(tree), "--out", str(tmp_path / "depth"), "--quiet"]) == 0
    depth = rawdata.load_depth(next((tmp_path / "depth").rglob("*_depth.npy")))
    row, column = np.argwhere(depth > 0)[0]
    # 10 m ahead of the LiDAR is 9.6 m ahead of the camera and 0.5 m above it
    assert depth[row, column] == pytest.approx(9.6) and (column, row) == (41, round(31 - 60 * 0.5 / 9.6))
    (folder / "samples" / "CAM_FRONT" / "front.jpg").unlink()
    assert cli.main(["import", str(folder / "infos.json"), "--out", str(tmp_path / "no"), "--quiet"]) == 1
    assert "front.jpg: in none of " in capsys.readouterr().out


@pytest.mark.skipif(not RIG.is_file(), reason=f"no real rig at {RIG}; set NUSCENES_RIG")
def test_a_real_key_frame_from_info_file_to_panorama(tmp_path):
    rig = json.loads(RIG.read_text())
    images = {
        name: {"img_path": camera["file"], "cam2img": camera["K"], "lidar2cam": camera["T_cam_lidar"]}
        for name, camera in rig["cameras"].items()
    }
    points = {"lidar_path": rig["lidar"]["file"], "lidar2ego": rig["lidar"]["T_ego_lidar"]}
    sample = {"images": images, "lidar_points": points, "ego2global": np.eye(4).tolist()}
    (tmp_path / "infos.pkl").write_bytes(pickle.dumps({"data_list": [sample]}))
    tree, depth = tmp_path / "tree", tmp_path / "depth"
    words = ["import", str(tmp_path / "infos.pkl"), "--data-root", str(RIG.parent), "--out", str(tree), "--quiet"]
    assert cli.main(words) == 0
    assert cli.main(["depth", str(tree), "--out", str(depth), "--quiet"]) == 0
    record = rawdata.index_tree(tree, depth_root=depth).splits["test"][0].agent(1)
    assert set(record.camera_paths) == set(record.depth_paths) == set(range(6))
    cylinder = Cylinder(1008, 252)
    made = load_panorama(record, cylinder)
    assert made.covered.mean() > 0.4
    # every range of the panorama is one of the sweep's, in the same direction
    sweep = rawdata.load_pcd(record.pcd_path).xyz[:, [1, 2, 0]] * (1, -1, 1)
    u, v, ranges = cylinder.project(sweep)
    inside = np.isfinite(u) & (v > -0.5) & (v < 251.5)
    columns, rows = np.rint(u[inside]).astype(int) % 1008, np.rint(v[inside]).astype(int)
    there = made.range_m[rows, columns]
    ratio = there[there > 0] / ranges[inside][there > 0]
    assert len(ratio) > 10_000 and abs(np.median(ratio) - 1) < 0.001
