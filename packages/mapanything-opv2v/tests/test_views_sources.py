"""Frames from the raw tree and from files of predictions."""

import re
import shutil

import numpy as np
import pytest
from mapanything_opv2v import geometry, rawdata
from mapanything_opv2v.rawdata import boxes
from mapanything_opv2v.views.frame import view_cloud
from mapanything_opv2v.views.sources import RawOptions, load_frame, load_predicted_frame, load_raw_frame


@pytest.fixture
def raw(small_town, town_yaml):
    def load(**options):
        return load_raw_frame(town_yaml, RawOptions(depth_root=small_town.depth_root, **options))

    return load


def test_all_agents_of_the_frame_the_yamls_own_first(raw, small_town, town_yaml):
    frame = raw()
    own = int(town_yaml.parent.name)
    assert frame.agents == [own, *sorted(set(small_town.agents) - {own})]
    assert [view.name for view in frame.views[:4]] == ["camera0", "camera1", "camera2", "camera3"]
    assert len(frame.views) == 16 and not frame.predicted
    assert frame.name == f"test/{small_town.sequences[0]}/{small_town.frames[0]}"
    chosen = raw(agents=small_town.agents[::-1][:2], camera_ids=[3])
    assert chosen.agents == list(small_town.agents[::-1][:2]) and len(chosen.views) == 2


def test_views_are_the_files(raw, town_yaml):
    view, meta = raw().views[1], rawdata.load_agent_yaml(town_yaml)
    record = rawdata.agent_beside(town_yaml)
    assert np.array_equal(view.image, rawdata.load_image(record.camera_paths[1]))
    assert np.array_equal(view.true.T_world_cam, geometry.T_world_cam_opencv(meta.cameras[1].cords))
    assert np.allclose(np.linalg.norm(view.true.rays, axis=-1), 1)
    assert set(view.true.masks) == {"has_range", "sky"}
    assert np.array_equal(view.true.masks["sky"], view.true.range_m == rawdata.SKY)


def test_points_project_back_onto_their_pixels(raw):
    view = raw().views[2]
    points = view_cloud(view, "gt", "gt", 10**6, np.random.default_rng(0)).xyz
    u, v, _ = geometry.project_pinhole(
        view.camera.intrinsic, geometry.transform_points(geometry.invert(view.true.T_world_cam), points)
    )
    rows, columns = np.nonzero(view.true.has_range())
    np.testing.assert_allclose(u, columns, atol=1e-3)
    np.testing.assert_allclose(v, rows, atol=1e-3)


def test_boxes_are_all_agents_vehicles(raw, town_yaml):
    frame, metas = raw(), [rawdata.load_agent_yaml(p) for p in town_yaml.parent.parent.glob(f"*/{town_yaml.name}")]
    assert set(frame.boxes) == set().union(*(meta.vehicles for meta in metas))
    number, vehicle = next(iter(rawdata.load_agent_yaml(town_yaml).vehicles.items()))
    np.testing.assert_allclose(frame.boxes[number], boxes.box_corners(vehicle), atol=1e-9)


def test_sweeps_lie_where_the_depth_maps_say(raw):
    frame = raw(with_sweeps=True)
    agent, cloud = next(iter(frame.sweeps.items()))
    view = frame.views[0]
    assert view.agent_id == agent
    local = geometry.transform_points(geometry.invert(view.true.T_world_cam), cloud.xyz)
    u, v, z = geometry.project_pinhole(view.camera.intrinsic, local)
    with np.errstate(invalid="ignore"):
        inside = (z > 0) & (u > 0) & (v > 0) & (u < view.size_wh[0] - 1) & (v < view.size_wh[1] - 1)
    rows, columns = np.rint(v[inside]).astype(int), np.rint(u[inside]).astype(int)
    seen, expected = np.linalg.norm(local[inside], axis=1), view.true.range_m[rows, columns]
    assert np.median(np.abs(seen - expected) / seen) < 0.03


def test_panorama_layout(raw, small_town):
    frame = raw(layout="panorama", cylinder=geometry.Cylinder(96, 24))
    assert [view.name for view in frame.views] == ["panorama"] * 4
    view = frame.views[0]
    assert view.size_wh == (96, 24) and set(view.true.masks) == {"covered", "has_range", "sky", "filled"}
    assert np.array_equal(view.true.range_m > 0, view.true.masks["has_range"])
    bare = raw(layout="panorama", cylinder=geometry.Cylinder(96, 24), with_depth=False).views[0]
    assert bare.true.range_m is None and list(bare.true.masks) == ["covered"]


def test_a_frame_on_its_own(town_yaml, tmp_path):
    shutil.copytree(town_yaml.parent, tmp_path / "alone")
    frame = load_frame(tmp_path / "alone" / town_yaml.name)
    assert frame.name == f"alone/{town_yaml.stem}" and frame.agents == [0]
    assert frame.views[0].true.range_m is None  # its depth maps are elsewhere


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"agents": [12345]}, "no agents [12345] at this frame; agents there: ["),
        ({"agents": []}, "no agents [] at this frame"),
        ({"camera_ids": [7]}, "no camera7; it has [0, 1, 2, 3]"),
        ({"depth_root": "nowhere"}, "no folder nowhere/test/"),
    ],
)
def test_bad_choices_are_named(town_yaml, options, message):
    from pathlib import Path

    if "depth_root" in options:
        options = {"depth_root": Path(options["depth_root"])}
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)):
        load_raw_frame(town_yaml, RawOptions(**options))


def test_bad_sources_are_named(tmp_path):
    with pytest.raises(ValueError, match="layout='round', expected one of cameras, panorama"):
        RawOptions(layout="round")
    with pytest.raises(ValueError, match=re.escape("expected a file of predictions (.npz) or an agent's YAML (.yaml)")):
        load_frame(tmp_path / "x.txt")
    with pytest.raises(FileNotFoundError, match="no file"):
        load_frame(tmp_path / "1" / "000001.yaml")


def test_predictions_stay_in_the_models_world_and_truth_comes_to_them(town_predictions):
    frame = load_predicted_frame(town_predictions)
    assert frame.predicted and "brought into it by view 0" in frame.world
    assert frame.provenance == {
        "checkpoint": "checkpoint-best.pth",
        "config": "opv2v_coop_ft",
        "commit": "f7ebafb",
        "model saw": "images",
    }
    first, other = frame.views[0], frame.views[3]
    np.testing.assert_allclose(first.pred.T_world_cam, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(first.true.T_world_cam, np.eye(4), atol=1e-9)
    shift = other.pred.T_world_cam[:3, 3] - other.true.T_world_cam[:3, 3]
    np.testing.assert_allclose(shift, (0.5, 0, 0), atol=1e-9)
    assert other.pred.scale == 2.5 and other.label.endswith("camera3")
    known = first.true.has_range()
    np.testing.assert_allclose(first.pred.range_m[known], 1.1 * first.true.range_m[known], rtol=1e-5)


def test_predicted_boxes_lie_on_the_truth(town_predictions, raw):
    predicted, plain = load_predicted_frame(town_predictions), raw()
    T = geometry.invert(plain.views[0].true.T_world_cam)
    number = next(iter(predicted.boxes))
    np.testing.assert_allclose(predicted.boxes[number], geometry.transform_points(T, plain.boxes[number]), atol=1e-6)


def test_predictions_without_truth(town_predictions, tmp_path):
    from dataclasses import replace

    from mapanything_opv2v import predictions

    bare = replace(
        predictions.load_predictions(town_predictions),
        **dict.fromkeys(("range_m_true", "mask_true", "pose_world_cam_true", "intrinsics_true")),
        boxes_world_true=None,
        box_ids=None,
    )
    frame = load_frame(predictions.save_predictions(tmp_path, bare))
    assert frame.boxes == {} and all(view.true is None and view.camera is None for view in frame.views)
    with pytest.raises(ValueError, match="no truth is known of this view"):
        frame.views[0].estimate("gt")
