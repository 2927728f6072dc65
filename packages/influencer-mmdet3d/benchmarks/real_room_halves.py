"""One half of a real room trains the real host, the other is predicted, by each criterion: no benchmark, a look.

The room is an .npz with `xyz` (N, 3) in metres, `rgb` (N, 3) uint8 and `instance` (N,), -1 where there is no label. It
is cut at the middle of its longer side; an instance that is cut is two. All instances are of one class, points without
a label of another. The model is the small `S3DISOneFormer3D` of `host_learning.py`, which turns and mirrors the half
that it trains on. Pictures show the other half from above: instances, and what was found with a score above a limit.

    python benchmarks/real_room_halves.py --room room.npz --out bench_out/room --criteria host influence
    python benchmarks/real_room_halves.py --room room.npz --out bench_out/room --criteria influence:groups=3
"""

from __future__ import annotations

import argparse
import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from host_learning import HERE, host_environment
from influencer_mmdet3d.files import write_whole
from influencer_mmdet3d.host.pin import host_root

OBJECT, REST = 7, 12
"""Classes of the S3DIS model that stand for instances and for points without a label."""
AREAS = {"train": 1, "predict": 5}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--room", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of data, results and pictures")
    parser.add_argument("--criteria", nargs="+", default=["host", "influence"], help="names as of host_learning.py")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--voxel", type=float, default=0.08, help="side of a voxel in metres (default 0.08)")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--score", type=float, default=0.2, help="score above which a prediction is drawn and counted")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--worker", nargs=2, metavar=("CRITERION", "SEED"), help=argparse.SUPPRESS)
    return parser.parse_args()


def write_halves(room: Path, root: Path) -> None:
    """Write both halves in the S3DIS format, unless they are there."""
    if root.exists():
        return
    data = np.load(room)
    xyz, rgb, instance = data["xyz"].astype(np.float64), data["rgb"], data["instance"].astype(np.int64)
    side = int(np.ptp(xyz[:, :2], axis=0).argmax())
    right = xyz[:, side] > np.median(xyz[:, side])
    for area, chosen in ((AREAS["train"], ~right), (AREAS["predict"], right)):
        labels = instance[chosen]
        semantic = np.where(labels < 0, REST, OBJECT)
        numbers = np.unique(labels, return_inverse=True)[1] + 1
        points = np.concatenate([xyz[chosen], rgb[chosen]], 1)
        name = f"Area_{area}_room_1.bin"
        low, high = points[:, :3].min(0), points[:, :3].max(0)
        files = {"points": points.astype("<f4"), "semantic_mask": semantic, "instance_mask": numbers}
        for folder, array in files.items():
            write_whole(root / folder / name, np.ascontiguousarray(array).tobytes())
        box = {"bbox_3d": [*((low + high) / 2).tolist(), *(high - low).tolist()], "bbox_label_3d": 0}
        entry = {
            "sample_idx": 0, "lidar_points": {"num_pts_feats": 6, "lidar_path": name}, "instances": [box],
            "pts_semantic_mask_path": name, "pts_instance_mask_path": name,
        }  # fmt: skip
        infos = {"metainfo": {"categories": {}, "dataset": "s3dis", "info_version": "1.1"}, "data_list": [entry]}
        write_whole(root / f"s3dis_infos_Area_{area}.pkl", pickle.dumps(infos, protocol=4))


def build(criterion: str, seed: int, args: argparse.Namespace) -> Any:
    """Return the small config; flips, turns and elastic distortion, which it leaves out, come back."""
    import tiny
    from host_criteria import configure, read
    from mmengine.config import Config

    ours: dict[str, Any] | None = None if read(criterion).criterion == "host" else {}
    work = args.out / "runs" / f"{criterion.replace(':', '-')}.{seed}"
    cfg = tiny.s3dis(args.out / "data", work, ours, steps=args.steps, seed=seed, held_out=True)
    configure(cfg, criterion)
    cfg.model.voxel_size = args.voxel
    cfg.model.decoder.num_instance_queries = args.queries
    whole = Config.fromfile(tiny.CONFIGS / "s3dis_area5_baseline.py").train_dataloader.dataset.datasets[0].pipeline
    moves = [step for step in whole if step.type in ("RandomFlip3D", "GlobalRotScaleTrans")]
    pipeline = cfg.train_dataloader.dataset.pipeline
    place = next(i for i, step in enumerate(pipeline) if step.type == "NormalizePointsColor_")
    pipeline[place:place] = moves
    cfg.train_dataloader.batch_size = 2
    return cfg


def match(truth: npt.NDArray[np.int64], masks: npt.NDArray[np.bool_]) -> int:
    """Count instances that a mask of its own covers with an IoU of at least 0.5; masks come best first."""
    numbers = np.unique(truth[truth >= 0])
    taken: set[int] = set()
    for mask in masks:
        overlap = [(mask & (truth == n)).sum() / max((mask | (truth == n)).sum(), 1) for n in numbers]
        best = int(np.argmax(overlap))
        if overlap[best] >= 0.5:
            taken.add(best)
    return len(taken)


def work(args: argparse.Namespace) -> dict[str, Any]:
    """Train and predict once in this process."""
    import torch
    from mmengine.runner import Runner

    criterion, seed = args.worker[0], int(args.worker[1])
    torch.set_num_threads(1)
    runner = Runner.from_cfg(build(criterion, seed, args))
    runner.train()
    found: dict[str, Any] = {"criterion": criterion, "seed": seed}
    truth = np.frombuffer((args.out / "data/instance_mask/Area_5_room_1.bin").read_bytes(), "<i8")
    semantic = np.frombuffer((args.out / "data/semantic_mask/Area_5_room_1.bin").read_bytes(), "<i8")
    truth = np.where(semantic == OBJECT, truth, -1)
    kept = {}
    for name, nms in (("with_nms", True), ("without_nms", False)):
        runner.model.test_cfg.nms = nms
        metrics = runner.val()
        batch = next(iter(runner.val_dataloader))
        with torch.no_grad():
            result = runner.model.val_step(batch)[0].pred_pts_seg
        order = np.argsort(-result.instance_scores)
        good = [i for i in order if result.instance_scores[i] > args.score and result.instance_labels[i] == OBJECT]
        masks = result.pts_instance_mask[0][good]
        found[name] = {
            "ap": float(metrics["all_ap"]), "ap50": float(metrics["all_ap_50%"]), "predictions": len(good),
            "found": match(truth, masks), "instances": len(np.unique(truth[truth >= 0])),
        }  # fmt: skip
        label = np.full(len(truth), -1)
        for number, mask in reversed(list(enumerate(masks))):
            label[mask] = number
        kept[name] = label
    np.savez_compressed(args.out / f"{criterion.replace(':', '-')}.{seed}.npz", truth=truth, **kept)
    return found


def draw(args: argparse.Namespace) -> None:
    """Draw the predicted half from above, instances and what each criterion found."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    points = np.frombuffer((args.out / "data/points/Area_5_room_1.bin").read_bytes(), "<f4").reshape(-1, 6)
    order = points[:, 2].argsort()
    colours = np.random.default_rng(1).permutation(plt.get_cmap("hsv")(np.linspace(0, 1, 97)))
    files = [args.out / f"{name.replace(':', '-')}.{args.seeds[0]}.npz" for name in args.criteria]
    files = [path for path in files if path.exists()]
    if not files:
        return
    panels = [("scan", points[:, 3:] / 255), ("instances", np.load(files[0])["truth"])]
    ways = ("with_nms", "without_nms")
    panels += [(f"{path.name[:-6]}, {way}", np.load(path)[way]) for path in files for way in ways]
    figure, axes = plt.subplots(2, -(-len(panels) // 2), figsize=(5 * (-(-len(panels) // 2)), 10))
    for axis, (title, value) in zip(axes.flat, panels):
        colour = value if value.ndim == 2 else np.where((value < 0)[:, None], 0.88, colours[value % 97])
        axis.scatter(*points[order, :2].T, c=np.clip(colour[order], 0, 1), s=2, linewidths=0)
        axis.set_title(title, fontsize=9)
        axis.set_aspect("equal")
    for axis in axes.flat:
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(args.out / "room.png", dpi=70)


def train(args: argparse.Namespace, criterion: str, seed: int, host: Path) -> dict[str, Any] | str:
    """Train in a process of its own; return its result, or the last lines of its log."""
    command = [sys.executable, str(HERE / "real_room_halves.py"), "--room", str(args.room), "--out", str(args.out)]
    for name in ("steps", "voxel", "queries", "score"):
        command += [f"--{name}", str(getattr(args, name))]
    command += ["--worker", criterion, str(seed)]
    done = subprocess.run(command, env=host_environment(host, None), capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else " / ".join(done.stderr.splitlines()[-4:])


def main() -> int:
    """Train every criterion, print a line for each, draw."""
    args = parse()
    if args.worker:
        print(json.dumps(work(args)), flush=True)
        return 0
    host, failed = host_root(), 0
    write_halves(args.room, args.out / "data")
    results = []
    with ThreadPoolExecutor(args.jobs) as pool:
        pairs = [(criterion, seed) for seed in args.seeds for criterion in args.criteria]
        for pair, found in zip(pairs, pool.map(lambda pair: train(args, *pair, host), pairs)):
            print(pair, found, flush=True)
            if isinstance(found, str):
                failed += 1
                continue
            results.append(found)
            write_whole(args.out / "results.json", json.dumps(results, indent=1))
    draw(args)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
