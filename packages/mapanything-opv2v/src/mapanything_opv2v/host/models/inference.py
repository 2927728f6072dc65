"""The real model on a batch of views: what it may see, what it says, as predictions files hold it.

The model's `forward` takes whatever geometry stands in a view and drops it at random (training's
`geometric_input_config`); its `infer` does not, but takes pinhole cameras only and edits the predicted ranges.
Here views are cut down to what the model may see, the random numbers are switched off, and `forward` predicts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from mapanything.utils.image import rgb
from scipy.spatial.transform import Rotation

from mapanything_opv2v.evaluation.baselines import Truth
from mapanything_opv2v.host.models.outputs import View, confidence_of, poses_of, rays_and_ranges, stack
from mapanything_opv2v.kinds import INPUTS
from mapanything_opv2v.predictions import FrameMeta, FramePredictions

IMAGE_KEYS = ("img", "data_norm_type", "agent_index")
"""What the model always sees: `agent_index` says which views come from one vehicle, and 0 is the main one."""

INPUT_KEYS: Mapping[str, tuple[str, ...]] = {
    "calibration": ("ray_directions_cam",),
    "pose": ("camera_pose_quats", "camera_pose_trans", "is_metric_scale"),
    "depth": ("depth_along_ray", "is_metric_scale"),
}
"""What each input adds, under the host's names."""

_EXTERNAL_KEYS: Mapping[str, tuple[str, ...]] = {
    "calibration": ("camera_intrinsics",),
    "pose": ("camera_pose",),
    "depth": ("depthmap",),
}
"""The same for the host's wrappers of other projects' models (Pi3X, DA3, Pow3R), where they take any."""

_EXTERNAL = "mapanything.models.external"

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

_INSTANCE = re.compile(r"agent(-?\d+)/(?:camera(\d+)|panorama)")


def check_inputs(inputs: Sequence[str]) -> tuple[str, ...]:
    """Return inputs in the order of `INPUTS`.

    Raises
    ------
    ValueError
        If one is unknown, or depth is given without calibration (a range needs its ray).
    """
    if unknown := set(inputs) - set(INPUTS):
        raise ValueError(f"inputs {sorted(unknown)}: expected some of {', '.join(INPUTS)}")
    if "depth" in inputs and "calibration" not in inputs:
        raise ValueError("inputs: depth needs calibration, a range means nothing without its ray")
    return tuple(name for name in INPUTS if name in inputs)


def is_external(model: Any) -> bool:
    """Say whether a model is the host's wrapper of another project's."""
    return type(model).__module__.startswith(_EXTERNAL)


def visible(
    views: Sequence[View], inputs: Sequence[str], device: torch.device | str, *, external: bool = False
) -> list[View]:
    """Return new views with nothing but what the model may see, on its device.

    `external` models get names too, which some of them ask for: numbers that say nothing.

    Raises
    ------
    ValueError
        If a wrapper of another project's model is to be given the calibration of panoramas.
    """
    by_input = _EXTERNAL_KEYS if external else INPUT_KEYS
    keys = dict.fromkeys((*IMAGE_KEYS, *(key for name in check_inputs(inputs) for key in by_input[name])))
    if external and "calibration" in inputs and "camera_intrinsics" not in views[0]:
        raise ValueError("inputs calibration: this model takes intrinsics, which panoramas do not have; leave it out")
    seen = [
        {key: view[key].to(device) if torch.is_tensor(view[key]) else view[key] for key in keys if key in view}
        for view in views
    ]
    if external:
        for number, view in enumerate(seen):
            view |= {"label": ["sample"] * len(view["img"]), "instance": [str(number)] * len(view["img"])}
    return seen


@contextmanager
def fixed_inputs(model: Any, inputs: Sequence[str]) -> Iterator[None]:
    """Make the model use the given inputs always and no other, without random numbers; afterwards as before.

    Raises
    ------
    ValueError
        If the model takes images only, and more is given.
    """
    config = getattr(model, "geometric_input_config", None)
    if not isinstance(config, dict):
        if inputs:
            raise ValueError(
                f"inputs {', '.join(inputs)}: {type(model).__name__} takes images only; leave --inputs out"
            )
        yield
        return
    before = dict(config)
    config.update(
        overall_prob=1.0 if inputs else 0.0,
        dropout_prob=0.0 if inputs else 1.0,
        ray_dirs_prob=float("calibration" in inputs),
        depth_prob=float("depth" in inputs),
        cam_prob=float("pose" in inputs),
        sparse_depth_prob=0.0,
        depth_scale_norm_all_prob=0.0,
        pose_scale_norm_all_prob=0.0,
    )
    try:
        yield
    finally:
        config.clear()
        config.update(before)


@torch.no_grad()  # not inference_mode: DUSt3R and its kin optimise a scene inside their forward
def predict(model: Any, views: Sequence[View], inputs: Sequence[str] = (), precision: str = "fp32") -> list[View]:
    """Return the model's own predictions of a collated batch, a dict of tensors per view.

    Parameters
    ----------
    model : nn.Module
        Any model of the host's `model_factory`; put into eval mode for the call.
    views : sequence of dict
        As the host's loaders collate them. They are not changed, and the model sees `visible` ones only.
    inputs : sequence of str
        Geometry that the model is given, of `kinds.INPUTS`; none is images only.
    precision : str
        `fp32`, `bf16` or `fp16`, by autocast.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r}: expected one of {', '.join(PRECISIONS)}")
    inputs = check_inputs(inputs)
    parameter = next(model.parameters())
    seen = visible(views, inputs, parameter.device, external=is_external(model))
    was_training = model.training
    model.eval()
    try:
        with (
            fixed_inputs(model, inputs),
            torch.autocast(parameter.device.type, dtype=PRECISIONS[precision], enabled=precision != "fp32"),
        ):
            return model(seen)
    except torch.OutOfMemoryError:
        raise
    except AssertionError as error:  # how the host's wrappers say what they can take
        raise ValueError(
            f"{type(model).__name__} does not take these {len(views)} views of {tuple(seen[0]['img'].shape)}: "
            f"{error or 'no reason given'}"
        ) from error
    except RuntimeError as error:
        if precision == "fp32":
            raise
        raise ValueError(
            f"precision={precision}: the model cannot run in it on {parameter.device} ({error}); use --precision fp32"
        ) from error
    finally:
        model.train(was_training)


def frame_predictions(
    views: Sequence[View],
    preds: Sequence[View],
    row: int,
    meta: FrameMeta,
    boxes: Mapping[int, np.ndarray] | None = None,
    *,
    is_metric: bool = False,
) -> FramePredictions:
    """Return one sample of a batch as a predictions file holds it, truth beside the predictions.

    The model's outputs are in metres already: its metric scale is recorded, and not applied again.

    Parameters
    ----------
    views, preds : sequence of dict
        A collated batch, with its truth where it has one, and the model's predictions of it.
    row : int
        Number of the sample in the batch.
    meta : FrameMeta
        Names of the frame; agents and cameras are read from the views.
    boxes : mapping of int to (8, 3), optional
        Corners of annotated vehicles by actor id, world of the views.
    is_metric : bool
        The model's unit is the metre although it predicts no `metric_scaling_factor`.

    Raises
    ------
    ValueError
        If the model predicts no points of each view, or no poses of several views, or values are not finite.
    """
    rays, ranges = rays_and_ranges(preds, row)
    lengths = np.linalg.norm(rays, axis=-1)  # 1 up to rounding
    scale = 1.0 if is_metric else None
    if "metric_scaling_factor" in preds[0]:
        scale = float(stack(preds, "metric_scaling_factor", row).reshape(-1)[0])
    has_mask = "non_ambiguous_mask" in preds[0]
    poses = poses_of(preds, row)
    mask = stack(preds, "non_ambiguous_mask", row).astype(bool) if has_mask else np.ones(ranges.shape, dtype=bool)
    images = [rgb(view["img"][row], view["data_norm_type"][row]) for view in views]
    return FramePredictions(
        meta=_with_views(meta, [view["instance"][row] for view in views]),
        image=np.round(np.stack(images) * 255).astype(np.uint8),
        range_m=(ranges * lengths).astype(np.float32),
        rays=(rays / lengths[..., None]).astype(np.float32),
        mask=mask,
        pose_world_cam_pred=poses,
        metric_scale=scale,
        confidence=confidence_of(preds, row),
        **_truth(views, row),
        boxes_world_true=None if boxes is None else np.array(list(boxes.values())).reshape(-1, 8, 3),
        box_ids=None if boxes is None else np.array(list(boxes), dtype=np.int64),
    )


def _truth(views: Sequence[View], row: int) -> dict[str, np.ndarray]:
    """Return what the views say beside their images; photographs say nothing, a tree without depth only poses."""
    if "camera_pose" not in views[0]:
        return {}
    truth = {"pose_world_cam_true": stack(views, "camera_pose", row)}
    if "camera_intrinsics" in views[0]:
        truth["intrinsics_true"] = stack(views, "camera_intrinsics", row)
    known = stack(views, "valid_mask", row).astype(bool)
    if known.any():
        ranges = stack(views, "depth_along_ray", row)[..., 0]
        truth["range_m_true"] = np.where(known, ranges, 0).astype(np.float32)
        truth["mask_true"] = stack(views, "non_ambiguous_mask", row).astype(bool)
    return truth


def as_given(view: View) -> View:
    """Return a collated view with the pose that the model is told (`given_pose`), where that is not the true one."""
    if "given_pose" not in view:
        return view
    pose = view["given_pose"]
    quats = Rotation.from_matrix(pose[:, :3, :3].numpy()).as_quat()  # x, y, z, w
    told = {"camera_pose": pose, "camera_pose_trans": pose[:, :3, 3]}
    return {**view, **told, "camera_pose_quats": torch.from_numpy(quats).to(pose.dtype)}


def sample_truth(views: Sequence[View]) -> Truth:
    """Return what is true of one sample, as a dataset gives it (not collated): for `evaluation.baselines.fit`."""
    agents, cameras = whose([str(view["instance"]) for view in views])
    ranges, known = ([np.asarray(view[key]) for view in views] for key in ("depth_along_ray", "valid_mask"))
    rays = np.stack([np.asarray(view["ray_directions_cam"]) for view in views])
    return Truth(
        agents=agents,
        cameras=cameras,
        pose_world_cam=np.stack([np.asarray(view["camera_pose"], dtype=np.float64) for view in views]),
        range_m=np.stack([np.where(k, r[..., 0], 0) for r, k in zip(ranges, known)]).astype(np.float32),
        mask=np.stack([np.asarray(view["non_ambiguous_mask"]).astype(bool) for view in views]),
        rays=(rays / np.linalg.norm(rays, axis=-1, keepdims=True)).astype(np.float32),
    )


def _with_views(meta: FrameMeta, instances: Sequence[str]) -> FrameMeta:
    """Fill in whose views these are."""
    agents, cameras = whose(instances, meta.name)
    return replace(meta, agents=agents, cameras=cameras)


def whose(instances: Sequence[str], where: str = "sample") -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Return agents and cameras (None: panoramas) of the datasets' `agent641/camera0` or `agent641/panorama`."""
    found = [_INSTANCE.fullmatch(text) for text in instances]
    if None in found:
        raise ValueError(f"{where}: views are called {list(instances)}, expected names such as agent641/camera0")
    cameras = tuple(int(match[2]) for match in found if match and match[2])
    return tuple(int(match[1]) for match in found if match), cameras or None
