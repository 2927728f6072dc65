"""The time of a whole training step of the real host at full size, with its own criterion and with ours.

The shipped configs are built as they are (their models, batch sizes and pipelines), on synthetic rooms. A process for
each model loads a few batches, then times forward, backward and the optimizer's step of every criterion on them; data
loading is not timed. Needs ONEFORMER3D_ROOT, and a GPU with spconv's build for CUDA.

    python benchmarks/host_time.py --out bench_out/time
    python benchmarks/host_time.py --out bench_out/time --models s3dis --criteria host influence influence:groups=6
    python benchmarks/host_time.py --out bench_out/trial --points 20000 --repeats 2 --batches 1
"""

from __future__ import annotations

import argparse
import copy
import gc
import itertools
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from host_learning import HERE, host_environment
from influencer_mmdet3d.data.synthetic import write_s3dis, write_scannet
from influencer_mmdet3d.files import write_whole
from influencer_mmdet3d.host.pin import host_root

CRITERIA = ("host", "influence", "influence:groups=3", "influence:groups=6")
OBJECTS = (20, 40)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of rooms and results")
    parser.add_argument("--models", nargs="+", choices=("s3dis", "scannet"), default=["s3dis", "scannet"])
    parser.add_argument("--criteria", nargs="+", default=list(CRITERIA), help="names as of host_learning.py")
    parser.add_argument("--points", type=int, default=180_000, help="points of a room (default 180000)")
    parser.add_argument("--superpoint-size", type=float, default=0.25, help="side of ScanNet's superpoints in metres")
    parser.add_argument("--batches", type=int, default=4, help="batches that steps take in turn (default 4)")
    parser.add_argument("--repeats", type=int, default=20, help="steps that are timed (default 20)")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def rooms(model: str, args: argparse.Namespace) -> Path:
    """Write the rooms of a model unless they are there; return their folder."""
    root: Path = args.out / f"rooms.{model}.{args.points}.{args.superpoint_size}"
    if root.exists():
        return root
    part = root.with_name(f".{root.name}.part")
    if model == "s3dis":
        write_s3dis(part, areas=[1], rooms_per_area=8, seed=0, points_per_room=args.points, objects=OBJECTS)
    else:
        write_scannet(
            part, scenes={"train": 8, "val": 1}, seed=0, points_per_scene=args.points, objects=OBJECTS,
            superpoint_size=args.superpoint_size,
        )  # fmt: skip
    part.replace(root)
    return root


def build(model: str, criterion: str, root: Path, work_dir: Path) -> Any:
    """Return the shipped config on these rooms."""
    from host_criteria import configure, read
    from mmengine.config import Config
    from tiny import CONFIGS

    stem = {"s3dis": "s3dis_area5", "scannet": "scannet"}[model]
    kind = "baseline" if read(criterion).criterion == "host" else "influencer"
    cfg = Config.fromfile(CONFIGS / f"{stem}_{kind}.py")
    configure(cfg, criterion)
    loader = cfg.train_dataloader
    if model == "s3dis":
        loader.dataset = loader.dataset.datasets[0]
        loader.dataset.ann_file = "s3dis_infos_Area_1.pkl"
    loader.dataset.data_root = str(root)
    loader.update(num_workers=0, persistent_workers=False, sampler=dict(type="InfiniteSampler", shuffle=True))
    cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=100, val_interval=100)
    cfg.param_scheduler = None
    for part in ("val", "test"):
        cfg[f"{part}_dataloader"] = cfg[f"{part}_evaluator"] = cfg[f"{part}_cfg"] = None
    cfg.update(load_from=None, custom_hooks=[], work_dir=str(work_dir), log_level="WARNING")
    cfg.randomness = dict(seed=0)
    cfg.visualizer = dict(type="Visualizer", vis_backends=[])
    return cfg


def work(args: argparse.Namespace) -> None:
    """Time the criteria of one model in this process; prints a line of JSON for each."""
    import torch
    from mmengine.runner import Runner

    torch.set_num_threads(1)
    model, batches = args.worker, []
    for criterion in args.criteria:
        cfg = build(model, criterion, rooms(model, args).resolve(), args.out / "runs" / criterion.replace(":", "-"))
        runner = Runner.from_cfg(cfg)
        if not batches:
            batches = list(itertools.islice(iter(runner.build_dataloader(cfg.train_dataloader)), args.batches))
        network, optimizer = runner.model.train(), runner.build_optim_wrapper(cfg.optim_wrapper)
        found = measure(network, optimizer, batches, args)
        print(json.dumps({"model": model, "criterion": criterion, **found}), flush=True)
        del runner, network, optimizer
        gc.collect()


def measure(network: Any, optimizer: Any, batches: list[Any], args: argparse.Namespace) -> dict[str, Any]:
    """Time steps on batches in turn."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    shapes: list[Any] = []
    inner = network.criterion.inst_criterion

    def watched(pred: dict[str, Any], insts: list[Any]) -> Any:
        shapes.append([[*mask.shape, len(inst.sp_masks)] for mask, inst in zip(pred["masks"], insts)])
        return inner(pred, insts)

    network.criterion.inst_criterion = watched
    times, warm = [], 2 * len(batches)
    for number, batch in zip(range(args.repeats + warm), itertools.cycle(batches)):
        if number == warm and device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        _wait(device)
        begin = time.perf_counter()
        network.train_step(copy.deepcopy(batch), optimizer)
        _wait(device)
        times.append(1e3 * (time.perf_counter() - begin))
    measured = times[warm:]
    return {
        "ms": statistics.median(measured),
        "least_ms": min(measured),
        "quartiles_ms": statistics.quantiles(measured, n=4) if len(measured) > 1 else None,
        "peak_gb": torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None,
        "queries_points_instances": shapes[-len(batches) :],
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
    }


def _wait(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def main() -> int:
    """Time every criterion; prints a line for each, and keeps all in a file."""
    args = parse()
    if args.worker:
        work(args)
        return 0
    host, found, failed = host_root(), [], 0
    for model in args.models:
        rooms(model, args)
        command = [sys.executable, str(HERE / "host_time.py"), "--out", str(args.out)]
        for name in ("points", "superpoint_size", "batches", "repeats"):
            command += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
        command += ["--worker", model, "--criteria", *args.criteria]
        with subprocess.Popen(command, env=host_environment(host, None), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            for line in process.stdout:
                if line.startswith("{"):
                    found.append(json.loads(line))
                    row = found[-1]
                    print(f"{model} {row['criterion']}: {row['ms']:.1f} ms, peak {row['peak_gb']} GB", flush=True)
                    write_whole(args.out / f"times.{'.'.join(args.models)}.json", json.dumps(found, indent=1))
        failed += process.returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
