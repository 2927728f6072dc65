"""One cell of `host_learning.py`, in a process of its own: the real host, trained and evaluated by its own runner.

`host_learning.py` starts it with the host, `tests/host` (small configs) and its stand-ins on PYTHONPATH.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import spconv
import tiny
import torch
from host_criteria import configure
from influencer_mmdet3d.files import write_whole
from mmengine.hooks import Hook
from mmengine.runner import Runner

METRICS = {"ap": "all_ap", "ap50": "all_ap_50%", "ap25": "all_ap_25%", "miou": "miou", "pq": "pq"}
"""Names in the cell's file, and those of the host's evaluator."""


class Curve(Hook):
    """Keep what the host's validation finds, with its step and the seconds of training until then."""

    def __init__(self) -> None:
        self.points: list[dict[str, float]] = []
        self.seconds = 0.0
        self.since = 0.0

    def before_train(self, runner: Runner) -> None:
        """Start the clock once the model and the data are there."""
        self.since = time.perf_counter()

    def before_val_epoch(self, runner: Runner) -> None:
        """Stop the clock."""
        self.seconds += time.perf_counter() - self.since

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Note the result and go on."""
        self.points.append({"step": runner.iter, "seconds": self.seconds, **named(metrics or {})})
        self.since = time.perf_counter()


def named(metrics: dict[str, float]) -> dict[str, float]:
    """Return the evaluator's figures under short names."""
    return {name: float(metrics[key]) for name, key in METRICS.items()}


def build(task: dict[str, Any]) -> Any:
    """Return the config of a cell: the shipped one, made small, with the settings of its model."""
    settings = task["settings"]
    criterion: dict[str, Any] | None = None if task["criterion"].partition(":")[0] == "host" else {}
    cfg = getattr(tiny, task["model"])(
        Path(task["data"]), Path(task["work_dir"]), criterion, steps=settings["steps"], seed=task["seed"], held_out=True
    )
    configure(cfg, task["criterion"])
    cfg.merge_from_dict(settings["config"])
    cfg.train_cfg.val_interval = max(1, settings["steps"] // settings.get("evaluations", 4))
    return cfg


def run(task: dict[str, Any]) -> dict[str, Any]:
    """Train a cell, evaluate it on held-out scenes, with NMS and without, and on training scenes; return its file."""
    begin = time.perf_counter()
    cfg = build(task)
    runner = Runner.from_cfg(cfg)
    curve = Curve()
    runner.register_hook(curve)
    runner.train()
    training = named(runner.test())
    points = list(curve.points)  # the next evaluation is not of the curve
    runner.model.test_cfg.nms = False
    return {
        **{name: task[name] for name in ("model", "criterion", "seed", "settings")},
        "held_out": {name: points[-1][name] for name in METRICS},
        "without_nms": named(runner.val()),
        "training": training,
        "curve": points,
        "inst_loss": loss_summary(runner.message_hub.get_scalar("train/inst_loss").data[0]),
        "train_seconds": points[-1]["seconds"],
        "seconds": time.perf_counter() - begin,
        "options": options(runner.model.criterion.inst_criterion, cfg),
        "decoder": cfg.model.decoder.type,
        "device": device_name(),
        # spconv's builds for CUDA are distributions of other names
        "versions": {name: version(name) for name in ("torch", "mmengine", "mmdet3d")} | {"spconv": spconv.__version__},
    }


def loss_summary(losses: Any) -> dict[str, float]:
    """Return the mean at both ends of training over finite values, and how many are not finite.

    The host's criterion is NaN where it matches no query of a scene; its gradients are not, and training goes on.
    """
    finite = np.isfinite(losses)
    tenth = max(1, len(losses) // 10)
    ends = {"first_tenth": slice(0, tenth), "last_tenth": slice(len(losses) - tenth, None)}
    means = {name: float(losses[part][finite[part]].mean()) for name, part in ends.items()}
    return {**means, "steps_not_finite": int((~finite).sum())}


def options(criterion: Any, cfg: Any) -> dict[str, Any]:
    """Return every option of the criterion that was trained with, defaults included."""
    if hasattr(criterion, "options"):
        return dataclasses.asdict(criterion.options)
    return cfg.model.criterion.inst_criterion.to_dict()  # the host's: its config names them all


def device_name() -> str:
    """Name what trained."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return f"{names[0].split(':')[1].strip() if names else platform.processor()}, {torch.get_num_threads()} thread"


def main() -> None:
    """Train the cell that the argument describes and write its file."""
    task = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    write_whole(Path(task["result"]), json.dumps(run(task), indent=1))


if __name__ == "__main__":
    main()
