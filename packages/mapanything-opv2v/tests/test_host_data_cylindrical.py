"""The cylindrical datasets against the double of the host's base class and the town's true panoramas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mapanything_opv2v import cli, geometry
from mapanything_opv2v.panorama import PanoramaCache
from mapanything_opv2v.rawdata import load_agent_yaml
from mapanything_opv2v.samples.loading import SampleError

COMMON = {"transform": "imgnorm", "data_norm_type": "identity"}
SIZE = (120, 30)


@pytest.fixture
def make(double_host, small_town):
    def build(name, **options):
        roots = {"ROOT": small_town.root, "depth_root": small_town.depth_root, "split": "train"}
        if name.startswith("OPV2VC"):
            roots["panorama_resolution"] = SIZE
        else:
            roots["resolution"] = (80, 60)
        views = 1 if name == "OPV2VCylindricalDataset" else 2
        return getattr(double_host, name)(**{**roots, "num_views": views, **COMMON, **options})

    return build


@pytest.fixture
def coop(make):
    return lambda **options: make("OPV2VCoopCylindricalDataset", **options)


def truth_of(town, view, size=SIZE, **cylinder):
    split, sequence, frame = view["label"].split("/")
    agent = int(view["instance"].split("/")[0][5:])
    return town.panorama(split, sequence, frame, agent, geometry.Cylinder(*size, **cylinder))


def relative_error(view, truth):
    valid, range_m = view["valid_mask"], view["depthmap"][..., 0]
    return np.median(np.abs(range_m - truth.range_m)[valid] / range_m[valid])


def test_same_keys_and_types_as_a_pinhole_view(make, double_host, small_town):
    pinhole = double_host.OPV2VDataset(
        ROOT=small_town.root,
        depth_root=small_town.depth_root,
        split="train",
        num_views=1,
        resolution=(80, 60),
        **COMMON,
    )[0][0]
    view = make("OPV2VCylindricalDataset")[0][0]
    assert set(pinhole) - set(view) == {"camera_intrinsics"}
    assert set(view) <= set(pinhole)
    for key, value in view.items():
        assert type(value) is type(pinhole[key]), key
        if hasattr(value, "dtype"):
            assert value.dtype == pinhole[key].dtype, key
            assert len(value.shape) == len(pinhole[key].shape), key
    assert view["img"].shape == (3, 30, 120) and view["true_shape"].tolist() == [30, 120]


def test_the_loader_can_batch_them(coop):
    batch = torch.utils.data.default_collate([coop()[0], coop()[1]])
    assert len(batch) == 2
    assert batch[1]["pts3d"].shape == (2, 30, 120, 3)
    assert batch[0]["agent_index"].tolist() == [0, 0]
    assert batch[0]["valid_mask"].dtype == torch.bool


def test_range_is_the_distance_along_the_ray(make, small_town):
    for index in range(4):
        view = make("OPV2VCylindricalDataset")[index][0]
        truth = truth_of(small_town, view)
        assert view["valid_mask"].mean() > 0.3
        assert relative_error(view, truth) < 0.02  # of 80 x 60 images; the accuracy figures use real sizes


def test_geometry_is_consistent(coop):
    for view in coop()[0]:
        valid, range_m = view["valid_mask"], view["depth_along_ray"]
        assert np.array_equal(valid, range_m[..., 0] > 0)
        rays = view["ray_directions_cam"]
        assert np.allclose(np.linalg.norm(rays, axis=-1), 1, atol=1e-6)
        assert np.allclose(view["pts3d_cam"], range_m * rays, atol=1e-4)
        world = geometry.transform_points(view["camera_pose"], view["pts3d_cam"].astype(np.float64))
        assert np.allclose(view["pts3d"], world, atol=1e-3)
        assert np.array_equal(view["camera_pose_trans"], view["camera_pose"][:3, 3])
        x, y, z, w = view["camera_pose_quats"].astype(np.float64)
        yaw_column = [1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w)]
        assert np.allclose(view["camera_pose"][:3, 0], yaw_column, atol=1e-5)


def test_pose_is_the_lidars(coop, small_town):
    view = coop()[0][0]
    agent = view["instance"].split("/")[0][5:]
    path = small_town.root / "train" / small_town.sequences[0] / agent / f"{small_town.frames[0]}.yaml"
    pose = geometry.T_world_cam_opencv(load_agent_yaml(path).lidar_pose)
    assert np.allclose(view["camera_pose"], pose, atol=1e-4)


def agreement(views, turn_deg=0.0):
    """Share of points that the other vehicle, where nothing hides them, measures at the same range."""
    turn = geometry.T_world_cam_opencv([0, 0, 0, 0, turn_deg, 0])
    cylinder = geometry.Cylinder(*SIZE)
    same = through = 0
    for a, b in ((views[0], views[1]), (views[1], views[0])):
        points = a["pts3d"][a["valid_mask"]].astype(np.float64)
        u, v, range_m = cylinder.project(geometry.transform_points(turn @ geometry.invert(b["camera_pose"]), points))
        inside = (v > 0) & (v < 29)
        rows, columns = np.rint(v[inside]).astype(int), np.rint(u[inside]).astype(int) % 120
        seen = b["depthmap"][rows, columns, 0]
        same += (np.abs(seen - range_m[inside]) < 0.1 * range_m[inside]).sum()
        through += (seen > 1.1 * range_m[inside]).sum()
    return same / (same + through)


def test_vehicles_share_one_world(coop, small_town):
    views = coop(include_agents=small_town.agents[1:3])[0]
    right, wrong = agreement(views), agreement(views, turn_deg=10.0)
    assert right > 0.75 > 0.65 > wrong, (right, wrong)


def test_the_image_closes_at_its_sides(coop):
    view = coop()[0][0]
    rays = view["ray_directions_cam"][15]
    azimuth = np.rad2deg(np.arctan2(rays[:, 0], rays[:, 2]))
    steps = (np.diff(azimuth, append=azimuth[:1]) + 360) % 360
    assert np.allclose(steps, 3.0, atol=1e-3)  # the step over the seam is a step like any other
    assert np.isclose(azimuth[0], -178.5) and np.isclose(azimuth[-1], 178.5)


def test_ambiguous_is_sky_and_what_no_camera_sees(coop, small_town):
    view = coop()[0][0]
    truth = truth_of(small_town, view)
    black = (view["img"] == 0).all(dim=0).numpy()
    assert 0.1 < black.mean() < 0.4  # the poles and the gaps beside the front camera
    assert not view["non_ambiguous_mask"][black].any() and not view["valid_mask"][black].any()
    seen = ~black
    inner = seen & (view["valid_mask"] | ~view["non_ambiguous_mask"])
    agrees = view["non_ambiguous_mask"][inner] == ~truth.sky[inner]
    assert agrees.mean() > 0.97, agrees.mean()
    assert truth.sky[seen].mean() > 0.05  # there is sky to be told apart


def test_main_agent_and_counts(coop, small_town):
    last = small_town.agents[-1]
    dataset = coop(main_agent=last, num_views=4, variable_num_views=True)
    assert dataset.num_views == [2, 3, 4] and len(dataset) == 3
    for index in range(3):
        for number, count in enumerate((2, 3, 4)):
            views = dataset[(index, 0, number)]
            assert len(views) == count == len({view["instance"] for view in views})
            assert views[0]["instance"] == f"agent{last}/panorama"
            assert views[0]["agent_index"] == 0
            assert {view["label"] for view in views} == {views[0]["label"]}
    with pytest.raises(ValueError, match=r"no scene is left .* offers fewer than 5 views"):
        coop(num_views=5)
    with pytest.raises(ValueError, match="offers fewer than 2 views"):
        coop(num_views=2, include_agents=[last], min_agents=1)


def test_one_vehicle_has_one_panorama(make, small_town):
    dataset = make("OPV2VCylindricalDataset")
    assert len(dataset) == 15 and len(dataset[0]) == 1
    with pytest.raises(ValueError, match="offers fewer than 2 views"):
        make("OPV2VCylindricalDataset", num_views=2)


def test_only_the_vehicles_that_are_shown_are_read(coop, own_town, small_town):
    root, depth_root = own_town
    reference = coop(ROOT=root, depth_root=depth_root, seed=1)
    shown = {view["instance"].split("/")[0][5:] for view in reference[0]}
    assert len(shown) == 2
    for path in (*root.rglob("*.yaml"), *root.rglob("*.png"), *depth_root.rglob("*.npy")):
        if path.parent.name not in shown:
            path.write_bytes(b"broken")
    assert {view["instance"].split("/")[0][5:] for view in reference[0]} == shown


def test_fov_and_centre_act(make, small_town):
    view = make("OPV2VCylindricalDataset", panorama_vertical_fov_deg=60.0, panorama_elevation_center_deg=-10.0)[0][0]
    rays = view["ray_directions_cam"][:, 0]
    elevation = np.rad2deg(np.arcsin(-rays[:, 1]))
    assert np.isclose(elevation[0], 20 - 1, atol=1e-3) and np.isclose(elevation[-1], -40 + 1, atol=1e-3)
    truth = truth_of(small_town, view, vertical_fov_deg=60.0, elevation_center_deg=-10.0)
    assert relative_error(view, truth) < 0.02


def test_panorama_options_act(make):
    plain = make("OPV2VCylindricalDataset")[0][0]
    filled = make("OPV2VCylindricalDataset", panorama_fill_radius_px=3)[0][0]
    wide = make("OPV2VCylindricalDataset", panorama_projection_radius_m=float("inf"))[0][0]
    assert filled["valid_mask"].sum() > plain["valid_mask"].sum()
    assert (wide["img"] == 0).all(dim=0).sum() < (plain["img"] == 0).all(dim=0).sum()


def test_several_resolutions(make):
    dataset = make("OPV2VCylindricalDataset", panorama_resolution=None, resolution=[(120, 30), (64, 16)])
    assert dataset[(0, 1)][0]["img"].shape == (3, 16, 64)
    assert dataset[(0, 0)][0]["depthmap"].shape == (30, 120, 1)


def test_seeds(coop):
    def draw(dataset, epoch):
        dataset.set_epoch(epoch)
        return [tuple(view["instance"] for view in dataset[index]) for index in range(4)]

    assert len({tuple(draw(coop(), epoch)) for epoch in range(6)}) > 1
    assert draw(coop(seed=7), 0) == draw(coop(seed=7), 1)


def test_colour_augmentation_and_normalisation_act(coop):
    plain, jittered = coop(seed=1)[0][0]["img"], coop(seed=1, transform="colorjitter")[0][0]["img"]
    assert not torch.allclose(plain, jittered)
    assert coop(seed=1, data_norm_type="dinov2")[0][0]["img"].min() < -1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"panorama_resolution": None}, r"give panorama_resolution=\(width, height\)"),
        ({"resolution": (64, 16)}, r"panorama_resolution=\(120, 30\) and resolution=\(64, 16\) differ"),
        ({"aug_crop": 8}, "aug_crop=8 would cut a panorama open"),
        ({"principal_point_centered": True}, "principal_point_centered=True would cut"),
        ({"panorama_vertical_fov_deg": 200.0}, "vertical_fov_deg=200.0"),
        ({"panorama_elevation_center_deg": 60.0}, "rows reach from 15.0 to 105.0 degrees"),
        ({"panorama_feather_deg": -1}, "feather_deg=-1"),
        ({"panorama_radius": 20}, "unknown option 'panorama_radius'.*panorama_projection_radius_m"),
    ],
)
def test_options_that_cannot_act_raise(coop, options, message):
    with pytest.raises(ValueError, match=message):
        coop(**options)


def test_errors_name_frame_agent_and_key(coop, own_town, small_town):
    root, depth_root = own_town
    folder = f"train/{small_town.sequences[0]}/{small_town.agents[1]}"
    (root / folder / f"{small_town.frames[0]}_camera3.png").write_bytes(b"")
    dataset = coop(ROOT=root, depth_root=depth_root)
    frame = small_town.frames[0]
    who = f"train/{small_town.sequences[0]}/{frame} agent {small_town.agents[1]}"
    name = f"{who} panorama: .*{frame}_camera3.png: not a PNG"
    with pytest.raises(SampleError, match=name):
        dataset[0]


def test_panoramas_come_from_the_cache(make, own_town, small_town, tmp_path):
    root, depth_root = own_town
    options = {"ROOT": root, "depth_root": depth_root, "main_agent": small_town.agents[1]}
    plain = make("OPV2VCylindricalDataset", **options)[0][0]
    words = f"prebuild {root} --depth-root {depth_root} --cache {tmp_path / 'cache'} --splits train --quiet"
    assert cli.main([*words.split(), "--panorama-resolution", *map(str, SIZE)]) == 0
    cache = PanoramaCache(tmp_path / "cache", geometry.Cylinder(*SIZE))
    path = cache.path("train", small_town.sequences[0], small_town.agents[1], small_town.frames[0])
    assert path.is_file()
    dataset = make("OPV2VCylindricalDataset", panorama_cache=tmp_path / "cache", **options)
    cached = dataset[0][0]
    for key in ("img", "depthmap", "pts3d", "valid_mask", "non_ambiguous_mask"):
        assert np.array_equal(np.asarray(cached[key]), np.asarray(plain[key])), key
    path.write_bytes(b"broken")  # proof that it is read
    with pytest.raises(SampleError, match="damaged cached panorama"):
        dataset[0]


def test_a_cache_of_other_parameters_is_refused(coop, tmp_path):
    with pytest.raises(ValueError, match=r"holds no panoramas of \(120, 30\) with these options.*prebuild"):
        coop(panorama_cache=tmp_path)


def test_tables_stand_before_workers_are_forked(coop, own_town, small_town, caplog):
    from mapanything_opv2v.panorama import tables

    tables._tables.clear()
    coop()
    assert len(tables._tables) == 1
    root, depth_root = own_town
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(SampleError, match=r"agent -1 panorama: .*not a PNG"):
        coop(ROOT=root, depth_root=depth_root)
    coop(ROOT=root, depth_root=depth_root, strict=False)
    assert "colour tables are left to the first good sample: train/" in caplog.text


def test_rolling_changes_where_the_seam_is_and_nothing_else(make):
    plain, turned = make("OPV2VCylindricalDataset"), make("OPV2VCylindricalDataset", panorama_roll=True)
    shifts = set()
    for index in range(6):
        (a,), (b,) = plain[index], turned[index]
        width = a["depthmap"].shape[1]
        found = [k for k in range(width) if np.array_equal(np.roll(a["depthmap"], k, axis=1), b["depthmap"])]
        assert len(found) == 1
        shifts.add(found[0])
        assert torch.equal(torch.roll(a["img"], found[0], dims=2), b["img"])
        points = np.roll(a["pts3d"], found[0], axis=1)  # the same surface in the world, under the turned pose
        assert np.allclose(points, b["pts3d"], atol=2e-3)
        assert np.allclose(a["camera_pose_trans"], b["camera_pose_trans"])
        assert np.allclose(a["ray_directions_cam"], b["ray_directions_cam"])
        inverse = np.linalg.inv(b["camera_pose"])
        local = b["pts3d"] @ inverse[:3, :3].T + inverse[:3, 3]
        assert np.allclose(local, b["pts3d_cam"], atol=2e-3)
    assert len(shifts) > 3
    with pytest.raises(ValueError, match="panorama_roll='often', expected True or False"):
        make("OPV2VCylindricalDataset", panorama_roll="often")
