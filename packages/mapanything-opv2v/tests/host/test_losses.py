"""The losses in the real host: its strings, its classes, its model."""

from __future__ import annotations

import json

import pytest
import torch
from mapanything_opv2v import losses as core
from omegaconf import OmegaConf

LOSSES = (
    "opv2v_loss",
    "opv2v_rel_pose_loss",
    "opv2v_depth_loss",
    "opv2v_agreement_loss",
    "opv2v_scale_distillation_loss",
)
GEOMETRY = "FactoredGeometryScaleRegr3DPlusNormalGMLoss"
ROBUST = "RobustRegressionLoss(alpha=0.5, scaling_c=0.05)"


@pytest.fixture(scope="module")
def make(compose_tiny):
    """Return a function that evaluates a criterion string where the host does."""
    import mapanything.train.training as training

    return lambda text: eval(text, vars(training))


@pytest.fixture(scope="module")
def batches(datasets, small_town):
    """A batch of pinhole views and one of panoramas, several vehicles each."""

    def batch(name, size, views):
        dataset = getattr(datasets, name)(
            ROOT=small_town.root,
            depth_root=small_town.depth_root,
            split="train",
            num_views=views,
            resolution=size,
            seed=1,
            transform="imgnorm",
            data_norm_type="croco",
        )
        return torch.utils.data.default_collate([dataset[0], dataset[1]])

    return {
        "pinhole": batch("OPV2VCoopDataset", (56, 42), 4),
        "panorama": batch("OPV2VCoopCylindricalDataset", (112, 28), 3),
    }


@pytest.fixture(scope="module")
def model(compose_tiny):
    """The tiny real model, with weights that differ from view to view."""
    from mapanything.models import init_model

    config = compose_tiny("loss=opv2v_loss").model
    torch.manual_seed(3)
    return init_model(config.model_str, config.model_config)


@pytest.fixture(scope="module")
def predictions(model, batches):
    return {name: model(batch) for name, batch in batches.items()}


def at_random(batch, seed):
    """Return predictions for a batch that depend on nothing."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for view in batch:
        shape = view["valid_mask"].shape
        rays = torch.nn.functional.normalize(torch.randn(*shape, 3, generator=generator), dim=-1)
        range_ = 20 * torch.rand(*shape, 1, generator=generator)
        made.append(
            {
                "pts3d": 10 * torch.randn(*shape, 3, generator=generator),
                "pts3d_cam": rays * range_,
                "ray_directions": rays,
                "depth_along_ray": range_,
                "cam_trans": torch.randn(shape[0], 3, generator=generator),
                "cam_quats": torch.nn.functional.normalize(torch.randn(shape[0], 4, generator=generator), dim=-1),
                "metric_scaling_factor": 1 + torch.rand(shape[0], 1, generator=generator),
                "conf": 1 + torch.rand(shape, generator=generator),
                "non_ambiguous_mask_logits": torch.randn(shape, generator=generator),
            }
        )
    return made


def perfect(batch):
    """Return the truth in the form of predictions."""
    first = batch[0]["camera_pose"].double()
    made = []
    for view in batch:
        T = torch.linalg.inv(first) @ view["camera_pose"].double()
        points = torch.einsum("bij,bhwj->bhwi", T[:, :3, :3], view["pts3d_cam"].double()) + T[:, None, None, :3, 3]
        made.append(
            {
                "pts3d": points.float(),
                "pts3d_cam": view["pts3d_cam"],
                "ray_directions": view["ray_directions_cam"],
                "depth_along_ray": view["depth_along_ray"],
                "cam_trans": T[:, :3, 3].float(),
                "cam_quats": quaternions(T[:, :3, :3]),
                "metric_scaling_factor": torch.ones(len(T), 1),
            }
        )
    return made


def quaternions(rotations):
    from scipy.spatial.transform import Rotation

    return torch.from_numpy(Rotation.from_matrix(rotations.numpy()).as_quat()).float()


@pytest.mark.parametrize("kind", ["pinhole", "panorama"])
def test_the_unweighted_mask_loss_is_the_hosts(make, batches, predictions, kind):
    for preds in (predictions[kind], at_random(batches[kind], 5)):
        known = [{**view, "valid_mask": view["non_ambiguous_mask"]} for view in batches[kind]]  # no pixel is left out
        ours, _ = make("0.3 * OPV2VNonAmbiguousMaskLoss()")(known, preds)
        host, _ = make("0.3 * NonAmbiguousMaskLoss(BCELoss())")(batches[kind], preds)
        assert torch.isclose(ours, host, rtol=1e-6)


WRAPPED = (
    "{}",
    "ConfAndExcludeTopNPercentPixelLoss({}, conf_loss_set_indices=[0], exclude_loss_set_indices=[1, 2])",
    "ExcludeTopNPercentPixelLoss({}, top_n_percent=5, apply_to_real_data_only=False, loss_set_indices=[0, 1, 2])",
)


@pytest.mark.parametrize("wrapped", WRAPPED, ids=["alone", "training", "testing"])
@pytest.mark.parametrize("options", ["gm_loss_weight=3.0", "depth_type_for_loss='depth_z', norm_predictions=False"])
def test_pinhole_views_have_the_hosts_loss_exactly(make, batches, predictions, wrapped, options):
    flat = "" if wrapped == "{}" else ", flatten_across_image_only=True"
    ours, host = (make(wrapped.format(f"{name}({ROBUST}, {options}{flat})")) for name in (f"OPV2V{GEOMETRY}", GEOMETRY))
    batch = batches["pinhole"]
    for preds in (predictions["pinhole"], *(at_random(batch, seed) for seed in range(3))):
        (a, details_a), (b, details_b) = ours(batch, preds), host(batch, preds)
        assert torch.equal(a, b)
        assert {name.replace("OPV2V", ""): value for name, value in details_a.items()} == details_b


def test_without_a_panorama_gradient_matching_is_the_hosts():
    from mapanything.train.losses import compute_gradient_matching_loss
    from mapanything.utils.geometry import apply_log_to_norm

    generator = torch.Generator().manual_seed(0)
    no = torch.zeros(3, dtype=torch.bool)
    for size in ((28, 56), (13, 30), (8, 8)):
        points = torch.randn(2, 3, *size, 3, generator=generator) * 30
        mask = torch.rand(3, *size, generator=generator) < 0.6
        ours = core.gradient_matching(*(core.log_depth(item, no) for item in points), mask, no)
        host = compute_gradient_matching_loss(*(apply_log_to_norm(item[..., 2:]) for item in points), mask)
        assert torch.isclose(ours, host, rtol=1e-6)


def test_on_panoramas_only_gradient_matching_differs(make, batches, predictions):
    options = f"{ROBUST}, flatten_across_image_only=True, gm_loss_weight=3.0"
    batch, preds = batches["panorama"], predictions["panorama"]
    ours, host = (make(f"{name}({options})").with_reduction("none") for name in (f"OPV2V{GEOMETRY}", GEOMETRY))
    (ours, details), (host, _) = ours.compute_loss(batch, preds), host.compute_loss(batch, preds)
    assert [name for *_, name in ours] == [name for *_, name in host]
    for (a, _, name), (b, _, _) in zip(ours, host):
        assert torch.equal(a, b) == (name != "gradient_matching"), name
    values = [float(loss.detach()) for loss, _, name in ours if name == "gradient_matching"]
    assert details[f"OPV2V{GEOMETRY}_gradient_matching_avg"] == pytest.approx(sum(values) / len(values))


def test_on_panoramas_the_truth_has_no_loss_where_the_hosts_has_none_either(make, batches):
    batch = batches["panorama"]
    options = f"{ROBUST}, flatten_across_image_only=True, gm_loss_weight=3.0, normal_loss_weight=0"
    terms, _ = make(f"OPV2V{GEOMETRY}({options})").with_reduction("none").compute_loss(batch, perfect(batch))
    assert all(term[0].abs() < 1e-4 for term in terms if term[-1] == "gradient_matching")


def test_relative_poses_weigh_three_times_as_much(make, compose_tiny, batches, predictions):
    """Of the training loss's pixel part: pose terms are three times those of weight 1, the others the same."""
    text = compose_tiny("loss=opv2v_rel_pose_loss").loss.train_criterion
    heavy = make(text).pixel_loss
    light = make(
        text.replace("_quats_loss_weight=3.0", "_quats_loss_weight=1").replace(
            "_trans_loss_weight=3.0", "_trans_loss_weight=1"
        )
    ).pixel_loss
    batch, preds = batches["panorama"], predictions["panorama"]
    heavy, light = (item.compute_loss(batch, preds)[0] for item in (heavy, light))
    for (a, _, name), (b, _, _) in zip(heavy, light):
        if name in ("pose_quats", "pose_trans"):
            assert torch.allclose(a, 3 * b) and len(a) == 2 * 3  # of 2 samples: absolute, and to each of 2 others
        else:
            assert torch.equal(a, b)


@pytest.mark.parametrize("kind", ["pinhole", "panorama"])
def test_the_truth_agrees_with_itself(make, batches, kind):
    """What several vehicles see falls onto the same surfaces, until a vehicle is moved by half a metre."""
    loss = make("OPV2VAgentAgreementLoss()")
    batch = [{**view, "non_ambiguous_mask": view["non_ambiguous_mask"] & view["valid_mask"]} for view in batches[kind]]
    true, details = loss(batch, perfect(batch))
    moved = perfect(batch)
    for view, pred in zip(batch, moved):
        away = (view["agent_index"] != 0).float()[:, None] * torch.tensor([0.0, 0.0, 0.5])
        pred["cam_trans"], pred["pts3d"] = pred["cam_trans"] + away, pred["pts3d"] + away[:, None, None]
    worse, _ = loss(batch, moved)
    assert details["agreement_shared_ratio"] > 0.02 and true < 0.1 * len(batch), details
    assert true < 0.75 * worse, (true, worse)


def test_the_truth_has_no_depth_loss(make, batches):
    for batch in batches.values():
        loss, _ = make("OPV2VMaskedDepthLoss()")(batch, perfect(batch))
        assert loss == 0


@pytest.fixture(scope="module")
def teacher(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "teacher.pth"
    torch.save({"model": model.state_dict()}, path)
    return path


@pytest.mark.parametrize("kind", ["pinhole", "panorama"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_config_trains_the_real_model(make, compose_tiny, batches, model, teacher, name, kind):
    options = (f"loss.opv2v.teacher.checkpoint={teacher}", "loss.opv2v.teacher.amp_dtype=fp32")
    config = compose_tiny(f"loss={name}", *options).loss
    train, test = make(config.train_criterion), make(config.test_criterion)
    model.zero_grad()
    preds = model(batches[kind])
    loss, details = train(batches[kind], preds)
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert torch.isfinite(loss) and all(torch.isfinite(gradient).all() for gradient in gradients)
    assert sum(gradient.abs().sum() for gradient in gradients) > 0
    assert all(isinstance(value, float) for value in details.values())
    with torch.no_grad():
        loss, details = test(batches[kind], preds)
    assert torch.isfinite(loss) and {"pred_mask_mean", "gt_mask_mean", "valid_mask_ratio"} <= set(details)


def test_the_scale_follows_the_teacher(make, compose_tiny, batches, model, teacher):
    """The model against itself has no loss; e times its scale has a loss of 1, for the scale head only."""
    config = compose_tiny("loss=opv2v_scale_distillation_loss", f"loss.opv2v.teacher.checkpoint={teacher}").loss
    loss = make(config.train_criterion)._loss2._loss2
    loss.teacher.dtype = torch.float32
    model.eval()
    model.zero_grad()
    batch = batches["panorama"]
    preds = model(batch)
    assert loss(batch, preds)[0].abs() < 1e-5
    grown = [{**pred, "metric_scaling_factor": pred["metric_scaling_factor"] * torch.e} for pred in preds]
    for pred in grown:
        pred["pts3d"] = pred["pts3d"] * torch.e
    value, details = loss(batch, grown)
    assert value.item() == pytest.approx(0.5, rel=1e-4)  # the config's weight
    assert details["scale_student_to_teacher"] == pytest.approx(torch.e, rel=1e-4)
    value.backward()
    with_gradient = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(name.startswith("scale_head") for name in with_gradient)
    assert not any(name.startswith(("dense_head", "pose_head", "dpt")) for name in with_gradient)
    model.train()


def test_the_teacher_goes_where_the_criterion_goes(make, compose_tiny, teacher):
    """`eval(criterion).to(device)`, as the host does it; a precision stands in for a device here."""
    config = compose_tiny("loss=opv2v_scale_distillation_loss", f"loss.opv2v.teacher.checkpoint={teacher}").loss
    criterion = make(config.train_criterion).to(torch.float64)
    parameters = list(criterion._loss2._loss2.teacher.parameters())
    assert parameters and all(item.dtype == torch.float64 and not item.requires_grad for item in parameters)
    assert all(any(item is other for other in criterion.parameters()) for item in parameters[:3])


def test_a_real_run_logs_the_masks_and_keeps_the_teacher_out(train, tmp_path, make, compose_tiny, model, teacher):
    """The host's own script: shares in console, log.txt and TensorBoard; no teacher in optimizer or checkpoint."""
    run_dir = tmp_path / "run"
    done = train(
        "opv2v_cyl_coop_ft",
        run_dir,
        'dataset.resolution_train="(112,28)"',
        "dataset.opv2v.train.samples_per_epoch=4",
        "dataset.opv2v.val.max_scenes=2",
        "train_params.max_num_of_imgs_per_gpu=4",
        "train_params.warmup_epochs=0.5",
        "train_params.epochs=1",
        "train_params.print_freq=1",
        "loss=opv2v_scale_distillation_loss",
        f"loss.opv2v.teacher.checkpoint={teacher}",
        "loss.opv2v.teacher.amp_dtype=fp32",
    )
    console = done.stdout + done.stderr
    assert done.returncode == 0, console[-4000:]
    line = json.loads((run_dir / "log.txt").read_text().splitlines()[-1])
    scalars = tensorboard(run_dir)
    for name in ("pred_mask_mean", "gt_mask_mean", "valid_mask_ratio"):
        assert f"{name}: " in console
        assert 0 < line[f"train_{name}"] < 1 and 0 < line[f"OPV2VCoopCylindricalDataset_validate_{name}_avg"] < 1
        assert {f"train_{name}", f"OPV2VCoopCylindricalDataset_validate_{name}_avg"} <= scalars
    assert line["train_OPV2VScaleDistillationLoss"] >= 0
    checkpoint = torch.load(run_dir / "checkpoint-last.pth", weights_only=False)
    assert set(checkpoint["model"]) == set(model.state_dict())
    trained = sum(len(group["params"]) for group in checkpoint["optimizer"]["param_groups"])
    assert trained == len(list(model.parameters()))
    config = OmegaConf.to_container(compose_tiny().model.model_config, resolve=True)
    again = make("OPV2VTeacher")(
        checkpoint=run_dir / "checkpoint-last.pth", model_str="mapanything", model_config=config
    )  # what a run wrote can be the next run's teacher
    assert torch.equal(again.model.scale_token, checkpoint["model"]["scale_token"])


def tensorboard(run_dir):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_dir))
    events.Reload()
    return set(events.Tags()["scalars"])
