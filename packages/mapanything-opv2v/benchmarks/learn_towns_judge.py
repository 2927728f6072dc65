"""Judge one trained cell of learn_towns.py on held-out towns, with its controls. Writes judged.json and pictures."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mapanything_opv2v.host import torchvision_ops

torchvision_ops.define_missing()

from mapanything_opv2v import geometry  # noqa: E402
from mapanything_opv2v.evaluation import baselines, clouds, metrics  # noqa: E402
from mapanything_opv2v.evaluation.alignment import align  # noqa: E402
from mapanything_opv2v.files import write_json  # noqa: E402
from mapanything_opv2v.host.models import from_checkpoint, inference, predicting  # noqa: E402
from mapanything_opv2v.predictions import FrameMeta, FramePredictions  # noqa: E402
from torch.utils.data import default_collate  # noqa: E402

FITTED_ON = 240
"""Training samples that the constant is fitted on."""

POINTS = 2500
"""True surface points of the partner that are tried, and eight times as many predicted ones."""

FARTHEST_M, CLIP_M, NEAR_M, SAME_SURFACE = 70.0, 10.0, 1.0, 0.05
BATCH = 16

Views = list[dict[str, Any]]


def main(folder: Path) -> int:
    """Judge the cell of a folder."""
    job = json.loads((folder / "judge.json").read_text())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = from_checkpoint.load_model(job["checkpoint"], device)
    samples = list(held_out(job, loaded, "test", every=max(1, job["frames"] - 1)))
    constant = baselines.fit(inference.sample_truth(views) for _, views in fitting(job, loaded))
    rows: list[dict[str, Any]] = []
    for variant in ("trained", "shuffled", "main_only"):
        if job["arm"] == "one" and variant != "trained":
            continue
        for number, frame in enumerate(predicted(loaded, samples, variant, job)):
            town = samples[number][0]
            rows.append({"variant": variant, "town": town, **figures(frame, samples[number][1], number)})
            if variant == "trained":
                said = constant.predict(frame)
                rows.append({"variant": "constant", "town": town, **figures(said, samples[number][1], number)})
                if job["pictures"] and number in (0, len(samples) // 2):
                    draw(folder / f"town-{number}.png", frame)
                    np.savez_compressed(folder / f"frame-{number}.npz", **kept(frame))
    if job["pictures"]:
        fresh = replace(loaded, model=untrained(loaded, job).to(device).eval())
        for number, frame in enumerate(predicted(fresh, samples[: BATCH + 1], "trained", job)):
            if number == 0:
                draw(folder / "town-0-untrained.png", frame)
            rows.append(
                {"variant": "untrained", "town": samples[number][0], **figures(frame, samples[number][1], number)}
            )
    log = [json.loads(line) for line in (Path(job["checkpoint"]).parent / "log.txt").read_text().splitlines()]
    keep = ("epoch", "train_loss", "train_lr", "mask_mean", "validate_loss_avg", "validate_loss_med", "pose")
    short = [{k: v for k, v in line.items() if any(part in k for part in keep)} for line in log]
    write_json(folder / "judged.json", {**job, "rows": rows, "log": short, "parameters": parameters(loaded)})
    return 0


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


def opened(job: dict[str, Any], loaded: Any, split: str, agents: Sequence[int]) -> Any:
    """Return the data set of two given agents of a split; the first is the main one."""
    options: dict[str, Any] = {"include_agents": list(agents), "main_agent": agents[0]}
    if job["arm"] == "one":
        options["include_agents"] = [agents[0]]
    if job["panorama"]:
        options["panorama_cache"] = job["cache"]
    kind = "OPV2VCoopCylindricalDataset" if job["panorama"] else "OPV2VCoopDataset"
    views = 2 if job["panorama"] else 8
    if job["arm"] == "one":
        kind, views = "OPV2VDataset", 4
    data = predicting.DataOptions(
        root=Path(job["root"]), depth_root=Path(job["depth"]), dataset=kind, split=split, num_views=views,
        resolution=tuple(job["size"]), options=options,
    )  # fmt: skip
    return predicting.open_dataset(data, loaded.data_norm_type)


def pairs(job: dict[str, Any], split: str) -> list[tuple[int, int]]:
    """Return main agent and partner, twice: the partners of the first agent."""
    first = next(iter(sorted((Path(job["root"]) / split).iterdir())))
    a, b, c = sorted(int(path.name) for path in first.iterdir() if path.is_dir())
    return [(a, b), (a, c)]


def held_out(job: dict[str, Any], loaded: Any, split: str, every: int) -> Iterator[tuple[str, Views]]:
    """Yield town and sample of every so many frames, for both partners."""
    for number, agents in enumerate(pairs(job, split)):
        if job["arm"] == "one" and number:
            continue
        dataset = opened(job, loaded, split, agents)
        for index in range(0, len(dataset), every):
            name = dataset.sample_name(index)
            yield name.split("/")[1], dataset.sample(index)


def fitting(job: dict[str, Any], loaded: Any) -> Iterator[tuple[str, Views]]:
    """Yield samples of the training towns for the constant."""
    for agents in pairs(job, "train"):
        dataset = opened(job, loaded, "train", agents)
        for index in np.linspace(0, len(dataset) - 1, min(len(dataset), FITTED_ON // 2)).astype(int):
            yield "", dataset.sample(int(index))


def predicted(
    loaded: Any, samples: list[tuple[str, Views]], variant: str, job: dict[str, Any]
) -> Iterator[FramePredictions]:
    """Yield the model's predictions of every sample, as it is or by a control."""
    precision = "bf16" if torch.cuda.is_available() else "fp32"
    given: list[Views] = []
    for number, (town, views) in enumerate(samples):
        if variant == "main_only":
            views = [view for view in views if main_agent(view) == main_agent(views[0])]
        if variant == "shuffled":
            other = number
            while samples[other][0] == town:
                other = (other + 1) % len(samples)
            guests = [view for view in samples[other][1] if main_agent(view) != main_agent(views[0])]
            views = [dict(view) for view in views]
            away = [view for view in views if main_agent(view) != main_agent(views[0])]
            for view, guest in zip(away, by_camera(away, guests)):
                view["img"] = guest["img"]
        given.append(views)
    for first in range(0, len(given), BATCH):
        batch = given[first : first + BATCH]
        collated = default_collate(batch)
        preds = inference.predict(loaded.model, collated, tuple(job["inputs"]), precision)
        for row, views in enumerate(batch):
            yield inference.frame_predictions(collated, preds, row, meta(views, job, loaded))


def by_camera(views: Views, guests: Views) -> Views:
    """Return a guest of the same camera for each view, where there is one."""
    found = []
    for number, view in enumerate(views):
        camera = view["instance"].split("/")[1]
        same = [guest for guest in guests if guest["instance"].split("/")[1] == camera]
        found.append((same or guests)[0 if same else number % len(guests)])
    return found


def main_agent(view: dict[str, Any]) -> str:
    """Return whose view it is."""
    return str(view["instance"]).partition("/")[0]


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
    figure.tight_layout()
    figure.savefig(path, dpi=75)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
