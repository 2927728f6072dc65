"""Train stages 1 and 2 on a synthetic town and report loss curves, steps per second and memory.

The model is MapAnything's with small widths and no download; the launcher, the experiments, the losses and the data
path are the real ones. Needs a MapAnything checkout on PYTHONPATH (MAPANYTHING_ROOT) and this package installed; no
network. One GPU, several through NCCL (--gpus 2), or the CPU with few steps:

    python train_curves.py --out curves --steps 300
    python train_curves.py --out curves_2gpu --steps 300 --gpus 2
    python train_curves.py --out curves_cpu --steps 4 --epochs 2 --model tiny --width 56 --agents 2

Writes result.json, curves.png and the runs' folders with their logs below --out.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import torch
from mapanything_opv2v.files import write_json
from mapanything_opv2v.synthetic import write_town
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

matplotlib.use("Agg")

# encoder width and depth, depth of the info sharing and its two layers that are tapped, width of the heads
MODELS = {"tiny": (64, 2, 4, (1, 2), 16), "small": (384, 6, 8, (3, 5), 64)}
STAGES = ("stage1", "stage2")
WARM_STEPS = 10
"""Steps that are left out of the speed: compilation, caches, first allocations."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stages; return 1 if one failed."""
    args = parse(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    town = write_town(
        args.out / "town",
        seed=args.seed,
        sequences=2,
        frames=args.frames,
        agents=args.agents,
        splits=("train", "validate"),
        depth_root=args.out / "depth",
        image_size=(320, 240),
        progress=True,
    )
    runs = {}
    for stage in STAGES:
        runs[stage] = train(stage, args, {"OPV2V_ROOT": str(town.root), "OPV2V_DEPTH_ROOT": str(town.depth_root)})
        report(args, runs)  # after each stage: a job that is stopped keeps what it has
        if runs[stage]["status"] != 0:
            print(f"{stage} ended with status {runs[stage]['status']}: see {args.out / 'runs' / f'{stage}.txt'}")
            break
    return int(any(run["status"] for run in runs.values()) or len(runs) < len(STAGES))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0] if __doc__ else None,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--steps", type=int, default=300, help="steps of each stage")
    parser.add_argument("--epochs", type=int, default=5, help="epochs that the steps are divided into")
    parser.add_argument("--gpus", type=int, default=1, help="processes; more than one uses torchrun and NCCL")
    parser.add_argument("--model", choices=sorted(MODELS), default="small", help="widths and depths")
    parser.add_argument("--width", type=int, default=224, help="of the images that the model sees, a multiple of 56")
    parser.add_argument("--images_per_gpu", type=int, default=16, help="image budget of a step")
    parser.add_argument("--workers", type=int, default=4, help="loader processes of each GPU")
    parser.add_argument("--lr", type=float, default=3e-4, help="learning rate: the model starts from nothing")
    parser.add_argument("--frames", type=int, default=6, help="frames of each of the town's sequences")
    parser.add_argument("--agents", type=int, default=3, help="vehicles in each frame, at least 2")
    parser.add_argument("--seed", type=int, default=1, help="of the town")
    parser.add_argument("--override", action="append", default=[], help="further Hydra override of both stages")
    args = parser.parse_args(argv)
    if args.width % 56 or args.steps % args.epochs or args.agents < 2:
        parser.error("--width must be a multiple of 56, --steps one of --epochs, --agents at least 2")
    if args.gpus > 1 and torch.cuda.device_count() < args.gpus:
        parser.error(f"--gpus {args.gpus}: torch sees {torch.cuda.device_count()}, and MapAnything's DDP needs NCCL")
    args.out = args.out.resolve()
    return args


def train(stage: str, args: argparse.Namespace, data: dict[str, str]) -> dict[str, Any]:
    """Train a stage through the launcher and return its figures."""
    runs = args.out / "runs"
    runs.mkdir(exist_ok=True)
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={args.gpus}"] if args.gpus > 1 else []
    command = [sys.executable, *torchrun, "-m", "mapanything_opv2v.train", *overrides(stage, args)]
    env = {**os.environ, **data, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    print(f"{stage}: {args.steps} steps on {args.gpus} {'GPU' if torch.cuda.is_available() else 'CPU'}", flush=True)
    started = time.monotonic()
    with (runs / f"{stage}.txt").open("w") as log:
        status = subprocess.run(command, env=env, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    figures = {"status": status, "seconds": round(time.monotonic() - started, 1), "command": command}
    return {**figures, **read_run(runs / "opv2v" / stage)} if status == 0 else figures


def overrides(stage: str, args: argparse.Namespace) -> list[str]:
    """Return the Hydra overrides that make a stage small."""
    width, depth, sharing, taps, heads = MODELS[args.model]
    cpu = () if torch.cuda.is_available() else ("train_params.amp=0",)
    return [
        f"+experiment=opv2v_{stage}",
        f"machine.root_experiments_dir={args.out / 'runs'}",
        "model.model_config.pretrained_checkpoint_path=null",
        "model/encoder=croco_512",
        "++model.encoder.pretrained_checkpoint_path=null",
        "+model.encoder.patch_size=14",
        f"+model.encoder.enc_embed_dim={width}",
        f"+model.encoder.enc_depth={depth}",
        f"+model.encoder.enc_num_heads={width // 16 if width < 128 else width // 64}",
        "+model.encoder.mlp_ratio=4",
        f"model.info_sharing.module_args.depth={sharing}",
        f"model.info_sharing.module_args.indices=[{taps[0]},{taps[1]}]",
        f"model.info_sharing.module_args.dim={width}",
        f"model.info_sharing.module_args.num_heads={width // 16 if width < 128 else width // 64}",
        f"model.pred_head.feature_head.feature_dim={heads}",
        f'dataset.resolution_train="({args.width},{args.width // 4 * 3})"',
        f"dataset.num_workers={args.workers}",
        f"dataset.steps_per_epoch={args.steps // args.epochs}",
        "dataset.max_sets_per_epoch=null",
        "dataset.opv2v.val.max_scenes=8",
        f"train_params.max_num_of_imgs_per_gpu={args.images_per_gpu}",
        f"train_params.epochs={args.epochs}",
        "train_params.warmup_epochs=0.5",
        "train_params.print_freq=1",
        "train_params.keep_freq=0",
        f"train_params.lr={args.lr}",
        f"train_params.submodule_configs.encoder.lr={args.lr}",
        *cpu,
        *args.override,
    ]


def read_run(run_dir: Path) -> dict[str, Any]:
    """Return loss curve, speed and memory from the host's own logs."""
    events = EventAccumulator(str(run_dir), size_guidance={"scalars": 0})
    events.Reload()
    losses = events.Scalars("train_loss")
    steps_s = [1 / (b.wall_time - a.wall_time) for a, b in pairwise(losses) if b.wall_time > a.wall_time]
    validation = next(tag for tag in events.Tags()["scalars"] if tag.endswith("_validate_loss_avg"))
    memory = re.findall(r"max mem: (\d+)", (run_dir / "train.log").read_text())
    count = max(1, min(20, len(losses) // 4))
    return {
        "train_loss": [round(event.value, 5) for event in losses],
        "validation_loss": [round(event.value, 5) for event in events.Scalars(validation)],
        "first_loss": round(statistics.fmean(event.value for event in losses[:count]), 4),
        "last_loss": round(statistics.fmean(event.value for event in losses[-count:]), 4),
        "steps_per_s": round(statistics.median(steps_s[WARM_STEPS:] or steps_s), 3),
        "gpu_memory_mb": max(map(int, memory)) if memory else None,
        "host_memory_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }


def report(args: argparse.Namespace, runs: dict[str, dict[str, Any]]) -> None:
    """Print the table, write result.json and curves.png."""
    devices = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    machine = {"gpus": devices, "torch": torch.__version__, "python": platform.python_version()}
    options = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    write_json(args.out / "result.json", {"machine": machine, "options": options, "runs": runs})
    print(f"{', '.join(devices) or platform.machine()}, torch {torch.__version__}, {args.gpus} process(es)")
    print(f"{'stage':<8} {'first loss':>11} {'last loss':>11} {'steps/s':>9} {'GPU MB':>8} {'host MB':>8}")
    good = {stage: run for stage, run in runs.items() if run["status"] == 0}
    for stage, run in good.items():
        print(
            f"{stage:<8} {run['first_loss']:>11} {run['last_loss']:>11} {run['steps_per_s']:>9} "
            f"{run['gpu_memory_mb'] or '-':>8} {run['host_memory_mb']:>8}"
        )
    if good:
        draw(args.out / "curves.png", good)


def draw(path: Path, runs: dict[str, dict[str, Any]]) -> None:
    """Draw training and validation loss of each stage."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(runs), figsize=(6 * len(runs), 4), squeeze=False)
    for axis, (stage, run) in zip(axes[0], runs.items()):
        train_loss, validation = run["train_loss"], run["validation_loss"]
        every = len(train_loss) / max(1, len(validation))
        axis.plot(range(1, len(train_loss) + 1), train_loss, linewidth=1, label="training, each step")
        axis.plot([every * (n + 1) for n in range(len(validation))], validation, "o-", label="validation")
        axis.set(title=f"{stage}: {run['steps_per_s']} steps/s", xlabel="step", ylabel="loss")
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
