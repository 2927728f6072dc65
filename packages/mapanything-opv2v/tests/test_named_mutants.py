"""Small faults that no test saw: each of these tests fails with one of them."""

from __future__ import annotations

import os

import numpy as np
import pytest
from mapanything_opv2v import files, rawdata
from mapanything_opv2v.evaluation.clouds import Cloud, _band, ground_y
from mapanything_opv2v.evaluation.measure import predicted_cloud
from mapanything_opv2v.evaluation.options import CloudOptions
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.panorama import PanoramaBuilder, Rig, RigCamera, builder, kernels, tables
from mapanything_opv2v.samples.loading import load_pinhole_view

K = np.array([[50.0, 0, 49.5], [0, 50, 49.5], [0, 0, 1]])


def test_unknown_depth_is_no_sky(own_town, double_host):
    """`depth >= 0` to `depth > 0`: unknown LiDAR depth would become sky."""
    root, depth_root = own_town
    path = next((depth_root / "test").rglob("*_camera0_depth.npy"))
    depth = np.full((60, 80), 10.0, np.float32)
    depth[:20], depth[20:40] = 0, 1000  # unknown, sky, known
    for other in (depth_root / "test").rglob("*_depth.npy"):
        np.save(other, depth)
    assert path.is_file()
    options = dict(ROOT=root, depth_root=depth_root, split="test", num_views=2, resolution=(80, 60))
    view = double_host.OPV2VDataset(**options, transform="imgnorm", data_norm_type="dinov2", seed=1)[0][0]
    mask, known = np.asarray(view["non_ambiguous_mask"]), np.asarray(view["depthmap"])[..., :].reshape(60, 80) > 0
    assert mask[:20].all() and not mask[20:40].any() and mask[40:].all()
    assert not known[:40].any() and known[40:].all()
    frame = rawdata.index_tree(root, depth_root=depth_root, splits=["test"]).splits["test"][0]
    agent = frame.agents[1]
    meta = rawdata.load_agent_yaml(agent.yaml_path)
    assert (load_pinhole_view(frame, meta, agent.agent_id, 0).depth_z_m[[0, 30, 50], 0] == (0, -1, 10)).all()


def test_what_is_filtered_from_above_has_an_upper_limit():
    """`evaluation/clouds.py`: the upper height limit dropped."""
    heights = np.array([0.0, 0.49, 0.5, 4.0, 4.01, 30.0])
    points = np.stack([heights, 10.0 - heights, heights], axis=1)  # the ground is at y = 10, y points down
    assert _band(points, 10.0, CloudOptions())[:, 0].tolist() == [0.5, 4.0]


def test_the_ground_is_the_95_percent_quantile():
    """`evaluation/clouds.py`: another quantile. 101 points from y = 0 to y = 100: 95 % of the way is 95."""
    points = np.stack([np.zeros(101), np.arange(101.0), np.zeros(101)], axis=1)
    far = np.array([[31.0, 1000.0, 0.0]])
    assert ground_y(np.concatenate([points, far]), np.zeros(3)) == pytest.approx(95.0)


def test_aligned_ranges_take_the_scale(town_predictions):
    """`evaluation/measure.py`: `* scale` dropped."""
    from mapanything_opv2v.evaluation.alignment import Alignment
    from mapanything_opv2v.predictions import load_predictions

    frame = load_predictions(town_predictions)
    twice, once = (predicted_cloud(frame, Alignment(np.eye(4), scale)) for scale in (2.0, 1.0))
    assert np.allclose(twice.range_m, 2 * once.range_m) and once.range_m.max() > 0
    assert isinstance(twice, Cloud) and np.allclose(twice.points, 2 * once.points)


def gathered(depth, T=None, cylinder=None):
    """Return ranges of a panorama built from one camera's depth with and without refinement."""
    cylinder = cylinder or Cylinder(72, 36, 90, 0)
    rig = Rig((RigCamera(K, np.eye(4) if T is None else T, (100, 100)),))
    image = np.zeros((100, 100, 3), np.uint8)
    return PanoramaBuilder(rig, cylinder, refine_range=True).build([image], [depth])


def test_an_isolated_sample_keeps_its_own_range():
    """`panorama/kernels.py`: ISOLATED to MISSED would throw lone samples away."""
    depth = np.zeros((100, 100), np.float32)
    depth[50, 50] = 7.0
    made = gathered(depth)
    assert np.count_nonzero(made.has_range) == 1
    assert made.range_m[made.has_range][0] == pytest.approx(7.0, abs=0.01)
    assert len({kernels.MISSED, kernels.ISOLATED, kernels.MET}) == 3


@pytest.mark.parametrize("start", [0, 71])
def test_a_surface_is_followed_across_the_seam(start):
    """`panorama/kernels.py`: no wrap at the seam in `gather`. One pixel beside it knows a wall behind the vehicle."""
    back = np.eye(4)
    back[0, 0] = back[2, 2] = -1.0  # half a turn
    cylinder = Cylinder(72, 36, 90, 0)
    cameras = builder._camera_rows(Rig((RigCamera(K, back, (100, 100)),)), cylinder)
    rays = cylinder.rays().reshape(-1, 3).astype(np.float32)
    here = 18 * 72 + start
    x, y, z = K @ (back[:3, :3].T @ rays[here])  # into the image
    sources, ranges = np.full(len(rays), kernels.NO_SOURCE, np.int32), np.full(len(rays), kernels.FAR)
    sources[here], ranges[here] = round(y / z) * 100 + round(x / z), 8.0
    depths = np.full(100 * 100, 8.0, np.float32)
    assert kernels.gather(depths, cameras, rays, 72, sources, ranges) == 4
    found = {(m // 72, m % 72) for m in np.flatnonzero(sources >= 0).tolist()}
    inside, across = (1, 71) if start == 0 else (70, 0)
    assert found == {(17, start), (18, start), (19, start), (18, inside), (18, across)}
    assert ranges[18 * 72 + across] == pytest.approx(8.0 / -rays[18 * 72 + across][2], rel=1e-5)


def test_reach_grows_towards_the_corners():
    """`panorama/builder.py`: the `corner` term. There a panorama pixel spans 1 + tan^2 as many image pixels."""
    cylinder = Cylinder(360, 90, 90, 0)
    (row,) = builder._camera_rows(Rig((RigCamera(K, np.eye(4), (100, 100)),)), cylinder)
    # 50 pixels a radian, both ways; 50.5 of 50 focal lengths to the farther borders
    assert row[20] == pytest.approx(1.5 + 50 / (360 / (2 * np.pi)) * (1 + 2 * 1.01**2))


def test_the_feather_has_its_full_width():
    """`panorama/tables.py`: feather halved. Half a feather behind the leading camera is half the weight."""
    feather = np.radians(2.0)
    inner = tables._weights(feather * np.array([[[3.0]], [[2.5]]]), feather)
    assert inner[:, 0, 0].tolist() == pytest.approx([2 / 3, 1 / 3])
    # a quarter behind is three quarters, and a quarter of a feather from its own border is half of that
    border = tables._weights(feather * np.array([[[0.5]], [[0.25]]]), feather)
    assert border[:, 0, 0].tolist() == pytest.approx([1 / 1.375, 0.375 / 1.375])


def test_a_header_does_not_dictate_how_much_memory_is_taken(tmp_path):
    """`rawdata/pcd.py`: size check dropped. 40 million points of 40 bytes are 1.6 GB; the file has none of them."""
    fields = " ".join(["x", "y", "z", *(f"f{number}" for number in range(7))])
    header = (
        f"VERSION 0.7\nFIELDS {fields}\nSIZE {'4 ' * 10}\nTYPE {'F ' * 10}\nCOUNT {'1 ' * 10}\n"
        "WIDTH 40000000\nHEIGHT 1\nPOINTS 40000000\nDATA binary_compressed\n"
    )
    path = tmp_path / "a.pcd"
    path.write_bytes(header.encode() + (8).to_bytes(4, "little") + (1_600_000_000).to_bytes(4, "little") + b"x" * 8)
    with pytest.raises(ValueError, match=r"40000000 points of 40 bytes: expected at most 1073741824 bytes"):
        rawdata.load_pcd(path)


def test_the_main_agent_s_entry_of_a_vehicle_stands(own_town, double_host):
    """`host/data/base.py`: the main agent's entry no longer wins."""
    import yaml

    root, depth_root = own_town
    frame = rawdata.index_tree(root, splits=["test"]).splits["test"][0]
    agents = [agent for agent in frame.agents if agent.agent_id >= 0]
    entry = {"location": [0, 0, 0], "center": [0, 0, 0], "extent": [1, 1, 1], "angle": [0, 0, 0], "speed": 0.0}
    for agent in agents:
        data = yaml.safe_load(agent.yaml_path.read_text())
        data["vehicles"] = {77: {**entry, "location": [float(agent.agent_id), 0, 0]}}
        agent.yaml_path.write_text(yaml.safe_dump(data))
    options = dict(ROOT=root, depth_root=depth_root, split="test", num_views=2, resolution=(40, 30), seed=1)
    options |= dict(transform="imgnorm", data_norm_type="dinov2")
    for main in (agents[0].agent_id, agents[-1].agent_id):
        dataset = double_host.OPV2VCoopDataset(**options, main_agent=main)
        assert dataset.vehicles(0)[77].location[0] == main


def test_stand_ins_are_other_samples(own_town, double_host):
    """`host/data/base.py`: a scene that stands in for another repeats its own sample, and batches hold doubles."""
    root, depth_root = own_town
    options = dict(ROOT=root, depth_root=depth_root, split="test", num_views=16, variable_num_views=True)
    options |= dict(resolution=(40, 30), transform="imgnorm", data_norm_type="dinov2", seed=1, min_num_views=2)
    dataset = double_host.OPV2VCoopDataset(**options)
    lookup = dataset.index.lookup[16].tolist()
    assert len(set(lookup)) < len(lookup)  # one frame has lost a car, and another stands in for it
    drawn = {}
    for index, scene in enumerate(lookup):
        drawn.setdefault(scene, []).append(int(dataset._draw(index, 16).rng.integers(1 << 60)))
    assert all(len(set(numbers)) == len(numbers) for numbers in drawn.values())
    again = [int(dataset._draw(index, 16).rng.integers(1 << 60)) for index in range(len(lookup))]
    assert sorted(again) == sorted(number for numbers in drawn.values() for number in numbers)  # but the same again


def test_files_are_synced_before_they_take_their_place(tmp_path, monkeypatch):
    """`files.py`: fsync removable. The order is: write, sync, rename."""
    order = []
    fsync, replace = os.fsync, type(tmp_path).replace

    def synced(descriptor):
        order.append(("sync", os.fstat(descriptor).st_size))
        fsync(descriptor)

    def replaced(self, target):
        order.append(("rename", self.stat().st_size))
        return replace(self, target)

    monkeypatch.setattr(files.os, "fsync", synced)
    monkeypatch.setattr(type(tmp_path), "replace", replaced)
    files.write_bytes(tmp_path / "a", b"12345")
    assert order == [("sync", 5), ("rename", 5)]
