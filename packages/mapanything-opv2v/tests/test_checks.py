"""Each kind of damage is found, named, and nothing else is."""

import json
import shutil

import numpy as np
import pytest
import yaml
from mapanything_opv2v import checks, rawdata, synthetic


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Three frames of two vehicles: large enough for overlaps and LiDAR to be judged."""
    root = tmp_path_factory.mktemp("whole")
    return synthetic.write_town(
        root / "data",
        seed=3,
        frames=3,
        agents=2,
        depth_root=root / "depth",
        image_size=(200, 150),
        lidar_size=(32, 512),
    )


@pytest.fixture
def tree(whole, tmp_path):
    shutil.copytree(whole.root, tmp_path / "data")
    shutil.copytree(whole.depth_root, tmp_path / "depth")
    return tmp_path


def check(tree, **options):
    index = rawdata.index_tree(tree / "data", depth_root=tree / "depth")
    return checks.check_tree(index, checks.CheckOptions(need_depth=True, **options), progress=False)


def victim(tree):
    return rawdata.index_tree(tree / "data", depth_root=tree / "depth").splits["train"][1].agents[0]


def rewrite(path, change):
    data = yaml.safe_load(path.read_text())
    change(data)
    path.write_text(yaml.safe_dump(data))


def test_a_good_tree_has_no_problem(tree):
    report = check(tree)
    assert report.problems == []
    assert (report.scenes, report.agent_frames, report.files) == (3, 6, 60)
    assert report.agents_per_frame == {"train": {2: 3}} and report.cameras_per_frame == {"train": {8: 3}}
    assert report.max_position_error_m < 1e-6 and report.max_angle_error_deg < 1e-6
    coverage = report.depth_coverage["train"]
    assert coverage["maps"] == 24 and 0.2 < coverage["lowest"] <= coverage["mean"] <= coverage["highest"] < 1
    assert set(report.overlap_agreement["train"]) == {"1-3", "2-3"}


def shift_camera(data):
    data["camera2"]["cords"][1] += 0.2


def turn_camera(data):
    data["camera1"]["cords"][4] += 0.5


def shear(data):
    data["camera0"]["extrinsic"][0][0] = 1.4


def truncate(path):
    path.write_bytes(path.read_bytes()[:-150])


def ranges_for_depths(path):
    """The mistake of taking distance along the ray for z-depth."""
    from mapanything_opv2v import geometry
    from mapanything_opv2v.synthetic import sensors

    depth = rawdata.load_depth(path)
    rays = np.linalg.norm(geometry.pinhole_rays(sensors.opencv_intrinsic((200, 150)), (200, 150)), axis=-1)
    rawdata.save_depth(path, np.where(depth > 0, depth * rays, depth))


DAMAGES = {
    "yaml gone": (lambda a: a.yaml_path.unlink(), "yaml", "missing"),
    "yaml cut": (lambda a: a.yaml_path.write_text("camera0: {cords: [1, 2"), "yaml", "not readable as YAML"),
    "pose gone": (
        lambda a: rewrite(a.yaml_path, lambda d: d.pop("lidar_pose")),
        "yaml",
        "no key 'lidar_pose'",
    ),
    "image gone": (lambda a: a.camera_paths[3].unlink(), "camera3", "missing"),
    "image cut": (lambda a: truncate(a.camera_paths[3]), "camera3", "truncated PNG"),
    "camera not in yaml": (
        lambda a: rewrite(a.yaml_path, lambda d: d.pop("camera1")),
        "camera1",
        "an image but no camera1 in the YAML",
    ),
    "sweep gone": (lambda a: a.pcd_path.unlink(), "lidar", "missing"),
    "sweep cut": (lambda a: truncate(a.pcd_path), "lidar", "truncated"),
    "sweep empty": (
        lambda a: rawdata.save_pcd(a.pcd_path, rawdata.PointCloud(np.empty((0, 3), np.float32), None)),
        "lidar",
        "no points",
    ),
    "camera shifted": (
        lambda a: rewrite(a.yaml_path, shift_camera),
        "camera2.extrinsic",
        "cords and lidar_pose differ from extrinsic by 0.200 m, 0.000 degrees",
    ),
    "camera turned": (
        lambda a: rewrite(a.yaml_path, turn_camera),
        "camera1.extrinsic",
        "by 0.000 m, 0.5",
    ),
    "no rotation": (lambda a: rewrite(a.yaml_path, shear), "camera0.extrinsic", "expected a rotation"),
    "depth gone": (lambda a: a.depth_paths[0].unlink(), "camera0_depth", "no depth map for this image"),
    "depth cut": (lambda a: truncate(a.depth_paths[0]), "camera0_depth", "not a whole .npy array"),
    "depth of another size": (
        lambda a: rawdata.save_depth(a.depth_paths[0], np.ones((75, 100))),
        "camera0_depth",
        "100 x 75, the image is 200 x 150",
    ),
    "depth empty": (
        lambda a: rawdata.save_depth(a.depth_paths[0], np.zeros((150, 200))),
        "camera0_depth",
        "only 0.00% of its pixels are known",
    ),
    "depth in centimetres": (
        lambda a: rawdata.save_depth(a.depth_paths[0], rawdata.load_depth(a.depth_paths[0]) * 0.01),
        "camera0_depth",
        "differs from the LiDAR sweep by 99%",
    ),
    "range for depth": (
        lambda a: ranges_for_depths(a.depth_paths[0]),
        "camera0_depth",
        "differs from the LiDAR",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_named(tree, damage):
    act, key, message = DAMAGES[damage]
    agent = victim(tree)
    act(agent)
    problems = check(tree).problems
    found = [p for p in problems if p.key == key]
    assert len(found) == 1, [str(p) for p in problems]
    (problem,) = found
    assert message in problem.message
    assert (problem.split, problem.agent) == ("train", agent.agent_id)
    assert problem.frame == agent.yaml_path.stem
    # a file that is gone takes nothing else with it, except what stands in the same YAML
    assert {p.agent for p in problems} == {agent.agent_id}


def test_all_problems_are_listed_in_one_go(tree):
    agents = [a for f in rawdata.index_tree(tree / "data", depth_root=tree / "depth").splits["train"] for a in f.agents]
    agents[0].camera_paths[0].unlink()
    truncate(agents[2].pcd_path)
    agents[5].yaml_path.unlink()
    found = [(p.frame, p.agent, p.key) for p in check(tree).problems]
    assert found == [
        (agents[k].yaml_path.stem, agents[k].agent_id, key) for k, key in ((0, "camera0"), (2, "lidar"), (5, "yaml"))
    ]


def test_swapped_cameras_are_found_by_their_overlaps(tmp_path):
    truth = synthetic.write_town(tmp_path, seed=1, agents=4, image_size=(200, 150), lidar_size=(8, 64))
    index = rawdata.index_tree(truth.root)
    before = checks.check_tree(index, progress=False)
    assert before.problems == []
    for agent in index.splits["train"][0].agents:
        left, right = agent.camera_paths[1], agent.camera_paths[2]
        left.rename(left.with_name("x"))
        right.rename(left)
        left.with_name("x").rename(right)
    report = checks.check_tree(index, progress=False)
    (problem,) = [p for p in report.problems if p.key == "cameras"]
    assert "show different things where they overlap" in problem.message and "in 4 views" in problem.message
    assert str(problem).startswith(f"train/{problem.sequence}/all cameras:")
    relaxed = checks.CheckOptions(min_agreement=-1, min_agreement_untold=-1)
    assert "cameras" not in {p.key for p in checks.check_tree(index, relaxed, progress=False).problems}


def test_options_act(tree):
    agent = victim(tree)
    agent.pcd_path.unlink()
    agent.depth_paths[0].unlink()
    rewrite(agent.yaml_path, shift_camera)
    keys = {p.key for p in check(tree).problems}
    assert keys == {"lidar", "camera0_depth", "camera2.extrinsic"}
    index = rawdata.index_tree(tree / "data", depth_root=tree / "depth")
    relaxed = checks.CheckOptions(need_lidar=False, max_position_error_m=0.3)
    assert checks.check_tree(index, relaxed, progress=False).problems == []
    assert len(check(tree, cameras=5).problems) == 3 + 6
    only_first = checks.check_tree(index, max_scenes=1, progress=False)
    assert only_first.scenes == 1 and only_first.agent_frames == 2


def test_two_processes_find_the_same_in_the_same_order(tree):
    for frame in rawdata.index_tree(tree / "data").splits["train"]:
        frame.agents[0].camera_paths[1].unlink()
    index = rawdata.index_tree(tree / "data", depth_root=tree / "depth")
    alone, together = (checks.check_tree(index, workers=n, progress=False) for n in (1, 2))
    assert alone.to_json() == together.to_json()
    assert json.loads(json.dumps(alone.to_json()))["problems"][0]["key"] == "camera1"


def test_a_hostile_yaml_is_a_problem_not_an_execution(tree):
    agent = victim(tree)
    marker = tree / "executed"
    agent.yaml_path.write_text(f"lidar_pose: !!python/object/apply:os.system ['touch {marker}']")
    (problem,) = check(tree).problems
    assert problem.key == "yaml" and not marker.exists()
