"""Judge one trained cell of learn_towns.py on held-out towns, with its controls. Writes judged.json and pictures."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mapanything_opv2v.host import torchvision_ops

torchvision_ops.define_missing()

from learn_towns_pack import Pack  # noqa: E402
from mapanything_opv2v import geometry  # noqa: E402
from mapanything_opv2v.evaluation import baselines, clouds, metrics  # noqa: E402
from mapanything_opv2v.evaluation.alignment import align  # noqa: E402
from mapanything_opv2v.files import write_json  # noqa: E402
from mapanything_opv2v.host.models import from_checkpoint, inference  # noqa: E402
from mapanything_opv2v.predictions import FrameMeta, FramePredictions  # noqa: E402

FITTED_ON = 240
"""Training samples that the constant is fitted on."""

POINTS = 1600
"""True surface points of the partner that are tried, and eight times as many predicted ones."""

PAIRS, PICTURED = 5, 100
"""Pairs of each town that are judged, and the second one that is drawn."""

FARTHEST_M, CLIP_M, NEAR_M, SAME_SURFACE = 70.0, 10.0, 1.0, 0.05
BATCH = 32

Views = list[dict[str, Any]]


def main(folder: Path) -> int:
    """Judge the cell of a folder."""
    job = json.loads((folder / "judge.json").read_text())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = from_checkpoint.load_model(job["checkpoint"], device)
    held_out, train = (Pack(Path(job["packed"]) / split, device) for split in ("test", "train"))
    constant = baselines.fit(inference.sample_truth(views) for views in fitting(train, job))
    pairs = chosen(held_out)
    towns = [held_out.town_of[row] for row in pairs[:, 0]]
    rows: list[dict[str, Any]] = []
    for variant in ("trained", "shuffled", "main_only") if job["vehicles"] == 2 else ("trained",):
        for number, (frame, sample) in enumerate(predicted(loaded, held_out, pairs, variant, job)):
            told = {"town": towns[number], "number": number}
            rows.append({"variant": variant, **told, **figures(frame, sample, number)})
            if variant == "trained":
                said = constant.predict(frame)
                rows.append({"variant": "constant", **told, **figures(said, sample, number)})
                if job["pictures"] and number in (0, PICTURED):
                    draw(folder / f"town-{number}.png", frame)
                    np.savez_compressed(folder / f"frame-{number}.npz", **kept(frame))
    if job["pictures"]:
        fresh = replace(loaded, model=untrained(loaded, job).to(device).eval())
        for number, (frame, sample) in enumerate(predicted(fresh, held_out, pairs[: BATCH + 1], "trained", job)):
            if number == 0:
                draw(folder / "town-0-untrained.png", frame)
            rows.append({"variant": "untrained", "town": towns[number], **figures(frame, sample, number)})
    log = [json.loads(line) for line in (Path(job["checkpoint"]).parent / "log.txt").read_text().splitlines()]
    watched = folder / "watch.jsonl"
    curve = [json.loads(line) for line in watched.read_text().splitlines()] if watched.is_file() else []
    keep = ("epoch", "train_loss", "train_lr", "mask_mean", "validate_loss_avg", "validate_loss_med", "pose")
    short = [{k: v for k, v in line.items() if any(part in k for part in keep)} for line in log]
    made = {"rows": [rounded(row) for row in rows], "log": short, "curve": curve, "parameters": parameters(loaded)}
    write_json(folder / "judged.json", {**job, **made})
    return 0


def rounded(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row that takes less room."""
    return {key: float(f"{value:.5g}") if isinstance(value, float) else value for key, value in row.items()}


def parameters(loaded: Any) -> int:
    """Return how many numbers are trained."""
    return sum(p.numel() for p in loaded.model.parameters())


def untrained(loaded: Any, job: dict[str, Any]) -> Any:
    """Return the same model with random weights."""
    from mapanything.models import model_factory
    from mapanything_opv2v.checkpoints import storage

    config = storage.load(Path(job["checkpoint"]), map_location="cpu")["args"]
    name, model_config = from_checkpoint._model_config(config, job["checkpoint"])
    torch.manual_seed(0)
    return model_factory(name, **from_checkpoint._without_other_weights(model_config))


def chosen(held_out: Pack) -> np.ndarray:
    """Return the pairs that are judged: some of each town, of its first and last moment; single vehicles of one."""
    rng = np.random.default_rng(0)
    moments = held_out.pairs(FARTHEST_M, slice(0, None, 2))
    towns = np.array([held_out.town_of[row] for row in moments[:, 0]])
    found = []
    for town in sorted(set(towns)):
        here = moments[towns == town]
        found.append(here[np.sort(rng.permutation(len(here))[:PAIRS])])
    return np.concatenate(found)


def single(views: Views, row: int) -> Views:
    """Return a sample of a batch as a dataset gives it, not collated, on the CPU."""
    return [
        {key: value[row].cpu() if torch.is_tensor(value) else value[row] for key, value in view.items()}
        for view in views
    ]


def fitting(train: Pack, job: dict[str, Any]) -> Iterator[Views]:
    """Yield samples of the training towns for the constant."""
    rows = train.pairs(job["farthest_m"]) if job["vehicles"] == 2 else np.arange(len(train.labels))[:, None]
    for at in np.linspace(0, len(rows) - 1, min(len(rows), FITTED_ON)).astype(int):
        yield single(train.views(rows[at : at + 1]), 0)


def strangers(held_out: Pack, rows: np.ndarray) -> np.ndarray:
    """Return, for each pair, the partner of a pair of another town."""
    towns = [held_out.town_of[row] for row in rows[:, 0]]
    found = []
    for number, town in enumerate(towns):
        other = number
        while towns[other] == town:
            other = (other + 1) % len(rows)
        found.append(rows[other, 1])
    return np.array(found)


def predicted(
    loaded: Any, held_out: Pack, rows: np.ndarray, variant: str, job: dict[str, Any]
) -> Iterator[tuple[FramePredictions, Views]]:
    """Yield the model's predictions of every sample, as it is or by a control, beside the whole sample."""
    precision = "bf16" if torch.cuda.is_available() else "fp32"
    foreign = strangers(held_out, rows) if variant == "shuffled" else rows[:, -1]
    for first in range(0, len(rows), BATCH):
        batch = rows[first : first + BATCH]
        whole = held_out.views(batch)
        given = whole
        if variant == "main_only" or job["vehicles"] == 1:
            given = whole[: len(whole) // 2]
        if variant == "shuffled":
            wrong = held_out.views(np.stack([batch[:, 0], foreign[first : first + BATCH]], axis=1))
            own = len(whole) // 2
            given = whole[:own] + [{**view, "img": other["img"]} for view, other in zip(whole[own:], wrong[own:])]
        preds = inference.predict(loaded.model, given, tuple(job["inputs"]), precision)
        for row in range(len(batch)):
            views = single(whole, row)
            yield inference.frame_predictions(given, preds, row, meta(views, job, loaded)), views


def meta(views: Views, job: dict[str, Any], loaded: Any) -> FrameMeta:
    """Return the names of a frame."""
    split, sequence, frame = views[0]["label"].split("/")
    width, height = job["size"]
    return FrameMeta(
        split=split, sequence=sequence, frame=frame, layout="panorama" if job["panorama"] else "pinhole", agents=(0,),
        cameras=None if job["panorama"] else (0,),
        cylinder=geometry.Cylinder(width, height) if job["panorama"] else None,
        inputs=tuple(job["inputs"]), config=loaded.config,
    )  # fmt: skip


def figures(frame: FramePredictions, sample: Views, number: int) -> dict[str, Any]:
    """Return a frame's figures; `sample` has all views, the frame may lack the partner's."""
    agents, _ = inference.whose([view["instance"] for view in sample])
    found: dict[str, Any] = {}
    true_poses = np.stack([np.asarray(view["camera_pose"], dtype=np.float64) for view in sample])
    poses = align(frame.pose_world_cam_pred, frame.pose_world_cam_true, "view0").poses(frame.pose_world_cam_pred)
    main = [view for view in range(frame.views) if agents[view] == agents[0]] if frame.views == len(sample) else None
    own = main if main is not None else list(range(frame.views))
    assert frame.range_m_true is not None
    for name, views in (("main", own), ("partner", [v for v in range(frame.views) if v not in own])):
        if views:
            ranges = metrics.range_figures(frame.range_m[views], frame.range_m_true[views])
            found |= {f"{key}_{name}": ranges[key] for key in ("depth_relative", "depth_within_25pct", "scale_ratio")}
    mask = metrics.mask_figures(frame.mask, frame.mask_true, frame.range_m_true)
    found |= {key: mask[key] for key in ("mask_iou", "mask_pred_share", "mask_true_share")}
    away = [view for view in range(len(sample)) if agents[view] != agents[0]]
    if away and frame.views == len(sample):
        at, moved = [], []
        for view in away:
            true = geometry.invert(true_poses[0]) @ true_poses[view]
            said = geometry.invert(poses[0]) @ poses[view]
            moved.append(
                (np.linalg.norm(said[:3, 3] - true[:3, 3]), metrics.rotation_angle_deg(said[:3, :3].T @ true[:3, :3]))
            )
            at.append(np.linalg.norm(true[:3, 3]))
        found["distance_m"] = float(np.mean(at))
        found["translation_m"], found["rotation_deg"] = (float(value) for value in np.mean(moved, axis=0))
    if away:
        found |= completeness(frame, poses, sample, agents, true_poses, number)
    return found


def completeness(
    frame: FramePredictions,
    poses: np.ndarray,
    sample: Views,
    agents: tuple[int, ...],
    true_poses: np.ndarray,
    number: int,
) -> dict[str, Any]:
    """Return how much of what the main agent cannot see the predicted cloud has, and BEV IoU of all."""
    rng = np.random.default_rng(number)
    world, unseen, main_world = [], [], []
    for view, truth in enumerate(sample):
        points = np.asarray(truth["pts3d"], dtype=np.float64)[truth["valid_mask"]]
        near = np.linalg.norm(points - true_poses[view][:3, 3], axis=-1) <= FARTHEST_M
        points = points[near]
        points = points[rng.permutation(len(points))[: POINTS // 2]]
        (main_world if agents[view] == agents[0] else world).append(points)
    partner = np.concatenate(world)
    seen = np.zeros(len(partner), dtype=bool)
    for view, truth in enumerate(sample):
        if agents[view] == agents[0]:
            seen |= sees(truth, true_poses[view], partner, frame)
    unseen = partner[~seen]
    predicted_points = []
    for view in range(frame.views):
        keep = frame.mask[view] & (frame.range_m[view] <= FARTHEST_M)
        cam = frame.points_cam(view)[keep]
        cam = cam[rng.permutation(len(cam))[: 8 * POINTS // len(sample)]]
        predicted_points.append(geometry.transform_points(poses[view], cam))
    cloud = np.concatenate(predicted_points)
    truth_cloud = np.concatenate([partner, *main_world])
    center = true_poses[0][:3, 3]
    found: dict[str, Any] = {
        "unseen_share": float((~seen).mean()) if len(seen) else None,
        "bev_iou": clouds.iou(
            clouds.occupied(cloud, center, 2.0, FARTHEST_M), clouds.occupied(truth_cloud, center, 2.0, FARTHEST_M)
        ),
    }
    if len(unseen) >= 20 and len(cloud):
        away = nearest(unseen, cloud)
        found |= {
            "unseen_distance_m": float(np.minimum(away, CLIP_M).mean()),
            "unseen_within": float((away <= NEAR_M).mean()),
        }
    return found


def nearest(points: np.ndarray, cloud: np.ndarray) -> np.ndarray:
    """Return the distance from each point to the cloud."""
    from scipy.spatial import cKDTree

    return np.asarray(cKDTree(cloud).query(points)[0])


def sees(truth: dict[str, Any], pose: np.ndarray, points: np.ndarray, frame: FramePredictions) -> np.ndarray:
    """Return which points (N, 3) of the world lie on what a view sees."""
    local = geometry.transform_points(geometry.invert(pose), points)
    ranges = np.asarray(truth["depth_along_ray"])[..., 0]
    height, width = ranges.shape
    if frame.meta.cylinder is not None:
        u, v, _ = frame.meta.cylinder.project(local)
        front = np.ones(len(local), dtype=bool)
    else:
        u, v, z = geometry.project_pinhole(np.asarray(truth["camera_intrinsics"], dtype=np.float64), local)
        front = z > 0.1
    with np.errstate(invalid="ignore"):
        inside = front & (u >= -0.5) & (u < width - 0.5) & (v >= -0.5) & (v < height - 0.5)
    there = ranges[np.rint(v[inside]).astype(int), np.rint(u[inside]).astype(int)]
    away = np.linalg.norm(local[inside], axis=-1)
    seen = np.zeros(len(points), dtype=bool)
    seen[np.flatnonzero(inside)[np.abs(there - away) <= SAME_SURFACE * away + 0.2]] = True
    return seen


def kept(frame: FramePredictions) -> dict[str, np.ndarray]:
    """Return what a later picture needs, small."""
    assert frame.range_m_true is not None and frame.pose_world_cam_true is not None
    return {
        "image": frame.image,
        "range_m": frame.range_m.astype(np.float16),
        "range_m_true": frame.range_m_true.astype(np.float16),
        "mask": frame.mask,
        "pose_pred": frame.pose_world_cam_pred,
        "pose_true": frame.pose_world_cam_true,
    }


def draw(path: Path, frame: FramePredictions) -> None:
    """Draw the true cloud beside the predicted one, seen from above around view 0, coloured by vehicle."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    assert frame.pose_world_cam_true is not None and frame.range_m_true is not None
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 5.5), sharex=True, sharey=True)
    to_view0 = geometry.invert(frame.pose_world_cam_true[0]), geometry.invert(frame.pose_world_cam_pred[0])
    for axis, title, home in zip(axes, ("true", "predicted"), to_view0):
        for view in range(frame.views):
            true = title == "true"
            points = frame.points_world_true(view) if true else frame.points_world(view)
            assert points is not None
            keep = (frame.range_m_true[view] > 0) if true else frame.mask[view]
            keep = keep & ((frame.range_m_true[view] if true else frame.range_m[view]) < FARTHEST_M)
            local = geometry.transform_points(home, points[keep])
            color = "#2166ac" if frame.meta.agents[view] == frame.meta.agents[0] else "#e08214"
            axis.scatter(local[::3, 0], local[::3, 2], s=0.4, c=color, linewidths=0)
            pose = home @ (frame.pose_world_cam_true[view] if true else frame.pose_world_cam_pred[view])
            axis.plot(pose[0, 3], pose[2, 3], "o", color=color, markeredgecolor="black", markersize=6)
        axis.set(title=title, xlim=(-75, 75), ylim=(-75, 75), aspect="equal", xlabel="right of view 0, m")
    axes[0].set_ylabel("ahead of view 0, m")
    figure.savefig(path, dpi=75, bbox_inches="tight")
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
