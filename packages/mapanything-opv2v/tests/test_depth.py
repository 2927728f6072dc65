import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapanything_opv2v import depth, geometry, rawdata, synthetic
from mapanything_opv2v.synthetic import sensors

K = np.array([[10.0, 0, 7.5], [0, 10, 5.5], [0, 0, 1]])
SIZE = (16, 12)


def test_projection_by_hand():
    points = np.array(
        [
            [0, 0, 2.0],  # u = 7.5, v = 5.5: numpy rounds halves to even
            [0.1, -0.2, 1.0],  # u = 8.5, v = 3.5
            [0.11, -0.21, 1.0],  # u = 8.6, v = 3.4
            [0.2, -0.4, 2.0],  # the same pixel, farther
            [0, 0, -2.0],  # behind
            [10, 0, 1.0],  # beside the image
        ]
    )
    found = depth.project_points(points[2:], K, SIZE)
    assert found.dtype == np.float32 and found.shape == (12, 16)
    assert {(int(v), int(u)): float(found[v, u]) for v, u in zip(*found.nonzero())} == {
        (3, 9): 1.0,
        (4, 8): 2.0,
    }


@given(st.integers(0, 10_000))
def test_projection_equals_plain_loops(seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 4, (200, 3))
    expected = np.zeros((12, 16), np.float32)
    for x, y, z in points:
        if z > 0:
            u, v = round(10 * x / z + 7.5), round(10 * y / z + 5.5)
            if 0 <= u < 16 and 0 <= v < 12 and (expected[v, u] == 0 or z < expected[v, u]):
                expected[v, u] = z
    assert np.allclose(depth.project_points(points, K, SIZE), expected)


def test_hidden_samples_are_dropped():
    sparse = np.zeros((9, 9), np.float32)
    sparse[4, 4], sparse[4, 6], sparse[4, 8], sparse[0, 0] = 5, 5.4, 20, 30
    dropped = depth.drop_hidden(sparse, 2)
    assert dropped[4].tolist() == [0, 0, 0, 0, 5, 0, 5.400000095367432, 0, 0]  # 5.4 is the same surface
    assert dropped[0, 0] == 30  # nothing near
    assert depth.drop_hidden(sparse, 1)[4, 8] == 20


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """Two vehicles on a slope, leaning on their springs, with dense depth as truth."""
    root = tmp_path_factory.mktemp("street")
    return synthetic.write_town(root / "town", seed=12, agents=2, depth_root=root / "dense", image_size=(200, 150))


def record(truth, depth_root):
    return rawdata.index_tree(truth.root, depth_root=depth_root).splits["train"][0]


@pytest.mark.parametrize("sweeps", ["own", "all"])
def test_lidar_depth_agrees_with_the_true_depth(street, tmp_path, sweeps):
    options = depth.DepthOptions(sweeps=sweeps)
    summary = depth.write_depths(rawdata.index_tree(street.root), tmp_path, options, progress=False)
    assert (summary.written, summary.skipped, summary.failed) == (8, 0, {})
    for made, true in zip(record(street, tmp_path).agents, record(street, street.depth_root).agents):
        assert list(made.depth_paths) == [0, 1, 2, 3]
        for number in range(4):
            sparse, dense = (rawdata.load_depth(a.depth_paths[number]) for a in (made, true))
            both = (sparse > 0) & (dense > 0)
            assert both.sum() > 1000
            error = np.abs(sparse[both] - dense[both]) / dense[both]
            assert np.median(error) < 0.01  # a sample stands anywhere in its pixel, truth in the middle
            assert (error > 0.2).mean() < 0.02


def test_other_agents_sweeps_add_pixels(street, tmp_path):
    counts = {}
    for sweeps in ("own", "all"):
        depth.write_depths(
            rawdata.index_tree(street.root),
            tmp_path / sweeps,
            depth.DepthOptions(sweeps=sweeps, hide_px=0),
            progress=False,
        )
        maps = [p for a in record(street, tmp_path / sweeps).agents for p in a.depth_paths.values()]
        counts[sweeps] = sum((rawdata.load_depth(path) > 0).sum() for path in maps)
    assert counts["all"] > 1.02 * counts["own"]


def test_hiding_removes_what_shines_through(street):
    agent = record(street, street.depth_root).agents[0]
    meta = rawdata.load_agent_yaml(agent.yaml_path)
    cloud = rawdata.load_pcd(agent.pcd_path)
    wrong = {}
    for hide in (0, 3):
        made = depth.agent_depths(meta, [(cloud.xyz, meta.lidar_pose)], dict.fromkeys(range(4), (200, 150)), hide)
        far = [
            (made[k] > 1.2 * (dense := rawdata.load_depth(agent.depth_paths[k]))) & (dense > 0) & (made[k] > 0)
            for k in range(4)
        ]
        wrong[hide] = sum(f.sum() for f in far)
    assert wrong[3] < 0.5 * wrong[0]


def test_points_stay_in_the_sensor_frame():
    """A point 10 m ahead of a turned LiDAR: by hand in the front camera's image."""
    lidar = geometry.T_world_from_pose([100, 50, 2, 0, 90, 0])
    camera = lidar @ geometry.T_world_from_pose([3, 0, -0.9, 0, 0, 0])
    meta = rawdata.AgentMeta(
        geometry.pose_from_T_world(lidar),
        {0: rawdata.CameraMeta(geometry.pose_from_T_world(camera), None, sensors.opencv_intrinsic((200, 150)))},
        {},
        0.0,
        None,
    )
    xyz = np.array([[10.0, 1.0, -0.9]], np.float32)  # forward, right, up
    found = depth.agent_depths(meta, [(xyz, meta.lidar_pose)], {0: (200, 150)})[0]
    focal = sensors.FOCAL_800 / 4
    ((v, u),) = np.argwhere(found)
    assert (u, v) == (round(99.5 + focal / 7), 74)
    assert found[v, u] == pytest.approx(7, abs=1e-5)


def test_a_stopped_job_goes_on(street, tmp_path):
    index = rawdata.index_tree(street.root)
    depth.write_depths(index, tmp_path, progress=False)
    paths = sorted(tmp_path.rglob("*.npy"))
    paths[3].unlink()
    before = {path: path.stat().st_mtime_ns for path in paths if path.exists()}
    again = depth.write_depths(index, tmp_path, workers=2, progress=False)
    assert (again.written, again.skipped) == (1, 7)
    assert paths[3].exists() and all(path.stat().st_mtime_ns == t for path, t in before.items())
    assert depth.write_depths(index, tmp_path, overwrite=True, progress=False).written == 8


def test_other_options_are_not_mixed_into_a_tree(street, tmp_path):
    index = rawdata.index_tree(street.root)
    depth.write_depths(index, tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"was begun with .*'own'.* now asked for .*'all'"):
        depth.write_depths(index, tmp_path, depth.DepthOptions(sweeps="all"), progress=False)
    (tmp_path / depth.PARAMETERS_FILE).write_text("{")
    with pytest.raises(ValueError, match=r"depth_parameters.json: damaged"):
        depth.write_depths(index, tmp_path, progress=False)
    done = depth.write_depths(index, tmp_path, depth.DepthOptions(hide_px=0), overwrite=True, progress=False)
    assert done.written == 8
    assert json.loads((tmp_path / depth.PARAMETERS_FILE).read_text())["hide_px"] == 0


def test_png_maps_are_found_by_the_index(street, tmp_path):
    depth.write_depths(rawdata.index_tree(street.root), tmp_path, depth.DepthOptions(suffix=".png"), progress=False)
    agent = record(street, tmp_path).agents[0]
    assert {path.suffix for path in agent.depth_paths.values()} == {".png"}
    assert (rawdata.load_depth(agent.depth_paths[0]) > 0).sum() > 1000


def test_bad_agents_are_reported_and_the_rest_is_made(own_town, tmp_path):
    root, _ = own_town
    index = rawdata.index_tree(root, splits=["test"])
    first, second = index.splits["test"][0], index.splits["test"][1]
    first.agents[1].pcd_path.unlink()
    second.agents[2].yaml_path.write_text("lidar_pose: 3")
    index = rawdata.index_tree(root, splits=["test"])
    done = depth.write_depths(index, tmp_path / "out", progress=False)
    assert set(done.failed) == {
        f"{first.name} agent {first.agents[1].agent_id}",
        f"{second.name} agent {second.agents[2].agent_id}",
    }
    messages = list(done.failed.values())
    assert any("has no LiDAR sweep (.pcd) at this frame" in m for m in messages)
    assert any("lidar_pose: expected" in m for m in messages)
    agents = sum(len(frame.agents) for frame in index.splits["test"])
    assert done.written == 4 * (agents - 2)
    # with everyone's sweeps, a missing one of one's own does not matter
    options = depth.DepthOptions(sweeps="all")
    everyone = depth.write_depths(index, tmp_path / "all", options, progress=False)
    assert {name.split(" ")[0] for name in everyone.failed} == {second.name}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sweeps": "both"}, "sweeps='both', expected 'own' or 'all'"),
        ({"hide_px": -1}, "hide_px=-1, expected 0 to 50"),
        ({"suffix": ".exr"}, "suffix='.exr', expected '.npy' or '.png'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        depth.DepthOptions(**options)
