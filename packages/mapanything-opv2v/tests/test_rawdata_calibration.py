"""Images of another size than their calibration: scaled where the ratio is exact, else refused by name."""

import logging

import cv2
import numpy as np
import pytest
import yaml
from mapanything_opv2v import cli, depth, rawdata
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.panorama import load_panorama
from mapanything_opv2v.rawdata import CameraMeta, calibration
from mapanything_opv2v.samples.loading import load_pinhole_view
from mapanything_opv2v.views import sources

NUSCENES = np.array([[1266.4, 0, 816.27 - 0.5], [0, 1266.4, 491.51 - 0.5], [0, 0, 1]])


def carla(width=800, height=600, **options):
    K = np.array([[335.64, 0, width / 2 - 0.5], [0, 335.64, height / 2 - 0.5], [0, 0, 1]])
    return CameraMeta(np.zeros(6), None, K, **options)


def test_the_calibrated_size_is_twice_the_principal_point():
    assert calibration.calibrated_size(carla()) == (800, 600)
    assert calibration.calibrated_size(carla(801, 599)) == (801, 599)
    assert calibration.calibrated_size(carla(size_wh=(640, 480))) == (640, 480)
    assert calibration.calibrated_size(CameraMeta(np.zeros(6), None, NUSCENES)) is None


def test_half_the_size_halves_the_intrinsics_and_says_so_once(caplog, monkeypatch):
    monkeypatch.setattr(calibration, "_said", set())
    with caplog.at_level(logging.WARNING):
        K = calibration.fitted_intrinsic(carla(), (400, 300), "a/000069_camera0.png")
        calibration.fitted_intrinsic(carla(), (400, 300), "a/000070_camera0.png")
    assert np.allclose(K, [[167.82, 0, 199.5], [0, 167.82, 149.5], [0, 0, 1]])
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("a/000069_camera0.png: the image is 400 x 300, its calibration is for 800 x 600")
    # the ray through a point's pixel stays the same
    point = np.array([1.0, 0.5, 4.0])
    u, u2 = (M[0] @ point / 4 for M in (carla().intrinsic, K))
    assert np.isclose((u + 0.5) / 2, u2 + 0.5)


@pytest.mark.parametrize("size", [(400, 600), (400, 301), (640, 360)])
def test_another_shape_is_refused_with_file_and_both_sizes(size):
    with pytest.raises(
        ValueError, match=rf"x\.png: the image is {size[0]} x {size[1]}, its calibration is for 800 x 600"
    ):
        calibration.fitted_intrinsic(carla(), size, "x.png")


def test_a_real_camera_only_needs_its_principal_point_near_the_middle():
    camera = CameraMeta(np.zeros(6), None, NUSCENES)
    assert calibration.fitted_intrinsic(camera, (1600, 900), "x.png") is camera.intrinsic
    with pytest.raises(ValueError, match=r"x\.png: the image is 800 x 450, .* principal point at \(816\.3, 491\.5\)"):
        calibration.fitted_intrinsic(camera, (800, 450), "x.png")


def test_the_yaml_may_state_the_size():
    entry = {"cords": [0] * 6, "intrinsic": [[335.64, 0, 400], [0, 335.64, 300], [0, 0, 1]], "image_size": [800, 640]}
    meta = rawdata.agent_yaml.parse_agent({"lidar_pose": [0] * 6, "camera0": entry}, "x.yaml")
    assert meta.cameras[0].size_wh == (800, 640)
    entry["image_size"] = [800, 0]
    with pytest.raises(ValueError, match=r"x\.yaml: camera0: image_size: expected \[width, height\]"):
        rawdata.agent_yaml.parse_agent({"lidar_pose": [0] * 6, "camera0": entry}, "x.yaml")


def resize(path, size):
    image = cv2.imread(str(path))
    cv2.imwrite(str(path), cv2.resize(image, size, interpolation=cv2.INTER_AREA))


@pytest.fixture
def halved(own_town):
    root, depth_root = own_town
    for path in (root / "test").rglob("*_camera*.png"):
        resize(path, (40, 30))
    for path in (depth_root / "test").rglob("*_depth.npy"):
        np.save(path, np.load(path)[::2, ::2])
    return root, depth_root


def test_a_halved_tree_keeps_its_geometry_everywhere(halved, own_town, small_town):
    root, depth_root = halved
    old, new = (
        rawdata.index_tree(r, depth_root=d, splits=["test"]).splits["test"][0]
        for r, d in ((small_town.root, small_town.depth_root), (root, depth_root))
    )
    agent = new.agents[1]
    meta = rawdata.load_agent_yaml(agent.yaml_path)
    # LiDAR in the image: the same share of it, not the same share of a quarter of it
    points = rawdata.load_pcd(agent.pcd_path).xyz
    seen = [(depth.agent_depths(meta, [(points, meta.lidar_pose)], {0: size})[0] > 0) for size in ((80, 60), (40, 30))]
    reduced = seen[0].reshape(30, 2, 40, 2).any(axis=(1, 3))
    assert (reduced == seen[1]).mean() > 0.99 and seen[1].any()
    views = [load_pinhole_view(frame, meta, agent.agent_id, 0) for frame in (old, new)]
    assert np.allclose((views[0].intrinsic[:2, 2] + 0.5) / 2, views[1].intrinsic[:2, 2] + 0.5)
    assert np.isclose(views[0].intrinsic[0, 0] / 2, views[1].intrinsic[0, 0])
    panoramas = [
        load_panorama(frame.agent(agent.agent_id), Cylinder(126, 32), with_depth=False) for frame in (old, new)
    ]
    assert (panoramas[0].covered == panoramas[1].covered).mean() > 0.97
    page = sources.load_raw_frame(agent.yaml_path, sources.RawOptions(with_depth=False))
    assert np.isclose(page.views[0].camera.intrinsic[0, 0], views[1].intrinsic[0, 0])


def test_check_counts_a_halved_tree_and_names_an_odd_camera(halved, capsys):
    root, depth_root = halved
    run = ["check", str(root), "--depth-root", str(depth_root), "--splits", "test", "--quiet"]
    assert cli.main(run) == 0
    assert (
        "60 images are 0.5 times the size that their calibration is for; intrinsics are scaled"
        in capsys.readouterr().out
    )
    odd = rawdata.index_tree(root, splits=["test"]).splits["test"][0].agents[0].camera_paths[2]
    resize(odd, (20, 15))
    assert cli.main(run) == 1
    out = capsys.readouterr().out
    assert "the image is 0.25 times its calibrated size, the agent's other cameras 0.5 times" in out and str(odd) in out
    resize(odd, (40, 31))
    assert cli.main(run) == 1
    out = capsys.readouterr().out
    assert "camera2: the image is 40 x 31, its calibration is for 80 x 60" in out and str(odd) in out


def test_a_dataset_names_the_file(own_town, double_host):
    root, depth_root = own_town
    frame = rawdata.index_tree(root, depth_root=depth_root, splits=["test"]).splits["test"][0]
    agent = frame.agents[1]
    resize(agent.camera_paths[1], (40, 60))
    meta = rawdata.load_agent_yaml(agent.yaml_path)
    with pytest.raises(ValueError, match=rf"camera1: .*{agent.camera_paths[1].name}: the image is 40 x 60"):
        load_pinhole_view(frame, meta, agent.agent_id, 1)
    with pytest.raises(ValueError, match=rf"{agent.camera_paths[1].name}: the image is 40 x 60"):
        load_panorama(agent, Cylinder(126, 32), with_depth=False)


def test_the_town_states_no_size_and_needs_none(town_yaml):
    assert "image_size" not in yaml.safe_load(town_yaml.read_text())["camera0"]
    assert calibration.calibrated_size(rawdata.load_agent_yaml(town_yaml).cameras[0]) == (80, 60)
