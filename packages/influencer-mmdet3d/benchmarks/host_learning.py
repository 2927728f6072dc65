"""The host's criterion against `influence` in the real host: AP on held-out synthetic scenes, paired by seed.

Small `S3DISOneFormer3D` and `ScanNetOneFormer3D` (the shipped configs, shrunk as in `tests/host/tiny.py`) are trained
by the host's own runner on scenes on disk, each cell (model, criterion, seed) in a process of its own with one thread,
on the GPU where torch sees one: spconv must then be its build for CUDA, or an empty CUDA_VISIBLE_DEVICES hide the GPU.
The seed draws the scenes, the initial weights and the order of the batches: both criteria get the same. Every cell
leaves a file; the same command goes on after a stop. ONEFORMER3D_ROOT names the host's checkout.

    python benchmarks/host_learning.py --out bench_out/host
    python benchmarks/host_learning.py --out bench_out/host --jobs 8 --seeds 0 1 2 3 4 5 6 7
    python benchmarks/host_learning.py --out bench_out/host --criteria host influence influence:score_others=1
    python benchmarks/host_learning.py --out bench_out/host --gpus 0 1 --jobs 24 --seeds 0 1 2 3 4
    python benchmarks/host_learning.py --out bench_out/host --models s3dis --criteria influence:groups=3,start=voxels
    python benchmarks/host_learning.py --out bench_out/host --summarise
    python benchmarks/host_learning.py --out bench_out/trial --models s3dis --seeds 0 --steps 4 --rooms 2 1

It is no `bench_*.py`, which `nox -s bench-*` runs without arguments: a cell takes minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import host_summary
from host_criteria import CRITERIA, read
from influencer_mmdet3d.data.synthetic import write_s3dis, write_scannet
from influencer_mmdet3d.files import write_whole
from influencer_mmdet3d.host.pin import host_root, load_pin

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent / "tests" / "host"  # home of the small configs and of what stands in for a GPU
SETTINGS: dict[str, dict[str, Any]] = {
    "s3dis": {
        "steps": 800,
        "rooms": [48, 16],
        "points": 4000,
        "objects": [3, 8],
        "config": {
            "model.voxel_size": 0.2,
            "model.decoder.num_instance_queries": 40,
            "train_dataloader.batch_size": 2,
            "optim_wrapper.optimizer.lr": 0.003,
        },
    },
    "scannet": {
        "steps": 800,
        "rooms": [48, 16],
        "points": 2000,
        "objects": [3, 8],
        "superpoint_size": 0.8,
        "config": {
            "model.voxel_size": 0.2,
            "train_dataloader.batch_size": 2,
            "optim_wrapper.optimizer.lr": 0.003,
        },
    },
}
"""Of each model: training steps, rooms for training and held out, points of a room, objects beside floor, ceiling and
walls, side of superpoints in metres (they are ScanNet's queries), and what differs from `tests/host/tiny.py`."""


class Cell(NamedTuple):
    """Name of one training."""

    model: str
    criterion: str
    seed: int

    def path(self, out: Path) -> Path:
        """Return the cell's result file."""
        return out / "cells" / f"{self.model}.{self.criterion.replace(':', '-')}.{self.seed}.json"

    def __str__(self) -> str:
        return f"{self.model} {self.criterion} seed {self.seed}"


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of scenes, runs and cells")
    parser.add_argument("--models", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument(
        "--criteria", nargs="+", default=list(CRITERIA), metavar="NAME[:OPTION=VALUE,...]",
        help="host or influence, with options of their own and of the decoder (default both as shipped)",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default 0 1 2")
    default = {
        name: ", ".join(f"{settings[name]} for {model}" for model, settings in SETTINGS.items())
        for name in ("steps", "rooms")
    }
    parser.add_argument("--steps", type=int, help=f"default {default['steps']}")
    parser.add_argument(
        "--rooms", type=int, nargs=2, metavar=("TRAINING", "HELD_OUT"), help=f"default {default['rooms']}"
    )
    parser.add_argument("--evaluations", type=int, help="times that held-out rooms are evaluated (default 4)")
    parser.add_argument("--jobs", type=int, default=1, help="cells side by side, one thread each (default 1)")
    parser.add_argument(
        "--gpus", nargs="+", metavar="GPU", help="what cells see in turn as CUDA_VISIBLE_DEVICES (default: as it is)"
    )
    parser.add_argument("--summarise", action="store_true", help="print the table of --out and write table.md")
    args = parser.parse_args(argv)
    for name in args.criteria:
        try:
            read(name)
        except ValueError as error:
            parser.error(f"--criteria: {error}")
    counts = {"steps": [args.steps], "jobs": [args.jobs], "evaluations": [args.evaluations], "rooms": args.rooms or []}
    for name, values in counts.items():
        if any(value is not None and value < 1 for value in values):
            parser.error(f"--{name} must be at least 1, got {' '.join(map(str, values))}")
    return args


def settings_of(args: argparse.Namespace, model: str) -> dict[str, Any]:
    """Return the settings of a model under a command line."""
    names = ("steps", "rooms", "evaluations")
    changes = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return {**SETTINGS[model], **changes}


def is_done(cell: Cell, settings: Mapping[str, Any], out: Path) -> bool:
    """Say whether a cell's file is there.

    Raises
    ------
    ValueError
        If it is of other settings: cells of one folder must compare.
    """
    path = cell.path(out)
    if not path.exists():
        return False
    was = json.loads(path.read_text())["settings"]
    other = [
        f"{name}={was.get(name)} (now {settings.get(name)})"
        for name in {**was, **settings}
        if was.get(name) != settings.get(name)
    ]
    if other:
        raise ValueError(f"{path} was made with {', '.join(other)}; give the same settings or another --out")
    return True


def write_scenes(model: str, seed: int, settings: Mapping[str, Any], out: Path) -> Path:
    """Write the scenes of a model and seed unless they are there; return their folder."""
    made_with = {name: value for name, value in settings.items() if name not in ("steps", "config", "evaluations")}
    digest = hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()[:8]
    root = out / "scenes" / f"{model}.{seed}.{digest}"
    if root.exists():
        return root
    beside = root.with_name(f".{root.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    points, (low, high), (training, held_out) = (settings[name] for name in ("points", "objects", "rooms"))
    if model == "s3dis":
        for area, rooms in ((1, training), (5, held_out)):  # the config holds out Area 5
            write_s3dis(
                beside, areas=[area], rooms_per_area=rooms, seed=seed, points_per_room=points, objects=(low, high)
            )
    else:
        write_scannet(
            beside,
            scenes={"train": training, "val": held_out},
            seed=seed,
            points_per_scene=points,
            objects=(low, high),
            superpoint_size=settings["superpoint_size"],
        )
    beside.replace(root)
    return root


def host_environment(host: Path, gpu: str | None) -> dict[str, str]:
    """Return the environment of a process that runs the host with one thread, on `gpu` alone if given."""
    path = [TESTS / "standins", TESTS, host, *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, load_pin().root_env: str(host), "PYTHONPATH": os.pathsep.join(map(str, path))}
    env |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"), "1")
    return env if gpu is None else {**env, "CUDA_VISIBLE_DEVICES": gpu}


def train_cell(
    cell: Cell, settings: Mapping[str, Any], scenes: Path, out: Path, host: Path, gpu: str | None
) -> dict[str, Any]:
    """Train a cell in a process of its own, which sees `gpu` alone if given, and return its file's content.

    Raises
    ------
    RuntimeError
        If the process fails; the message names its log and ends with the log's last lines.
    """
    work_dir, log = out / "runs" / cell.path(out).stem, out / "logs" / f"{cell.path(out).stem}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    task = {**cell._asdict(), "settings": settings, "data": str(scenes.resolve())}
    task |= {"work_dir": str(work_dir.resolve()), "result": str(cell.path(out).resolve())}
    env = host_environment(host, gpu)
    command = [sys.executable, str(HERE / "host_cell.py"), json.dumps(task)]
    with log.open("wb") as file:
        done = subprocess.run(command, env=env, stdout=file, stderr=subprocess.STDOUT)
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
        raise RuntimeError(f"exit code {done.returncode}, {log}:\n{tail}")
    return json.loads(cell.path(out).read_text())


def write_all(
    missing: Sequence[Cell], settings: Mapping[str, Mapping[str, Any]], args: argparse.Namespace
) -> dict[tuple[str, int], Path]:
    """Write the scenes that cells need, `--jobs` folders at a time; return the folders by model and seed."""
    wanted = list(dict.fromkeys((cell.model, cell.seed) for cell in missing))
    if args.jobs == 1 or len(wanted) == 1:
        return {(model, seed): write_scenes(model, seed, settings[model], args.out) for model, seed in wanted}
    with ProcessPoolExecutor(args.jobs) as processes:
        folders = [processes.submit(write_scenes, model, seed, settings[model], args.out) for model, seed in wanted]
        return {pair: folder.result() for pair, folder in zip(wanted, folders)}


def train(args: argparse.Namespace, run: Callable[..., dict[str, Any]] = train_cell) -> int:
    """Train the cells that are missing; return 1 if one failed."""
    host = host_root()
    settings = {model: settings_of(args, model) for model in args.models}
    cells = [Cell(model, name, seed) for seed in args.seeds for model in args.models for name in args.criteria]
    missing = [cell for cell in cells if not is_done(cell, settings[cell.model], args.out)]
    print(f"{len(cells)} cells, {len(cells) - len(missing)} there already; {args.jobs} at a time", flush=True)
    scenes = write_all(missing, settings, args)
    begin, failed, gpus = time.perf_counter(), 0, itertools.cycle(args.gpus or [None])
    with ThreadPoolExecutor(args.jobs) as pool:
        futures = {
            pool.submit(
                run, cell, settings[cell.model], scenes[cell.model, cell.seed], args.out, host, next(gpus)
            ): cell
            for cell in missing
        }
        try:
            for number, future in enumerate(as_completed(futures), 1):
                error = future.exception()
                failed += error is not None
                what = progress(future.result()) if error is None else f"{type(error).__name__}: {error}"
                at = f"[{number}/{len(missing)}, {time.perf_counter() - begin:.0f} s]"
                print(f"{at} {futures[future]}: {what}", flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # else Ctrl-C starts the cells that wait
            raise
    if failed:
        print(f"{failed} cells failed: the same command goes on", flush=True)
    return 1 if failed else 0


def progress(result: Mapping[str, Any]) -> str:
    """Return a cell's result in a line."""
    held_out, training = result["held_out"], result["training"]
    return (
        f"held-out AP {held_out['ap']:.3f} AP50 {held_out['ap50']:.3f}, without NMS AP "
        f"{result['without_nms']['ap']:.3f}, training scenes AP {training['ap']:.3f}, "
        f"{result['seconds']:.0f} s"
    )


def summarise(out: Path) -> int:
    """Print the table and write table.md."""
    table = host_summary.markdown(host_summary.load(out))
    write_whole(out / "table.md", table + "\n")
    print(table)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the two jobs."""
    args = parse(None if argv is None else list(argv))
    try:
        return summarise(args.out) if args.summarise else train(args)
    except ValueError as error:
        print(f"host_learning.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
