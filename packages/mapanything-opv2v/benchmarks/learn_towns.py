"""Does cooperation learn? Train MapAnything on towns that need it and judge it on towns it has never seen.

One command renders the towns, packs their views (learn_towns_pack.py), trains the cells (arm x towns x seed) side by
side on the GPUs, judges each on 40 held-out towns with its controls, and writes a table. A cell that is done is not
done again; the same command goes on. The models have about 384 channels and random weights; launcher, configs, losses
and views are the package's. Needs a MapAnything checkout on PYTHONPATH (MAPANYTHING_ROOT) and this package installed;
no network:

    python learn_towns.py --out learned --seconds 2400
    python learn_towns.py --out learned --cells coop:400:0,coop:400:1,one:400:0 --seconds 1200
    python learn_towns.py --out learned_toy --toy

Controls, in every cell: the constant fitted on training towns (no image is looked at), the partner's images taken from
another town, the main agent's views only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any

import learn_towns_cast
import learn_towns_pack
from learn_towns_arms import ARMS, gpu_count, overrides, sizes
from mapanything_opv2v import rawdata, synthetic
from mapanything_opv2v.files import write_json
from mapanything_opv2v.synthetic import statistics

SPLIT_SEEDS = {"train": 100, "validate": 200, "test": 300}
FRAME_SECONDS = 2.0
"""Between the frames of a town: vehicles have moved on, so that the frames are not one."""

AGENTS = 5
FARTHEST_M = 50.0
"""Vehicles of a training sample are not farther apart; the goals are about 5 to 40 m."""

LEAST_SECONDS = 20
"""A training is not begun when less time is left."""

KEEPING_S = 5
"""Seconds that a start has to keep its state when the time is over."""


FITTING_S = 8
"""Seconds before the end of which the last step is planned: checkpoint and last validation follow it."""

DEFAULT_CELLS = (
    "coop:400:0,coop:400:1,coop:400:2,one:400:0,oracle:400:0,coop:100:0,coop:100:1,coop:100:2,coop:25:0,fixed:400:0,"
    "range_given:400:0,pinhole:400:0,identity:400:0,no_pairwise:400:0"
)


@dataclass(frozen=True)
class Cell:
    """One training; a start and what goes on from it use as many cast towns, others as many rendered ones."""

    arm: str
    towns: int | None
    seed: int

    @property
    def name(self) -> str:
        """Return the folder's name."""
        return f"{self.arm}-{self.towns or 'all'}-{self.seed}"


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


def note(text: str) -> None:
    """Print at once."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    told = "ARM:TOWNS:SEED,...; TOWNS may be all"
    parser.add_argument("--cells", default=DEFAULT_CELLS, help=f"{told}; arms: {', '.join(ARMS)}")
    parser.add_argument("--seconds", type=float, default=2400, help="for everything; trainings stop in time")
    parser.add_argument("--judge_seconds", type=float, default=100, help="of these for judging at the end")
    parser.add_argument("--per_gpu", type=int, default=5, help="trainings that share a GPU")
    parser.add_argument("--towns", type=int, default=400, help="training towns that are rendered")
    parser.add_argument("--held_out", type=int, default=40, help="towns for judging")
    parser.add_argument("--frames", type=int, default=3, help="frames of a town")
    parser.add_argument("--steps", type=int, default=250, help="steps of an epoch")
    parser.add_argument("--epochs", type=int, default=24, help="epochs that the learning rate is planned for")
    parser.add_argument("--samples", type=int, default=32, help="samples of a step")
    parser.add_argument("--lr", type=float, default=3e-4, help="learning rate: the model starts from nothing")
    parser.add_argument("--min_lr", type=float, default=1e-6, help="at the end of the plan")
    parser.add_argument("--layers", type=int, default=12, help="layers of the part that all views share")
    told = "after a start, for what it trained; grows over a third of the plan"
    parser.add_argument("--trunk_lr", type=float, help=told)
    told = "epochs get as many steps as let the plan end with the time, after a first one of --steps"
    parser.add_argument("--fit", action="store_true", help=told)
    parser.add_argument("--start_seconds", type=float, default=420, help="for the start, where an arm has one")
    parser.add_argument("--start", type=json.loads, default={}, help="JSON of more options of the start")
    told = "take the starts of cells of this name, in place of own ones: started-all; the seed is the cell's"
    parser.add_argument("--start_from", default="", help=told)
    parser.add_argument("--gap_free", action="store_true", help="the start sees all around, also what no camera covers")
    parser.add_argument("--cast_towns", type=int, default=2000, help="towns of the start, at most")
    parser.add_argument("--cast_seconds", type=float, default=100, help="for casting them, at most")
    parser.add_argument("--workers", type=int, default=0, help="processes for rendering; 0: all cores")
    parser.add_argument("--validate_on", type=int, default=256, help="samples of a validation")
    parser.add_argument(
        "--retry", default="", help="options of the launcher with which a training that fails is tried again"
    )
    parser.add_argument("--override", action="append", default=[], help="further Hydra override of every cell")
    parser.add_argument("--profile", action="store_true", help="write where the time of ten steps goes")
    parser.add_argument("--as_written", action="store_true", help="do not compile the start on a GPU")
    parser.add_argument("--later", action="store_true", help="leave judging to a later call")
    parser.add_argument("--toy", action="store_true", help="tiny, for a CPU: shows that everything runs")
    args = parser.parse_args(argv)
    if args.toy:
        args.cells = "coop:2:0,one:2:0,oracle:2:0,pinhole:2:0" if args.cells == DEFAULT_CELLS else args.cells
        args.towns, args.held_out, args.frames, args.steps, args.epochs = 2, 2, 2, 2, 1
        args.samples, args.per_gpu, args.workers, args.validate_on, args.layers = 2, 1, 1, 4, 4
    args.cells = [
        Cell(arm, None if towns == "all" else int(towns), int(seed))
        for arm, towns, seed in (c.split(":") for c in args.cells.split(","))
    ]
    for cell in args.cells:
        if cell.arm not in ARMS or (cell.towns or 0) > (args.cast_towns if ARMS[cell.arm].start else args.towns):
            towns = f"{args.towns} towns are rendered, {args.cast_towns} are cast for starts"
            parser.error(f"cell {cell}: arms are {', '.join(ARMS)}; {towns}")
    args.out = args.out.resolve()
    args.workers = args.workers or os.cpu_count() or 1
    return args


def render(args: argparse.Namespace) -> None:
    """Write the towns and pack their views, once."""
    done = args.out / "towns.json"
    if done.is_file():
        return
    root = args.out / "warm_up"  # compiled once, before many processes would do it at the same time
    synthetic.write_town(root, seed=0, agents=1, image_size=(80, 60), lidar_size=(4, 64), layout="streets")
    open_split(root, root, "train", sizes(args)[1], panorama=True).sample(0)
    note("compiled")
    for split, towns in (("test", args.held_out), ("validate", max(2, args.held_out // 2)), ("train", args.towns)):
        synthetic.write_town(
            args.out / "towns",
            seed=SPLIT_SEEDS[split],
            sequences=towns,
            frames=args.frames,
            agents=AGENTS,
            splits=(split,),
            depth_root=args.out / "depth",
            image_size=(160, 120),
            lidar_size=(2, 16),
            layout="streets",
            frame_seconds=FRAME_SECONDS,
            workers=args.workers,
        )
        note(f"{split}: rendered")
        layouts = sorted({ARMS[cell.arm].panorama for cell in args.cells} | {True})
        for panorama in layouts:
            data = open_split(args.out / "towns", args.out / "depth", split, sizes(args)[int(panorama)], panorama)
            learn_towns_pack.pack(data, packed(args, panorama) / split, args.workers)
        note(f"{split}: packed")
    if any(ARMS[cell.arm].start for cell in args.cells):
        cover = learn_towns_cast.covered(packed(args, True) / "test") | args.gap_free
        options: dict[str, Any] = {"workers": args.workers, "seconds": args.cast_seconds}
        learn_towns_cast.cast(packed(args, True) / "cast", "train", args.cast_towns, sizes(args)[1], cover, **options)
        if args.gap_free:
            held_out = packed(args, True) / "cast_validate"
            learn_towns_cast.cast(held_out, "validate", args.held_out, sizes(args)[1], cover, workers=args.workers)
        note("cast: packed")
    held_out = rawdata.index_tree(args.out / "towns", depth_root=args.out / "depth", splits=["test"])
    lines = list(statistics.lines(statistics.of_tree(held_out, workers=args.workers)))
    print("\n".join(lines), flush=True)
    write_json(done, {"statistics": lines, "towns": args.towns, "held_out": args.held_out})


def open_split(root: Path, depth: Path, split: str, size: tuple[int, int], panorama: bool) -> Any:
    """Return the package's dataset of single vehicles, all of a vehicle's cameras or its panorama."""
    from mapanything_opv2v.host import torchvision_ops

    torchvision_ops.define_missing()
    from mapanything_opv2v.host.models import predicting

    kind = "OPV2VCylindricalDataset" if panorama else "OPV2VDataset"
    data = predicting.DataOptions(
        root=root, depth_root=depth, dataset=kind, split=split, num_views=1 if panorama else 4, resolution=size
    )
    return predicting.open_dataset(data, "patch_embedder")


def packed(args: argparse.Namespace, panorama: bool) -> Path:
    """Return where the packed views of a layout lie."""
    return Path(args.out / "packed" / ("panorama" if panorama else "pinhole"))


def run_cell(cell: Cell, args: argparse.Namespace, gpu: str, end_training: float) -> bool:
    """Train and judge a cell, unless that is done; say whether it is done."""
    folder = args.out / "cells" / cell.name
    if (folder / "judged.json").is_file():
        return True
    checkpoint = folder / "run" / "checkpoint-last.pth"
    if end_training - time.monotonic() < LEAST_SECONDS and (args.later or not checkpoint.is_file()):
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
    if ARMS[cell.arm].start and not start(cell, args, env, folder, end_training):
        return False
    if not ARMS[cell.arm].dense:
        return (folder / "start.judged.json").is_file()
    status = train(cell, args, env, folder, end_training)
    if status not in (0, "stopped in time") and args.retry:
        note(f"{cell.name}: status {status}, once more with {args.retry}")
        status = train(cell, args, env, folder, end_training, args.retry.split())
    seconds = time.monotonic() - began
    note(f"{cell.name}: trained {seconds:.0f} s, status {status}, checkpoint {checkpoint.is_file()}")
    if not checkpoint.is_file() or (args.later and status == "stopped in time"):
        return False
    arm = ARMS[cell.arm]
    judge = {
        **{"arm": cell.arm, "towns": cell.towns or "all", "seed": cell.seed, "seconds": seconds},
        **{"panorama": arm.panorama, "inputs": arm.inputs, "vehicles": arm.vehicles},
        **{"size": sizes(args)[int(arm.panorama)]},
        **{"packed": str(packed(args, arm.panorama)), "farthest_m": FARTHEST_M, "checkpoint": str(checkpoint)},
        **{"pictures": cell.seed == 0},
    }
    write_json(folder / "judge.json", judge)
    command = [sys.executable, str(Path(__file__).with_name("learn_towns_judge.py")), str(folder)]
    with (folder / "judge.txt").open("w") as log:
        done = subprocess.run(command, env=env, stdout=log, stderr=subprocess.STDOUT, check=False)
    note(f"{cell.name}: judged, status {done.returncode}")
    return done.returncode == 0


def start(cell: Cell, args: argparse.Namespace, env: dict[str, str], folder: Path, end: float) -> bool:
    """Train the start of a cell, once, also in several calls; say whether it is there."""
    weights = folder / "start.pth"
    if args.start_from and not weights.is_file():
        found = args.out / "cells" / f"{args.start_from}-{cell.seed}" / "start.pth"
        if not found.is_file():
            note(f"{cell.name}: there is no start {found} yet")
            return False
        shutil.copyfile(found, weights)
    if not weights.is_file():
        watched = packed(args, True) / ("cast_validate" if args.gap_free else "validate")
        plan = {"cast": packed(args, True) / "cast", "validate": watched, "out": weights}
        told = {**{name: str(path) for name, path in plan.items()}, "seconds": args.start_seconds, "seed": cell.seed}
        told |= {"points": ARMS[cell.arm].points, "test": str(packed(args, True) / "test"), "towns": cell.towns}
        told |= {"compiled": not args.as_written, **args.start}
        told |= {"batch": 4, "every": 2} if args.toy else {}
        script = str(Path(__file__).with_name("learn_towns_start.py"))
        command = [sys.executable, script, json.dumps(told), *overrides(cell, args, folder)]
        status = run(command, env, folder / "start.txt", end, signal.SIGTERM)
        note(f"{cell.name}: start, status {status}, weights {weights.is_file()}")
    return weights.is_file()


def train(
    cell: Cell, args: argparse.Namespace, env: dict[str, str], folder: Path, end: float, extra: Sequence[str] = ()
) -> int | str:
    """Train until the plan or the time is over; every epoch leaves a checkpoint."""
    if (folder / "run" / "checkpoint-final.pth").is_file():
        return 0
    arm = ARMS[cell.arm]
    job = {
        **{split: str(packed(args, arm.panorama) / split) for split in ("train", "validate")},
        **{"towns": cell.towns, "seed": cell.seed, "vehicles": arm.vehicles, "roll": arm.roll},
        **({"train": str(packed(args, True) / "cast")} if arm.start else {}),
        **{"farthest_m": FARTHEST_M, "samples": args.samples, "validate_on": args.validate_on},
        **({"until": time.time() + end - time.monotonic() - FITTING_S, "epochs": args.epochs} if args.fit else {}),
        **{"main": arm.main, "watch": str(folder / "watch.jsonl")},
        **{"profile": str(folder / "profile.txt") if args.profile else None},
    }
    script = str(Path(__file__).with_name("learn_towns_pack.py"))
    command = [sys.executable, script, json.dumps(job), *extra, *overrides(cell, args, folder)]
    return run(command, env, folder / "train.txt", end)


def run(
    command: Sequence[str], env: dict[str, str], log_file: Path, end: float, first: signal.Signals | None = None
) -> int | str:
    """Run a command until it ends or the time is over; return its status. `first` lets it keep its state before."""
    with log_file.open("a") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            return process.wait(max(1.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            if first is not None:
                os.killpg(process.pid, first)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(KEEPING_S)
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return "stopped in time"


if __name__ == "__main__":
    sys.exit(main())
