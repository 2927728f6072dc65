"""What the real model sees and says: no truth, the host's own numbers, the metric scale once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mapanything_opv2v.predictions import FrameMeta
from torch.utils.data import default_collate

DATA = {
    "pinhole": ("OPV2VCoopDataset", {"num_views": 3, "resolution": (56, 42)}),
    "panorama": ("OPV2VCoopCylindricalDataset", {"num_views": 2, "resolution": (112, 28)}),
}
GEOMETRY = ("pts3d", "pts3d_cam", "ray_directions", "depth_along_ray", "cam_trans", "cam_quats")


@pytest.fixture(scope="module")
def inference():
    from mapanything_opv2v.host.models import inference

    return inference


@pytest.fixture(params=DATA)
def batch(request, datasets, small_town, tiny):
    name, options = DATA[request.param]
    dataset = getattr(datasets, name)(
        ROOT=small_town.root,
        depth_root=small_town.depth_root,
        split="test",
        seed=4,
        transform="imgnorm",
        data_norm_type=tiny.data_norm_type,
        **options,
    )
    return default_collate([dataset[0], dataset[1]])


def assert_same(a, b, exactly=True):
    assert len(a) == len(b)
    for view_a, view_b in zip(a, b):
        assert set(view_a) == set(view_b)
        for key, value in view_a.items():
            if exactly:
                assert torch.equal(value, view_b[key]), key
            else:
                torch.testing.assert_close(value, view_b[key], rtol=1e-4, atol=1e-4, msg=key)


class Touched(Exception):
    pass


class Poison:
    """Whoever looks at it in any way is caught."""

    def __getattribute__(self, name):
        raise Touched(name)

    def __getitem__(self, key):
        raise Touched(key)

    def __len__(self):
        raise Touched("len")


def not_a_number(value):
    return torch.full_like(value, torch.nan) if torch.is_tensor(value) and value.is_floating_point() else value


def test_truth_cannot_reach_the_model(inference, tiny, batch):
    """Every key beside the images is replaced by NaN, then by something that must not be touched."""
    clean = inference.predict(tiny.model, batch)
    hidden = set(batch[0]) - set(inference.IMAGE_KEYS)
    assert {"camera_pose", "pts3d", "depth_along_ray", "ray_directions_cam", "camera_pose_quats"} <= hidden
    nan = [{key: not_a_number(value) if key in hidden else value for key, value in view.items()} for view in batch]
    assert_same(clean, inference.predict(tiny.model, nan))
    poison = [{key: Poison() if key in hidden else value for key, value in view.items()} for view in batch]
    assert_same(clean, inference.predict(tiny.model, poison))


def test_a_spy_sees_images_only(inference, tiny, batch, monkeypatch):
    seen = []
    forward = tiny.model.forward
    monkeypatch.setattr(tiny.model, "forward", lambda views, **options: seen.append(views) or forward(views, **options))
    inference.predict(tiny.model, batch)
    inference.predict(tiny.model, batch, ("calibration", "pose"))
    images, more = ({key for view in views for key in view} for views in seen)
    assert images == {"img", "data_norm_type", "agent_index"}
    assert more - images == {"ray_directions_cam", "camera_pose_quats", "camera_pose_trans", "is_metric_scale"}
    # the roles of the frame's four vehicles, not their ids in the data set
    assert all(view["agent_index"].max() < 4 for view in seen[0]) and (seen[0][0]["agent_index"] == 0).all()


@pytest.mark.parametrize("inputs", [("calibration",), ("pose",), ("calibration", "pose", "depth")])
def test_chosen_inputs_change_what_is_predicted(inference, tiny, batch, inputs):
    without, given = inference.predict(tiny.model, batch), inference.predict(tiny.model, batch, inputs)
    assert not torch.equal(without[1]["pts3d"], given[1]["pts3d"])
    assert_same(given, inference.predict(tiny.model, batch, inputs))  # nothing is drawn


def test_the_model_is_left_as_it_was(inference, tiny, batch):
    before = dict(tiny.model.geometric_input_config)
    keys = [dict(view) for view in batch]
    tiny.model.train()
    inference.predict(tiny.model, batch, ("pose",))
    assert tiny.model.training and tiny.model.geometric_input_config == before
    with pytest.raises(KeyError):
        inference.predict(tiny.model, [{"agent_index": view["agent_index"]} for view in batch])
    assert tiny.model.geometric_input_config == before
    tiny.model.eval()
    assert all(view.keys() == old.keys() and all(view[k] is old[k] for k in old) for view, old in zip(batch, keys))


def test_evaluation_predicts_what_training_predicts(inference, tiny, batch, monkeypatch):
    """The same batch through the host's own step, whose views carry all truth, with the inputs' chance at 0."""
    from mapanything.utils.inference import loss_of_one_batch_multi_view

    ours = inference.predict(tiny.model, batch)
    monkeypatch.setitem(tiny.model.geometric_input_config, "overall_prob", 0.0)
    with torch.no_grad():
        step = loss_of_one_batch_multi_view([dict(view) for view in batch], tiny.model, None, torch.device("cpu"))
    assert_same(ours, [step[f"pred{number + 1}"] for number in range(len(batch))])


@pytest.mark.parametrize("inputs", [(), ("calibration", "pose"), ("calibration", "pose", "depth")])
def test_evaluation_predicts_what_infer_predicts(inference, tiny, batch, inputs):
    views = []
    for view in batch:
        given = {"img": view["img"], "data_norm_type": view["data_norm_type"]}
        if "calibration" in inputs:
            calibration = "intrinsics" if "camera_intrinsics" in view else "ray_directions"
            given[calibration] = view["camera_intrinsics" if calibration == "intrinsics" else "ray_directions_cam"]
        if "pose" in inputs:
            given["camera_poses"] = (view["camera_pose_quats"], view["camera_pose_trans"])
        if "depth" in inputs:
            given["depth_z"] = view["pts3d_cam"][..., 2]
        views.append(given)
    theirs = tiny.model.infer(views, use_amp=False, apply_mask=False, memory_efficient_inference=False)
    ours = inference.predict(tiny.model, batch, inputs)
    for a, b in zip(ours, theirs):
        for key in (*GEOMETRY, "metric_scaling_factor", "non_ambiguous_mask"):
            torch.testing.assert_close(a[key], b[key], rtol=1e-4, atol=1e-4, msg=key)


def test_a_file_holds_the_models_points_and_the_hosts_truth(inference, tiny, batch):
    from mapanything_opv2v.geometry import Cylinder

    panorama = "camera_intrinsics" not in batch[0]
    meta = FrameMeta(
        split="test",
        sequence="town",
        frame="1",
        layout="panorama" if panorama else "pinhole",
        agents=(0,),
        cameras=None if panorama else (0,),
        cylinder=Cylinder(112, 28) if panorama else None,
    )
    preds = inference.predict(tiny.model, batch)
    for row in range(2):
        frame = inference.frame_predictions(batch, preds, row, meta, {7: np.zeros((8, 3))})
        assert frame.metric_scale == pytest.approx(float(preds[0]["metric_scaling_factor"][row]), rel=1e-6)
        assert abs(frame.metric_scale - 1) > 1e-3  # so that a factor too many would show
        assert frame.box_ids.tolist() == [7]
        for view, (truth, pred) in enumerate(zip(batch, preds)):
            assert frame.meta.view_name(view) == truth["instance"][row].replace("/", "_")
            points = pred["pts3d"][row].numpy()
            np.testing.assert_allclose(frame.points_world(view), points, rtol=1e-4, atol=1e-4)
            known = truth["valid_mask"][row].numpy()
            assert np.array_equal(frame.range_m_true[view] > 0, known)
            true_points = truth["pts3d"][row].numpy()
            np.testing.assert_allclose(frame.points_world_true(view)[known], true_points[known], atol=2e-3)
            assert np.array_equal(frame.mask_true[view], truth["non_ambiguous_mask"][row].numpy())
            assert np.array_equal(frame.mask[view], pred["non_ambiguous_mask"][row].numpy())
            assert frame.image[view].std() > 5


def test_what_cannot_be_predicted(inference, tiny, batch):
    with pytest.raises(ValueError, match=r"inputs \['lidar'\]: expected some of calibration, pose, depth"):
        inference.predict(tiny.model, batch, ("lidar",))
    with pytest.raises(ValueError, match="depth needs calibration"):
        inference.predict(tiny.model, batch, ("depth",))
    with pytest.raises(ValueError, match="precision='int8': expected one of fp32, bf16, fp16"):
        inference.predict(tiny.model, batch, precision="int8")
    with pytest.raises(ValueError, match="inputs pose: Linear takes images only; leave --inputs out"):
        inference.predict(torch.nn.Linear(1, 1), batch, ("pose",))
    demanding = torch.nn.Linear(1, 1)
    demanding.forward = lambda views: (_ for _ in ()).throw(AssertionError("needs 9 views"))
    with pytest.raises(ValueError, match=r"Linear does not take these \d views of .*: needs 9 views"):
        inference.predict(demanding, batch)
    meta = FrameMeta(split="a", sequence="b", frame="c", layout="pinhole", agents=(0,), cameras=(0,))
    with pytest.raises(ValueError, match="the model predicts no ranges in its views' own axes .it has pts3d."):
        inference.frame_predictions(batch, [{"pts3d": None}], 0, meta)
    with pytest.raises(ValueError, match="views are called .*'front'"):
        preds = inference.predict(tiny.model, batch)
        inference.frame_predictions([{**view, "instance": ["front"]} for view in batch], preds, 0, meta)


def test_models_that_predict_less(inference, tiny, batch):
    """Points only are rays and ranges; one view needs no pose, several do; no scale is none, unless it is told."""
    meta = FrameMeta(split="a", sequence="b", frame="c", layout="pinhole", agents=(0,), cameras=(0,))
    views = [{**view, "instance": [f"agent0/camera{k}"] * 2} for k, view in enumerate(batch)]
    views = [{key: view[key] for key in ("img", "data_norm_type", "instance")} for view in views]
    whole = inference.predict(tiny.model, batch)
    points = [{"pts3d_cam": pred["pts3d_cam"], "conf": pred["conf"]} for pred in whole]
    single = inference.frame_predictions(views[:1], points[:1], 1, meta)
    assert single.metric_scale is None and np.array_equal(single.pose_world_cam_pred, np.eye(4)[None])
    np.testing.assert_allclose(single.points_cam(0), points[0]["pts3d_cam"][1].numpy(), rtol=1e-4, atol=1e-4)
    told = inference.frame_predictions(views[:1], points[:1], 1, meta, is_metric=True)
    assert told.metric_scale == 1.0
    with pytest.raises(ValueError, match="predicts no poses .*give it one view, --num-views 1"):
        inference.frame_predictions(views, points, 1, meta)


def test_wrappers_of_other_projects_see_names_that_say_nothing(inference, batch):
    seen = inference.visible(batch, ("pose",), "cpu", external=True)
    allowed = {"img", "data_norm_type", "agent_index", "camera_pose", "label", "instance"}
    assert all(set(view) == allowed for view in seen)
    assert [view["instance"] for view in seen] == [[str(k)] * 2 for k in range(len(batch))]
    if "camera_intrinsics" in batch[0]:
        assert "camera_intrinsics" in inference.visible(batch, ("calibration",), "cpu", external=True)[0]
    else:
        with pytest.raises(ValueError, match="intrinsics, which panoramas do not have"):
            inference.visible(batch, ("calibration",), "cpu", external=True)
