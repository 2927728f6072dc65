import math

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from mapanything_opv2v import geometry as g
from mapanything_opv2v import rawdata, synthetic
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.synthetic import raycast, sensors, town

NO_BOXES, NO_ROUNDS = np.empty((0, raycast.BOX_COLUMNS)), np.empty((0, raycast.ROUND_COLUMNS))
FLAT = np.zeros((1, 3))


def unit(vectors):
    vectors = np.atleast_2d(np.asarray(vectors, float))
    return np.ascontiguousarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def cast(rays, boxes=NO_BOXES, cylinders=NO_ROUNDS, spheres=NO_ROUNDS, origin=(0, 0, 1), planes=FLAT, skip=-1):
    origin = np.asarray(origin, float)
    return raycast.cast(origin, unit(rays), planes, boxes, cylinders, spheres, town.STREETS, town.LOOK, skip, 900.0)[0]


def box(center, half, R=None, owner=-1):
    return town.box(center, np.eye(3) if R is None else R, np.asarray(half, float), (1, 1, 1), 0, owner)


def test_ground_by_hand():
    slope = np.array([(0, 0, 0), (1, 0, -10.0)])  # rises at 45 degrees from x = 10 on
    found = cast([(1, 0, -0.1), (1, 0, 0), (-1, 0, 0), (0, 0, -1), (0, 0, 1)], planes=slope)
    assert found == pytest.approx([10 * math.hypot(1, 0.1), 11, 0, 1, 0])


def test_solids_by_hand():
    boxes = np.array([box((5, 0, 1), (1, 1, 1))])
    assert cast([(1, 0, 0), (0, 1, 0)], boxes) == pytest.approx([4, 0])
    posts = np.array([[0, 6, -1, 5, 0.5, 1, 1, 1.0]])
    assert cast([(0, 1, 0), (0, 1, 1)], cylinders=posts) == pytest.approx([5.5, 0])  # above its top
    balls = np.array([[-4, 0, 1, 0, 1.5, 1, 1, 1.0]])
    assert cast([(-1, 0, 0)], spheres=balls) == pytest.approx([2.5])
    assert cast([(1, 0, 0)], boxes, skip=-1, origin=(10, 0, 1)) == pytest.approx([0])  # behind


def test_ones_own_car_is_not_seen():
    boxes = np.array([box((5, 0, 1), (1, 1, 1), owner=7), box((9, 0, 1), (1, 1, 1), owner=8)])
    assert cast([(1, 0, 0)], boxes, skip=-1)[0] == 4
    assert cast([(1, 0, 0)], boxes, skip=7)[0] == 8
    assert cast([(1, 0, 0)], boxes, skip=8)[0] == 4


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_boxes_of_any_pose_against_marching(seed):
    """Step along each ray until a point is inside the box."""
    rng = np.random.default_rng(seed)
    pose = g.T_world_from_pose([*rng.uniform(-6, 6, 2), 4, *rng.uniform(-180, 180, 2), rng.uniform(-80, 80)])
    half = rng.uniform(0.5, 2, 3)
    if np.linalg.norm(pose[:3, 3] - [0, 0, 1]) < 4:
        return
    aims = pose[:3, 3] + rng.normal(0, 1.5, (30, 3))
    rays = unit(aims - [0, 0, 1])
    found = cast(rays, np.array([box(pose[:3, 3], half, pose[:3, :3])]), planes=np.array([(0, 0, -1e6)]))
    steps = np.arange(0, 20, 0.004)
    points = np.array([0, 0, 1.0]) + rays[:, None] * steps[:, None]
    inside = (np.abs((points - pose[:3, 3]) @ pose[:3, :3]) <= half).all(-1)
    hit = inside.any(1)
    expected = np.where(hit, steps[inside.argmax(1)], 0)
    grazing = inside.sum(1) < 5  # thinner than the steps can tell
    assert np.allclose(found[~grazing], expected[~grazing], atol=0.005)
    assert not (hit & ~grazing & (found == 0)).any()


def test_culling_changes_nothing(monkeypatch):
    """Bundles of neighbouring rays share candidates; single rays in any order must see the same."""
    moment = town.make_moment(town.make_town(3, "x"), 3, "x", (1, 2), 0.0)
    rays = Cylinder(96, 24).rays().reshape(-1, 3)
    rays = g.points_opencv_to_carla(rays)
    together, colors = moment.cast(np.array([0, 0, 1.9]), rays)
    order = np.random.default_rng(0).permutation(len(rays))
    apart, apart_colors = moment.cast(np.array([0, 0, 1.9]), rays[order])
    assert np.array_equal(apart, together[order]) and np.array_equal(apart_colors, colors[order])


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("town")
    return synthetic.write_town(
        root / "a",
        seed=12,
        frames=2,
        agents=2,
        infrastructure=1,
        depth_root=root / "d",
        image_size=(200, 150),
    )


def frame_of(truth, number=0):
    return rawdata.index_tree(truth.root, depth_root=truth.depth_root).splits["train"][number]


def test_the_tree_is_complete_and_has_opv2vs_form(small):
    frame = frame_of(small)
    assert [agent.agent_id for agent in frame.agents] == list(small.agents) and small.agents[0] == -1
    for agent in frame.agents:
        assert agent.has_yaml and agent.pcd_path is not None
        assert list(agent.camera_paths) == list(agent.depth_paths) == [0, 1, 2, 3]
        raw = yaml.safe_load(agent.yaml_path.read_text())
        assert raw["camera0"]["intrinsic"][0] == [sensors.FOCAL_800 / 4, 0, 100]  # CARLA's convention on disk
        assert ("ego_speed" in raw) == (agent.agent_id >= 0)
    protocol = frame.agents[0].yaml_path.parents[1] / "data_protocol.yaml"
    assert yaml.safe_load(protocol.read_text())["world"]["seed"] == 12


def test_poses_on_disk_are_consistent_and_lean(small):
    tilts = []
    for agent in frame_of(small).agents:
        meta = rawdata.load_agent_yaml(agent.yaml_path)
        for camera in meta.cameras.values():
            computed = g.T_cam_lidar_carla(camera.cords, meta.lidar_pose)
            assert np.allclose(computed, camera.extrinsic, atol=1e-9)
        tilts.append(np.abs(meta.lidar_pose[[3, 5]]).max())
        front = g.T_cam_lidar_carla(meta.cameras[0].cords, meta.lidar_pose)
        assert front[:3, 3] == pytest.approx([-3, 0, 0.9])  # as in the published frame
    assert max(tilts) > 3


def test_depth_and_images_and_lidar_tell_the_same_story(small):
    """Every LiDAR point, carried into the images with float64 geometry, finds its own depth there."""
    for agent in frame_of(small).agents:
        meta = rawdata.load_agent_yaml(agent.yaml_path)
        cloud = rawdata.load_pcd(agent.pcd_path)
        assert np.linalg.norm(cloud.xyz, axis=1).max() <= sensors.LIDAR_RANGE_M + 1e-3
        points = g.points_carla_to_opencv(cloud.xyz.astype(float))
        seen, good = 0, 0
        for number, camera in meta.cameras.items():
            T = g.invert(g.T_world_cam_opencv(camera.cords)) @ g.T_world_cam_opencv(meta.lidar_pose)
            u, v, z = g.project_pinhole(camera.intrinsic, g.transform_points(T, points))
            dense = rawdata.load_depth(agent.depth_paths[number])
            with np.errstate(invalid="ignore"):
                inside = (u >= 0) & (u <= 199) & (v >= 0) & (v <= 149)
            there = dense[np.rint(v[inside]).astype(int), np.rint(u[inside]).astype(int)]
            seen += inside.sum()
            good += (np.abs(there - z[inside]) < 0.05 * z[inside]).sum()
        assert good > 0.9 * seen > 20_000  # the others are hidden from the camera, or at an edge


def test_annotated_boxes_are_where_the_points_are(small):
    """Points inside a vehicle's annotated box exist, and none of its surface sticks out of it."""
    agent = frame_of(small).agents[1]
    meta = rawdata.load_agent_yaml(agent.yaml_path)
    assert agent.agent_id not in meta.vehicles and len(meta.vehicles) >= 10
    world = g.transform_points(g.T_world_from_pose(meta.lidar_pose), rawdata.load_pcd(agent.pcd_path).xyz)
    counts = []
    for vehicle in meta.vehicles.values():
        T = g.T_world_from_pose([*vehicle.location, *vehicle.angle])
        local = g.transform_points(g.invert(T), world) - vehicle.center
        counts.append(int((np.abs(local) < vehicle.extent + 0.02).all(1).sum()))
    assert sum(count > 5 for count in counts) >= 2


def test_the_true_panorama_is_seen_from_the_lidar(small):
    """Each LiDAR return, looked up in a fine true panorama, has its range."""
    frame = frame_of(small)
    cylinder = Cylinder(720, 180)
    for agent in frame.agents:
        true = small.panorama("train", frame.sequence, frame.frame, agent.agent_id, cylinder)
        assert np.array_equal(true.sky, true.range_m == 0) and 0.05 < true.sky.mean() < 0.6
        cloud = rawdata.load_pcd(agent.pcd_path)
        u, v, r = cylinder.project(g.points_carla_to_opencv(cloud.xyz.astype(float)))
        inside = (v > 0) & (v < 179)
        there = true.range_m[np.rint(v[inside]).astype(int), np.rint(u[inside]).astype(int) % 720]
        relative = np.abs(there - r[inside]) / r[inside]
        assert np.median(relative) < 0.01 and (relative < 0.1).mean() > 0.9


def test_vehicles_move(small):
    first, second = (rawdata.load_agent_yaml(frame_of(small, k).agents[1].yaml_path) for k in (0, 1))
    step = np.linalg.norm(second.lidar_pose[:3] - first.lidar_pose[:3])
    assert step == pytest.approx(18 / 3.6 * 0.1, rel=0.05)
    mast = [rawdata.load_agent_yaml(frame_of(small, k).agents[0].yaml_path).lidar_pose for k in (0, 1)]
    assert np.array_equal(*mast)


def test_the_same_seed_is_the_same_town_and_another_is_another(tmp_path):
    pixels = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        truth = synthetic.write_town(tmp_path / name, seed=seed, agents=1, image_size=(80, 60), lidar_size=(8, 64))
        pixels.append(rawdata.load_image(frame_of(truth).agents[0].camera_paths[0]))
    assert np.array_equal(pixels[0], pixels[1]) and not np.array_equal(pixels[0], pixels[2])


def test_splits_and_sequences_have_towns_of_their_own(small_town):
    index = rawdata.index_tree(small_town.root)
    first = [frames[0].agents[-1].camera_paths[0] for frames in index.splits.values()]
    other = index.splits["train"][2].agents[-1].camera_paths[0]
    images = [rawdata.load_image(path) for path in (*first, other)]
    assert len({image.tobytes() for image in images}) == len(images)


@pytest.mark.parametrize("name", ["sequences", "frames", "agents"])
def test_nothing_to_write_is_an_error(tmp_path, name):
    with pytest.raises(ValueError, match=f"write_town: {name}=0, expected at least 1"):
        synthetic.write_town(tmp_path, seed=1, **{name: 0})


@given(st.floats(-100, 100), st.floats(-100, 100), st.floats(-180, 180))
def test_cars_stand_on_the_ground(x, y, yaw):
    T = town.place(x, y, yaw)
    g.check_rigid(T)
    assert T[2, 3] == pytest.approx(town.ground_height(x, y))
    ahead = T @ [0.01, 0, 0, 1]
    behind = T @ [-0.01, 0, 0, 1]
    # on a plane, both are on it; at a kink one of them may float
    floats = [p[2] - town.ground_height(p[0], p[1]) for p in (ahead, behind)]
    assert min(map(abs, floats)) < 1e-9
    assert math.remainder(math.degrees(math.atan2(T[1, 0], T[0, 0])) - yaw, 360) == pytest.approx(0, abs=1.0)
