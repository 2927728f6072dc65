"""Synthetic rooms: geometry of the patches, labels of the points, files on disk."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from influencer_mmdet3d.data import furniture, synthetic
from influencer_mmdet3d.data.rooms import CLASSES, MARGIN, TOUCHING, make_room
from influencer_mmdet3d.data.synthetic import write_s3dis, write_scannet


def room_of(seed=0, **options):
    options = {"points": 4_000, "objects": (10, 20), **options}
    return make_room(np.random.default_rng(seed), **options)


def test_box_is_closed():
    patches = furniture.box((1, 2, 3), (0.5, 2.0, 1.0))
    areas = np.linalg.norm(np.cross(patches[:, 1], patches[:, 2]), axis=1)
    assert areas.sum() == pytest.approx(2 * (0.5 * 2.0 + 0.5 * 1.0 + 2.0 * 1.0))
    corners = np.concatenate([patches[:, 0], patches[:, 0] + patches[:, 1] + patches[:, 2]])
    assert corners.min(0).tolist() == [1, 2, 3]
    assert corners.max(0).tolist() == [1.5, 4, 4]


@pytest.mark.parametrize("name", sorted(furniture.BUILDERS))
def test_furniture_fits_its_place(name):
    for seed in range(20):
        patches = furniture.BUILDERS[name](np.random.default_rng(seed))
        origin, u, v = patches[:, 0], patches[:, 1], patches[:, 2]
        corners = np.concatenate([origin, origin + u, origin + v, origin + u + v])
        assert np.abs(corners[:, 0]).max() <= 0.6 + 1e-9  # a cell is 1.3 m, objects may be turned by a little
        assert corners[:, 2].min() >= -1e-9 and corners[:, 2].max() < 2.6
        if name in furniture.WALL_CLASSES:
            assert corners[:, 1].min() >= -1e-9 and corners[:, 1].max() <= MARGIN
        assert np.linalg.norm(np.cross(u, v), axis=1).min() > 0


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    objects=st.tuples(st.integers(2, 60), st.integers(0, 30)).map(lambda pair: (pair[0], sum(pair))),
    layout=st.sampled_from(["spread", "crowded"]),
)
def test_room_is_what_the_host_needs(seed, objects, layout):
    room = room_of(seed, points=16 * (objects[1] + 6), objects=objects, layout=layout)
    count = len(room.points)
    assert room.points.dtype == np.float32 and room.points.shape == (count, 6)
    assert np.isfinite(room.points).all()
    assert room.points[:, :3].min(0).tolist() == [0, 0, 0]
    rgb = room.points[:, 3:]
    assert rgb.min() >= 0 and rgb.max() <= 255 and (rgb == np.rint(rgb)).all()
    names, sizes = np.unique(room.instance, return_counts=True)
    assert names.tolist() == list(range(1, len(names) + 1))
    assert objects[0] + 6 <= len(names) <= objects[1] + 6
    assert sizes.min() >= 8
    for instance in names:
        assert len(np.unique(room.semantic[room.instance == instance])) == 1
    per_class = [len(np.unique(room.instance[room.semantic == label])) for label in range(13)]
    assert per_class[:3] == [1, 1, 4]
    furniture_labels = [CLASSES.index(name) for name in synthetic.FURNITURE]
    assert sum(per_class[label] for label in furniture_labels) >= 1
    assert np.unique(room.superpoint).tolist() == list(range(room.superpoint.max() + 1))
    pairs = np.unique(np.column_stack([room.superpoint, room.instance]), axis=0)
    assert len(pairs) == room.superpoint.max() + 1, "a superpoint lies inside one instance"


def test_spread_objects_do_not_touch_and_crowded_do():
    def smallest_gap(room):
        chairs = [room.points[room.instance == k, :2] for k in np.unique(room.instance[room.semantic == 8])]
        boxes = np.array([[*xy.min(0), *xy.max(0)] for xy in chairs])
        gaps = np.maximum(boxes[:, None, :2] - boxes[None, :, 2:], boxes[None, :, :2] - boxes[:, None, 2:])
        gaps = gaps.max(-1)
        np.fill_diagonal(gaps, np.inf)
        return gaps.min(1)

    spread = room_of(3, objects=(30, 30), points=60_000, noise=0.0)
    crowded = room_of(3, objects=(30, 30), points=60_000, noise=0.0, layout="crowded")
    assert smallest_gap(spread).min() > 0.2
    assert smallest_gap(crowded).max() < TOUCHING - 0.48


@pytest.mark.parametrize("size", [0.2, 0.8])
def test_superpoints_are_as_large_as_asked(size):
    room, usual = (room_of(3, noise=0.0, **options) for options in ({"superpoint_size": size}, {}))
    assert (room.points == usual.points).all() and (room.instance == usual.instance).all()
    extents = [np.ptp(room.points[room.superpoint == n, :3], axis=0) for n in range(room.superpoint.max() + 1)]
    assert np.max(extents) < size + 1e-5
    assert (room.superpoint.max() < usual.superpoint.max()) == (size > 0.3)


def test_walls_have_holes_behind_windows():
    room = room_of(11, objects=(30, 30), points=60_000, noise=0.0)
    windows = np.unique(room.instance[room.semantic == CLASSES.index("window")])
    assert len(windows)
    walls = room.points[room.semantic == CLASSES.index("wall"), :3]
    for window in windows:
        xyz = room.points[room.instance == window, :3]
        inner_low, inner_high = xyz.min(0) + 0.1, xyz.max(0) - 0.1
        thin = np.argmin(np.ptp(xyz, axis=0)[:2])
        near = np.abs(walls[:, thin] - xyz[:, thin].mean()) < 0.1
        other = [axis for axis in range(3) if axis != thin]
        inside = ((walls[near] > inner_low) & (walls[near] < inner_high))[:, other].all(1)
        assert not inside.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objects": (1, 5)}, r"objects must be \(low, high\) with 2 <= low <= high <= 500, got \(1, 5\)"),
        ({"objects": (9, 5)}, r"objects must be .* got \(9, 5\)"),
        ({"points": 100}, r"points=100 is too few for up to 20 objects: at least 416 needed"),
        ({"layout": "maze"}, r"layout must be one of \('spread', 'crowded'\), got 'maze'"),
        ({"noise": 3.0}, r"noise is a standard deviation in metres within 0 to 0.1, got 3.0"),
        ({"superpoint_size": 0.0}, r"superpoint_size is the side of a cell in metres within 0.05 to 10, got 0.0"),
    ],
)
def test_make_room_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        room_of(**options)


def test_s3dis_files(tmp_path):
    (infos,) = write_s3dis(tmp_path, areas=[5], rooms_per_area=2, seed=7, points_per_room=3_000, objects=(10, 12))
    assert infos == tmp_path / "s3dis_infos_Area_5.pkl"
    content = pickle.loads(infos.read_bytes())
    assert content["metainfo"]["info_version"] == "1.1"
    assert len(content["data_list"]) == 2
    for info in content["data_list"]:
        name = info["lidar_points"]["lidar_path"]
        points = np.fromfile(tmp_path / "points" / name, np.float32).reshape(-1, 6)
        instance = np.fromfile(tmp_path / "instance_mask" / info["pts_instance_mask_path"], np.int64)
        semantic = np.fromfile(tmp_path / "semantic_mask" / info["pts_semantic_mask_path"], np.int64)
        assert len(points) == len(instance) == len(semantic) == 3_000
        assert info["instances"]
        for entry in info["instances"]:
            centre, size = np.split(np.array(entry["bbox_3d"]), 2)
            label = CLASSES.index(synthetic.FURNITURE[entry["bbox_label_3d"]])
            inside = (np.abs(points[:, :3] - centre) <= size / 2 + 1e-5).all(1)
            assert (semantic[inside] == label).sum() >= 8
    assert not list(tmp_path.rglob("*.part"))


def test_rooms_do_not_depend_on_what_else_is_written(tmp_path):
    options = {"seed": 3, "points_per_room": 1_000, "objects": (5, 6)}
    write_s3dis(tmp_path / "all", areas=[1, 2], rooms_per_area=2, **options)
    write_s3dis(tmp_path / "one", areas=[2], rooms_per_area=1, **options)
    name = "points/Area_2_room_1.bin"
    assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    other = (tmp_path / "all" / "points" / "Area_1_room_1.bin").read_bytes()
    assert other != (tmp_path / "all" / name).read_bytes()


def test_scannet_files(tmp_path):
    (infos,) = write_scannet(
        tmp_path, scenes={"val": 1}, seed=1, points_per_scene=3_000, objects=(10, 12), unlabelled=0.2
    )
    assert infos == tmp_path / "scannet_oneformer3d_infos_val.pkl"
    (info,) = pickle.loads(infos.read_bytes())["data_list"]
    read = {
        kind: np.fromfile(tmp_path / kind / info[key], np.int64)
        for kind, key in [
            ("instance_mask", "pts_instance_mask_path"),
            ("semantic_mask", "pts_semantic_mask_path"),
            ("super_points", "super_pts_path"),
        ]
    }
    assert {len(values) for values in read.values()} == {3_000}
    assert set(np.unique(read["semantic_mask"])) <= {0, *synthetic.SCANNET_IDS.values()}
    unlabelled = read["semantic_mask"] == 0
    assert 0.1 < unlabelled.mean() < 0.35
    assert (unlabelled == (read["instance_mask"] == 0)).all()
    assert np.unique(read["super_points"]).tolist() == list(range(read["super_points"].max() + 1))
    assert np.array(info["axis_align_matrix"]).tolist() == np.eye(4).tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda root: write_s3dis(root, areas=[], rooms_per_area=1, seed=0),
            "at least one area and none twice",
        ),
        (lambda root: write_s3dis(root, areas=[1, 1], rooms_per_area=1, seed=0), "none twice, got"),
        (
            lambda root: write_s3dis(root, areas=[1], rooms_per_area=0, seed=0),
            "rooms_per_area must be at least 1",
        ),
        (lambda root: write_s3dis(root, areas=[1], rooms_per_area=1, seed=-1), "seed must not be negative"),
        (lambda root: write_scannet(root, scenes={"all": 1}, seed=0), "scenes maps .* got {'all': 1}"),
        (lambda root: write_scannet(root, scenes={}, seed=0), "scenes is empty"),
        (
            lambda root: write_scannet(root, scenes={"val": 1}, seed=0, unlabelled=1.0),
            "unlabelled is a share",
        ),
    ],
)
def test_writers_refuse(tmp_path, call, message):
    with pytest.raises(ValueError, match=message):
        call(tmp_path)
    assert not list(tmp_path.rglob("*.*"))


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("influencer_mmdet3d.files.os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_s3dis(tmp_path, areas=[1], rooms_per_area=1, seed=0, points_per_room=1_000, objects=(5, 6))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_boxes_are_tight_and_rows_have_six_numbers(tmp_path):
    (infos,) = write_s3dis(tmp_path, areas=[2], rooms_per_area=1, seed=1, points_per_room=3_000, objects=(10, 12))
    (info,) = pickle.loads(infos.read_bytes())["data_list"]
    assert info["lidar_points"]["num_pts_feats"] == 6
    name = info["lidar_points"]["lidar_path"]
    xyz = np.fromfile(tmp_path / "points" / name, np.float32).reshape(-1, 6)[:, :3]
    instance = np.fromfile(tmp_path / "instance_mask" / name, np.int64)
    corners = [
        [*xyz[instance == k].min(0).astype(float), *xyz[instance == k].max(0).astype(float)]
        for k in np.unique(instance)
    ]
    for box in info["instances"]:
        centre, size = np.split(np.array(box["bbox_3d"]), 2)
        distance = np.abs(np.array(corners) - [*(centre - size / 2), *(centre + size / 2)]).max(1)
        assert distance.min() < 1e-6


def test_the_two_formats_never_share_a_room(tmp_path):
    """The validation split and area 1 are both number 1 of their kind."""
    options = {"seed": 5, "objects": (5, 6)}
    write_s3dis(tmp_path / "a", areas=[0, 1], rooms_per_area=1, points_per_room=1_000, **options)
    write_scannet(tmp_path / "b", scenes={"train": 1, "val": 1}, points_per_scene=1_000, **options)
    contents = [path.read_bytes() for path in sorted((tmp_path).glob("*/points/*.bin"))]
    assert len(contents) == 4 == len(set(contents))


def test_a_progress_bar_ends_at_its_total(tmp_path, monkeypatch):
    bars = []

    class Bar:
        def __init__(self, total, quiet, **_):
            self.total, self.quiet, self.count = total, quiet, 0
            bars.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self):
            self.count += 1

    monkeypatch.setattr(synthetic, "progress", Bar)
    write_s3dis(tmp_path / "a", areas=[1, 2, 3], rooms_per_area=2, seed=0, points_per_room=600, objects=(2, 3))
    write_scannet(tmp_path / "b", scenes={"train": 2, "val": 3}, seed=0, points_per_scene=600, objects=(2, 3))
    assert [(bar.count, bar.total, bar.quiet) for bar in bars] == [(6, 6, False), (5, 5, False)]


def test_a_few_points_have_no_label_unless_said_otherwise(tmp_path):
    write_scannet(tmp_path, scenes={"val": 1}, seed=2, points_per_scene=20_000)
    (path,) = (tmp_path / "semantic_mask").iterdir()
    assert 0 < (np.fromfile(path, np.int64) == 0).mean() < 0.1


@pytest.mark.parametrize(
    "options", [{"scenes": {"val": 0}}, {"scenes": {"val": -1}}, {"scenes": {"val": 1}, "unlabelled": -0.5}]
)
def test_scannet_counts_and_shares(tmp_path, options):
    with pytest.raises(ValueError, match="positive number of scenes|unlabelled is a share within 0 and 1, got -0.5"):
        write_scannet(tmp_path, seed=0, **options)
