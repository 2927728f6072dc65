"""Does cooperation learn? Train MapAnything on towns that need it and judge it on towns it has never seen.

One command renders the towns, trains the cells (arm x towns x seed) side by side on the GPUs, judges each on 40
held-out towns with its controls, and writes a table. A cell that is done is not done again; the same command goes on.
The models have about 384 channels and random weights; launcher, configs, losses and data path are the package's. Needs
a MapAnything checkout on PYTHONPATH (MAPANYTHING_ROOT) and this package installed; no network:

    python learn_towns.py --out learned --seconds 2400
    python learn_towns.py --out learned --cells coop:400:0,coop:400:1,panorama_roll:400:0 --seconds 1200
    python learn_towns.py --out learned_toy --toy

Controls, in every cell: the constant fitted on training towns (no image is looked at), the partner's images taken from
another town, the main agent's views only.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from queue import Queue

from mapanything_opv2v import panorama, rawdata, synthetic
from mapanything_opv2v.files import write_json
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.synthetic import statistics

SPLIT_SEEDS = {"train": 100, "validate": 200, "test": 300}
FRAME_SECONDS = 2.0
"""Between the frames of a town: vehicles have moved on, so that four frames are not one."""

LEAST_SECONDS = 20
"""A training is not begun when less time is left."""


@dataclass(frozen=True)
class Arm:
    """What is trained."""

    experiment: str
    views: int
    panorama: bool = False
    overrides: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    """Geometry that the model is given when it is judged."""


_POSES = ("model/task=posed_sfm",)
_IDENTITY = ("model.model_str=opv2v_mapanything", "model.model_config.name=opv2v_mapanything")

ARMS = {
    "one": Arm("opv2v_stage1", 4),
    "coop": Arm("opv2v_stage2", 8),
    "identity": Arm("opv2v_stage2", 8, overrides=_IDENTITY),
    "panorama": Arm("opv2v_cylindrical", 2, panorama=True),
    "panorama_roll": Arm("opv2v_cylindrical", 2, panorama=True, overrides=("dataset.opv2v.train.panorama_roll=true",)),
    "oracle": Arm("opv2v_stage2", 8, overrides=_POSES, inputs=("pose",)),
    "panorama_oracle": Arm("opv2v_cylindrical", 2, panorama=True, overrides=_POSES, inputs=("pose",)),
    "no_pairwise": Arm("opv2v_cylindrical", 2, panorama=True, overrides=(
        "dataset.opv2v.train.panorama_roll=true", "loss=opv2v_loss")),
    "agreement": Arm("opv2v_cylindrical", 2, panorama=True, overrides=(
        "dataset.opv2v.train.panorama_roll=true", "loss=opv2v_agreement_loss")),
    "depth": Arm("opv2v_cylindrical", 2, panorama=True, overrides=(
        "dataset.opv2v.train.panorama_roll=true", "loss=opv2v_rel_pose_loss",
        "loss.opv2v.extra=\"${loss.opv2v.depth.term}\"")),
}  # fmt: skip
"""`oracle` arms are told the true poses."""

DEFAULT_CELLS = (
    "panorama_roll:400:0,coop:400:0,panorama:400:0,one:400:0,panorama_oracle:400:0,oracle:400:0,panorama_roll:400:1,"
    "coop:400:1,panorama_roll:400:2,coop:400:2,panorama_roll:25:0,panorama_roll:100:0"
)


@dataclass(frozen=True)
class Cell:
    """One training."""

    arm: str
    towns: int
    seed: int

    @property
    def name(self) -> str:
        """Return the folder's name."""
        return f"{self.arm}-{self.towns}-{self.seed}"


def main(argv: Sequence[str] | None = None) -> int:
    """Render, train, judge, tell; 1 if a cell failed."""
    args = parse(argv)
    started = time.monotonic()
    args.out.mkdir(parents=True, exist_ok=True)
    render(args)
    note(f"towns are there after {time.monotonic() - started:.0f} s")
    end_training = started + args.seconds - args.judge_seconds
    gpus: Queue[str] = Queue()
    devices = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu_count() else [""]
    if devices == [""] and gpu_count():
        devices = [str(number) for number in range(gpu_count())]
    for _ in range(args.per_gpu):
        for device in devices:
            gpus.put(device)

    def work(cell: Cell) -> bool:
        gpu = gpus.get()
        try:
            return run_cell(cell, args, gpu, end_training)
        finally:
            gpus.put(gpu)

    with ThreadPoolExecutor(gpus.qsize()) as pool:
        good = list(pool.map(work, args.cells))
    command = [sys.executable, str(Path(__file__).with_name("learn_towns_table.py")), str(args.out)]
    subprocess.run(command, check=False)
    return int(not all(good))


@lru_cache
def gpu_count() -> int:
    """Return how many GPUs there are; torch is imported here, so that processes that render do without."""
    import torch

    return torch.cuda.device_count()


def note(text: str) -> None:
    """Print at once."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--cells", default=DEFAULT_CELLS, help=f"ARM:TOWNS:SEED,...; arms: {', '.join(ARMS)}")
    parser.add_argument("--seconds", type=float, default=2400, help="for everything; trainings stop in time")
    parser.add_argument("--judge_seconds", type=float, default=100, help="of these for judging at the end")
    parser.add_argument("--per_gpu", type=int, default=3, help="trainings that share a GPU")
    parser.add_argument("--towns", type=int, default=400, help="training towns that are rendered")
    parser.add_argument("--held_out", type=int, default=40, help="towns for judging")
    parser.add_argument("--frames", type=int, default=4, help="frames of a town")
    parser.add_argument("--steps", type=int, default=80, help="steps of an epoch")
    parser.add_argument("--epochs", type=int, default=10, help="epochs that the learning rate is planned for")
    parser.add_argument("--samples", type=int, default=32, help="samples of a step")
    parser.add_argument("--lr", type=float, default=3e-4, help="learning rate: the model starts from nothing")
    parser.add_argument("--workers", type=int, default=0, help="processes for rendering; 0: all cores")
    parser.add_argument("--loaders", type=int, default=3, help="loader processes of each training")
    parser.add_argument(
        "--retry", default="", help="options of the launcher with which a training that fails is tried again"
    )
    parser.add_argument("--toy", action="store_true", help="tiny, for a CPU: shows that everything runs")
    args = parser.parse_args(argv)
    if args.toy:
        args.cells = "panorama_roll:2:0,coop:2:0,one:2:0,oracle:2:0" if args.cells == DEFAULT_CELLS else args.cells
        args.towns, args.held_out, args.frames, args.steps, args.epochs = 2, 2, 2, 2, 1
        args.samples, args.per_gpu, args.loaders, args.workers = 2, 1, 1, 1
    args.cells = [
        Cell(arm, int(towns), int(seed)) for arm, towns, seed in (c.split(":") for c in args.cells.split(","))
    ]
    for cell in args.cells:
        if cell.arm not in ARMS or cell.towns > args.towns:
            parser.error(f"cell {cell}: arms are {', '.join(ARMS)}, and {args.towns} towns are rendered")
    args.out = args.out.resolve()
    args.workers = args.workers or os.cpu_count() or 1
    return args


def render(args: argparse.Namespace) -> None:
    """Write the towns and their panoramas, once."""
    done = args.out / "towns.json"
    if done.is_file():
        return
    warm_up(args)
    for split, towns in (("train", args.towns), ("validate", max(2, args.held_out // 4)), ("test", args.held_out)):
        synthetic.write_town(
            args.out / "towns",
            seed=SPLIT_SEEDS[split],
            sequences=towns,
            frames=args.frames,
            agents=3,
            splits=(split,),
            depth_root=args.out / "depth",
            image_size=(320, 240),
            lidar_size=(4, 64),
            layout="streets",
            frame_seconds=FRAME_SECONDS,
            workers=args.workers,
        )
    note("rendered")
    index = rawdata.index_tree(args.out / "towns", depth_root=args.out / "depth")
    cache = panorama.PanoramaCache(args.out / "panoramas", Cylinder(*sizes(args)[1]))
    panorama.prebuild(index, cache, workers=args.workers, progress=False)
    note("panoramas built")
    held_out = rawdata.index_tree(args.out / "towns", depth_root=args.out / "depth", splits=["test"])
    lines = list(statistics.lines(statistics.of_tree(held_out, workers=args.workers)))
    print("\n".join(lines), flush=True)
    write_json(done, {"statistics": lines, "towns": args.towns, "held_out": args.held_out})


def warm_up(args: argparse.Namespace) -> None:
    """Compile once, before many processes would do it at the same time."""
    root = args.out / "warm_up"
    synthetic.write_town(root, seed=0, agents=1, image_size=(80, 60), lidar_size=(4, 64), layout="streets")
    panorama.load_panorama(rawdata.index_tree(root).splits["train"][0].agents[0], Cylinder(*sizes(args)[1]))
    note("compiled")


def sizes(args: argparse.Namespace) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the sizes of pinhole views and panoramas: 8 of the former have about the pixels of 2 of the latter."""
    return ((56, 42), (112, 28)) if args.toy else ((140, 112), (504, 126))


def run_cell(cell: Cell, args: argparse.Namespace, gpu: str, end_training: float) -> bool:
    """Train and judge a cell, unless that is done; say whether it is done."""
    folder = args.out / "cells" / cell.name
    if (folder / "judged.json").is_file():
        return True
    if end_training - time.monotonic() < LEAST_SECONDS:
        note(f"{cell.name}: no time is left, run the same command again")
        return False
    folder.mkdir(parents=True, exist_ok=True)
    env = {
        **os.environ,
        "OPV2V_ROOT": str(args.out / "towns"),
        "OPV2V_DEPTH_ROOT": str(args.out / "depth"),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": gpu,
    }
    began = time.monotonic()
    status = train(cell, args, env, folder, end_training)
    if status not in (0, "stopped in time") and args.retry:
        note(f"{cell.name}: status {status}, once more with {args.retry}")
        status = train(cell, args, env, folder, end_training, args.retry.split())
    seconds = time.monotonic() - began
    checkpoint = folder / "run" / "checkpoint-last.pth"
    note(f"{cell.name}: trained {seconds:.0f} s, status {status}, checkpoint {checkpoint.is_file()}")
    if not checkpoint.is_file():
        return False
    judge = {
        **{"root": str(args.out / "towns"), "depth": str(args.out / "depth"), "cache": str(args.out / "panoramas")},
        **{"arm": cell.arm, "towns": cell.towns, "seed": cell.seed, "panorama": ARMS[cell.arm].panorama},
        **{"inputs": ARMS[cell.arm].inputs, "size": sizes(args)[int(ARMS[cell.arm].panorama)], "seconds": seconds},
        **{"frames": args.frames, "checkpoint": str(checkpoint), "pictures": cell.seed == 0},
    }
    write_json(folder / "judge.json", judge)
    command = [sys.executable, str(Path(__file__).with_name("learn_towns_judge.py")), str(folder)]
    with (folder / "judge.txt").open("w") as log:
        done = subprocess.run(command, env=env, stdout=log, stderr=subprocess.STDOUT, check=False)
    note(f"{cell.name}: judged, status {done.returncode}")
    return done.returncode == 0


def train(
    cell: Cell, args: argparse.Namespace, env: dict[str, str], folder: Path, end: float, extra: Sequence[str] = ()
) -> int | str:
    """Train until the plan or the time is over; every epoch leaves a checkpoint."""
    if (folder / "run" / "checkpoint-final.pth").is_file():
        return 0
    boot = (
        "import sys; from mapanything_opv2v.host import torchvision_ops; torchvision_ops.define_missing(); "
        "from mapanything_opv2v.train import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", boot, *extra, *overrides(cell, args, folder)]
    with (folder / "train.txt").open("a") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            return process.wait(max(1.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return "stopped in time"


def overrides(cell: Cell, args: argparse.Namespace, folder: Path) -> list[str]:
    """Return the Hydra overrides of a cell: the package's experiment with a small model and small images."""
    arm = ARMS[cell.arm]
    (width, height), channels = sizes(args)[int(arm.panorama)], 96 if args.toy else 384
    frames = args.frames * (3 if cell.arm == "one" else 1)
    shared = [
        f"+experiment={arm.experiment}",
        "model=opv2v_tiny",
        "model.pretrained=null",
        "model.model_config.pretrained_checkpoint_path=null",
        f"hydra.run.dir={folder / 'run'}",
        f"model.encoder.enc_embed_dim={channels}",
        f"model.info_sharing.module_args.dim={channels}",
        f'dataset.resolution_train="({width},{height})"',
        f"dataset.num_views={arm.views}",
        f"dataset.opv2v.val.num_views={arm.views}",
        f"dataset.num_workers={args.loaders}",
        f"dataset.steps_per_epoch={args.steps}",
        "dataset.max_sets_per_epoch=null",
        "dataset.train.variable_num_views=false",
        f"dataset.opv2v.train.max_scenes={cell.towns * frames}",
        "dataset.opv2v.train.transform=imgnorm",
        f"train_params.max_num_of_imgs_per_gpu={args.samples * arm.views}",
        f"train_params.epochs={args.epochs}",
        f"train_params.warmup_epochs={0.5 if args.toy else 1}",
        f"train_params.eval_freq={1 if args.toy else 2}",
        "train_params.print_freq=20",
        "train_params.keep_freq=0",
        f"train_params.seed={cell.seed}",
        f"train_params.lr={args.lr}",
        "train_params.min_lr=1e-6",
        f"train_params.submodule_configs.encoder.lr={args.lr}",
        *arm.overrides,
    ]
    if not args.toy:
        shared += [
            f"model.encoder.input_size={width}",
            "model.info_sharing.module_args.depth=12",
            "model.info_sharing.module_args.indices=[5,8]",
            "model.info_sharing.module_args.num_heads=6",
            "model.pred_head.feature_head.feature_dim=64",
            "model.pred_head.feature_head.layer_dims=[48,96,192,384]",
        ]
    if not gpu_count():
        shared.append("train_params.amp=0")
    if cell.arm != "one":
        shared.append("dataset.opv2v.main_agent_policy=random")
    if arm.panorama:
        shared.append(f"dataset.opv2v.panorama_cache={args.out / 'panoramas'}")
    else:
        shared += ["dataset.opv2v.train.aug_crop=0"]
    return shared


if __name__ == "__main__":
    sys.exit(main())
