"""Datasets and commands read a recording with a `rig.yaml` as it lies, without `import`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from mapanything_opv2v import cli, rawdata
from mapanything_opv2v.checks.run_config import run_problems
from rig_recording import town_recording, write_rig

SHARED = Path(__file__).parents[4] / "shared/data"  # real data lies beside the repository, if at all
NUSCENES = Path(os.environ.get("NUSCENES_RIG", SHARED / "nuscenes_rig/rig.json"))
COMMON = {"transform": "imgnorm", "data_norm_type": "identity", "seed": 0}


@pytest.fixture
def town_rig(small_town, town_yaml, tmp_path):
    """A town's car, its images and its depth as a recording `drive`."""
    return town_recording(small_town, town_yaml, tmp_path / "drive")


def tree_of(path, tmp_path, *splits):
    for split in splits:
        (tmp_path / "recordings" / split).mkdir(parents=True)
        (tmp_path / "recordings" / split / "drive").symlink_to(path.parent)
    return tmp_path / "recordings"


def relative(views):
    first = np.linalg.inv(views[0]["camera_pose"].astype(float))
    return [first @ view["camera_pose"] for view in views]


@pytest.mark.parametrize(("name", "views"), [("OPV2VDataset", 4), ("OPV2VCylindricalDataset", 1)])
def test_a_rig_gives_the_samples_of_its_agent(
    name, views, double_host, small_town, town_yaml, town_rig, tmp_path, monkeypatch
):
    size = (80, 60) if views > 1 else (112, 28)
    split, sequence, agent = town_yaml.relative_to(small_town.root).parts[:3]
    own = getattr(double_host, name)(
        ROOT=small_town.root,
        depth_root=small_town.depth_root,
        split=split,
        include_agents=[int(agent)],
        num_views=views,
        resolution=size,
        **COMMON,
    )
    at = [k for k in range(len(own)) if sequence in own.sample_name(k)]
    roots = {"file": (town_rig, "test"), "tree": (tree_of(town_rig, tmp_path, "train", "validate"), "train")}
    for root, asked in roots.values():
        rig = getattr(double_host, name)(ROOT=root, split=asked, num_views=views, resolution=size, **COMMON)
        assert rig.sample_name(0) == f"{asked}/drive/000000_agent1" and len(rig) == len(at)
        assert not rig.is_synthetic and own.is_synthetic
        for ours, theirs in zip((rig[k] for k in range(len(rig))), (own[k] for k in at)):
            order = {view["instance"].partition("/")[2]: view for view in ours}
            ours = [order[view["instance"].partition("/")[2]] for view in theirs]
            for a, b, T_a, T_b in zip(ours, theirs, relative(ours), relative(theirs)):
                assert np.abs(np.asarray(a["img"]) - np.asarray(b["img"])).max() <= 1 / 255
                assert np.allclose(T_a, T_b, atol=1e-3)
                close = np.isclose(a["depthmap"], b["depthmap"], rtol=1e-3, atol=1e-3)
                assert close.mean() > 0.999  # range of panoramas: poses are rounded in files


def test_what_a_rig_cannot_be_is_said(town_rig, small_town, tmp_path):
    (tmp_path / "note.txt").write_text("")
    with pytest.raises(ValueError, match=r"root=.*note\.txt is a file, and no rig\.yaml"):
        rawdata.index_tree(tmp_path / "note.txt")
    with pytest.raises(ValueError, match=r"names its own depth maps; leave out depth_root="):
        rawdata.index_tree(town_rig, depth_root=small_town.depth_root)
    with pytest.raises(
        ValueError, match=r"is one recording, not train, test: lay recordings as \{split\}/\{name\}/rig"
    ):
        rawdata.index_tree(town_rig, splits=["train", "test"])
    found = run_problems(
        test_dataset=f"OPV2VDataset_validate(ROOT='{town_rig}', num_views=4)",
        num_views=4,
        max_num_of_imgs_per_gpu=8,
        epochs=5,
        warmups={},
        weights={},
    )
    assert len(found) == 1 and "is one recording, so training and validation would see the same frames" in found[0]


def test_frames_of_a_rig_are_left_out_by_name_and_nothing_of_it_is_cached(town_rig, tmp_path):
    root = tree_of(town_rig, tmp_path, "train")
    whole = rawdata.index_tree(root, cache_dir=tmp_path / "cache").splits["train"]
    left = rawdata.index_tree(root, cache_dir=tmp_path / "cache", exclude="drive/000001").splits["train"]
    assert [frame.frame for frame in whole] == ["000000", "000001"] and [f.frame for f in left] == ["000000"]
    assert whole.any_depth() and whole.agent_ids(0) == (1,) and whole.count_agents() == 2
    assert whole[1].agent(1).camera_paths[2].name.endswith("_camera2.png")
    assert not (tmp_path / "cache").exists()


def test_check_takes_a_rig_for_what_it_is(town_rig, tmp_path, capsys):
    assert cli.main(["check", str(town_rig), "--quiet", "--json"]) == 0, capsys.readouterr().out
    report = json.loads(capsys.readouterr().out)
    assert report["scenes"] == 2 and report["problems"] == []


@pytest.mark.skipif(not NUSCENES.is_file(), reason=f"no real rig at {NUSCENES.name}: set NUSCENES_RIG to it")
def test_the_real_six_camera_rig_is_a_data_set(double_host, tmp_path, capsys):
    stated = json.loads(NUSCENES.read_text())["cameras"]
    T_opencv_lidar = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    cameras, poses = {}, []
    for name, camera in stated.items():
        (path,) = NUSCENES.parent.glob(f"*__{name}__*.jpg")
        poses.append(T_opencv_lidar @ np.linalg.inv(np.array(camera["T_cam_lidar"], dtype=float).reshape(4, 4)))
        K = np.array(camera["K"], dtype=float).tolist()
        cameras[name] = {"K": K, "pose": poses[-1].tolist(), "size": [1600, 900], "images": f"images/{path.name}"}
    rig = write_rig(tmp_path / "street", cameras, {"images": NUSCENES.parent})
    data = {"ROOT": rig, "split": "test", "need_depth": False, **COMMON}
    (views,) = double_host.OPV2VDataset(**data, num_views=6, resolution=(400, 224))
    assert {view["instance"] for view in views} == {f"agent1/camera{k}" for k in range(6)}
    for view in views:
        k = int(view["instance"][-1])
        assert np.allclose(relative([views[0], view])[1], np.linalg.inv(poses[0]) @ poses[k], atol=2e-3)
        assert view["camera_intrinsics"][0, 0] == pytest.approx(cameras[list(stated)[k]]["K"][0][0] / 4, rel=0.01)
    (around,) = double_host.OPV2VCylindricalDataset(**data, num_views=1, resolution=(504, 126))
    seen = (np.asarray(around[0]["img"]) > 0).any(axis=0)
    assert seen[62].all() and 0.4 < seen.mean() < 0.5  # a full turn of the middle row; cameras are 39 degrees high
    assert cli.main(["check", str(rig), "--quiet"]) == 0, capsys.readouterr().out
