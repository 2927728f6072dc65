from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.predictions import (
    FrameMeta,
    FramePredictions,
    list_predictions,
    load_predictions,
    predictions_path,
    save_predictions,
)


def pose(x=0.0, y=0.0, z=0.0):
    T = np.eye(4)
    T[:3, 3] = x, y, z
    return T


def make(**changes):
    """Two 2 x 3 pinhole views, everything 2 m away along a straight ray; view 1 stands 1 m to the right."""
    rays = np.zeros((2, 2, 3, 3), dtype=np.float32)
    rays[..., 2] = 1
    values = {
        "meta": FrameMeta(
            split="test", sequence="town", frame="000069", layout="pinhole", agents=(641, 7), cameras=(0, 3)
        ),
        "image": np.arange(36, dtype=np.uint8).reshape(2, 2, 3, 3),
        "range_m": np.full((2, 2, 3), 2, dtype=np.float32),
        "rays": rays,
        "mask": np.ones((2, 2, 3), dtype=bool),
        "pose_world_cam_pred": np.stack([pose(), pose(x=1)]),
        "metric_scale": 1.5,
        **changes,
    }
    return FramePredictions(**values)


TRUTH = {
    "range_m_true": np.full((2, 2, 3), 5, dtype=np.float32),
    "mask_true": np.zeros((2, 2, 3), dtype=bool),
    "pose_world_cam_true": np.stack([pose(z=10), pose(z=20)]),
    "intrinsics_true": np.stack([np.array([[1.0, 0, 1], [0, 1, 0], [0, 0, 1]])] * 2),
    "boxes_world_true": np.ones((1, 8, 3)),
    "box_ids": np.array([99]),
    "confidence": np.ones((2, 2, 3), dtype=np.float32),
}


def test_points_of_a_hand_made_frame():
    frame = make()
    assert frame.points_cam(1).tolist() == [[[0, 0, 2]] * 3] * 2
    assert frame.points_world(1).tolist() == [[[1, 0, 2]] * 3] * 2
    assert (frame.depth_z_m == 2).all() and frame.views == 2
    assert frame.rays_true(0) is None and frame.points_world_true(0) is None


def test_true_points_use_true_rays_ranges_and_poses():
    frame = make(**TRUTH)
    # column 1, row 0 is the principal point: straight ahead, 5 m, from a camera 20 m along z
    assert frame.points_world_true(1)[0, 1].tolist() == [0, 0, 25]
    # column 2, row 1 looks along (1, 1, 1) / sqrt(3)
    np.testing.assert_allclose(frame.points_world_true(0)[1, 2], [5 / 3**0.5, 5 / 3**0.5, 10 + 5 / 3**0.5])


@pytest.mark.parametrize("truth", [{}, TRUTH], ids=["prediction only", "with truth"])
def test_a_file_holds_what_was_written(tmp_path, truth):
    frame = make(**truth)
    path = save_predictions(tmp_path, frame)
    assert path == predictions_path(tmp_path, frame.meta) == tmp_path / "test" / "town" / "000069_agent641.npz"
    back = load_predictions(path)
    assert back.meta == frame.meta and back.metric_scale == 1.5
    for field in dataclasses.fields(frame):
        if field.name not in ("meta", "metric_scale"):
            a, b = getattr(frame, field.name), getattr(back, field.name)
            assert (a is None) == (b is None)
            assert a is None or (a.dtype == b.dtype and np.array_equal(a, b)), field.name
    assert list_predictions(tmp_path) == [path]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_panorama_knows_its_rays(tmp_path):
    cylinder = Cylinder(3, 2, 60.0)
    meta = FrameMeta(split="test", sequence="town", frame="1", layout="panorama", agents=(5, -1), cylinder=cylinder)
    back = load_predictions(save_predictions(tmp_path, make(meta=meta)))
    assert back.meta == meta and back.meta.view_name(1) == "agent-1_panorama"
    np.testing.assert_array_equal(back.rays_true(0), cylinder.rays())


def test_names_of_views():
    assert make().meta.view_name(1) == "agent7_camera3"
    assert make().meta.name == "test/town/000069_agent641"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"range_m": np.zeros((2, 2, 3))}, r"range_m: got float64 \(2, 2, 3\), expected float32"),
        ({"range_m": np.zeros(3, np.float32)}, r"image: got uint8 \(2, 2, 3, 3\), expected uint8 \(0, 0, 0, 3\)"),
        ({"mask": np.ones((2, 3, 2), bool)}, r"mask: got bool \(2, 3, 2\), expected bool \(2, 2, 3\)"),
        ({"mask": None}, "mask: got NoneType"),
        ({"range_m": np.full((2, 2, 3), np.nan, np.float32)}, "range_m: 12 values are not finite"),
        ({"range_m": np.full((2, 2, 3), -1, np.float32)}, "range_m: lowest value -1.0 m"),
        ({"rays": np.zeros((2, 2, 3, 3), np.float32)}, "rays: a length differs from 1 by 1"),
        ({"pose_world_cam_pred": np.stack([np.eye(4), 2 * np.eye(4)])}, "pose_world_cam_pred of view 1"),
        ({"metric_scale": 0.0}, "metric_scale=0.0: expected a positive number"),
        ({"box_ids": np.array([1])}, "boxes_world_true and box_ids"),
    ],
)
def test_wrong_arrays_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


GOOD = {"split": "a", "sequence": "b", "frame": "c", "layout": "pinhole", "agents": (1,), "cameras": (0,)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sequence": "../etc"}, "meta sequence='../etc': expected a plain name"),
        ({"frame": ".."}, "meta frame='..'"),
        ({"layout": "fisheye"}, "meta layout='fisheye': expected one of pinhole, panorama"),
        ({"layout": "panorama"}, "panoramas have a cylinder and no cameras"),
        ({"cameras": (0, 1)}, "1 agents and 2 cameras"),
        ({"inputs": ("lidar",)}, r"meta inputs: unknown \['lidar'\]; known: calibration, pose, depth"),
    ],
)
def test_wrong_metadata_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        FrameMeta(**{**GOOD, **changes})


def test_views_agents_and_cylinder_belong_together():
    with pytest.raises(ValueError, match="meta names 1 agents, the arrays have 2 views"):
        make(meta=FrameMeta(**GOOD))
    panorama = {**GOOD, "layout": "panorama", "cameras": None, "agents": (1, 2)}
    with pytest.raises(ValueError, match="meta cylinder is 8 x 2, the views are"):
        make(meta=FrameMeta(**{**panorama, "cylinder": Cylinder(8, 2)}))
    with pytest.raises(ValueError, match="intrinsics_true: panoramas have none"):
        make(
            meta=FrameMeta(**{**panorama, "cylinder": Cylinder(3, 2)}),
            intrinsics_true=TRUTH["intrinsics_true"],
        )


def test_files_that_are_none(tmp_path):
    def refuse(path, message):
        with pytest.raises(ValueError, match=message) as caught:
            load_predictions(path)
        assert str(path) in str(caught.value)

    text = tmp_path / "text.npz"
    text.write_text("nothing")
    refuse(text, "no predictions of a frame")
    (tmp_path / "empty.npz").touch()
    refuse(tmp_path / "empty.npz", "no predictions of a frame")
    np.save(tmp_path / "single.npy", np.zeros(3))
    refuse(tmp_path / "single.npy", "a single array")

    good = save_predictions(tmp_path, make())
    truncated = tmp_path / "truncated.npz"
    truncated.write_bytes(good.read_bytes()[:-100])
    refuse(truncated, "no predictions of a frame")
    with np.load(good) as archive:
        arrays = dict(archive)
    np.savez(tmp_path / "less.npz", **{k: v for k, v in arrays.items() if k != "mask"})
    refuse(tmp_path / "less.npz", r"arrays \['mask'\] are missing or unknown")
    np.savez(tmp_path / "more.npz", **arrays, depth=np.zeros(1))
    refuse(tmp_path / "more.npz", r"arrays \['depth'\] are missing or unknown")
    pickled = {**arrays, "mask": np.array([{}], dtype=object)}
    np.savez(tmp_path / "pickled.npz", **pickled)
    refuse(tmp_path / "pickled.npz", "an array of Python objects, which are never unpickled")
    old = {**json.loads(str(arrays["meta"])), "format": 0}
    np.savez(tmp_path / "old.npz", **{**arrays, "meta": np.array(json.dumps(old))})
    refuse(tmp_path / "old.npz", "meta: expected format 1")
    odd = {**json.loads(str(arrays["meta"])), "colour": 1}
    np.savez(tmp_path / "odd.npz", **{**arrays, "meta": np.array(json.dumps(odd))})
    refuse(tmp_path / "odd.npz", r"meta: keys \['colour'\]")
