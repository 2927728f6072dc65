"""One training of the demo through mmengine's Runner."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

CRITERIA = {"influencer": "influencer, start masks", "hungarian": "Hungarian matching"}
"""Name of the config (rooms_<name>.py) and what people are shown."""

_WARM_UP = 30
_RUNS = itertools.count()


@dataclass(frozen=True)
class TrainedRun:
    """What one training left.

    Attributes
    ----------
    name : str
        A key of `CRITERIA`.
    seed : int
        Of weights and samples.
    losses : list of (int, float)
        Step and total loss.
    scores : list of (int, dict)
        Step and metrics, the last ones of the trained model.
    rooms : list of dict
        Held-out rooms with ``name``, ``semantic``, ``instance`` (N,) and ``found``, the last predictions.
    cpu_seconds : float
        Processor time of training and evaluation, over all threads.
    """

    name: str
    seed: int
    losses: list[tuple[int, float]]
    scores: list[tuple[int, dict[str, float]]]
    rooms: list[dict[str, Any]]
    cpu_seconds: float

    @property
    def final(self) -> dict[str, float]:
        """Metrics of the trained model."""
        return self.scores[-1][1]


def demo_config(
    name: str,
    data_root: Path,
    work_dir: Path,
    *,
    steps: int,
    seed: int = 0,
    changes: dict[str, Any] | None = None,
) -> Config:
    """Return a shipped config with paths, length and seed filled in.

    Parameters
    ----------
    name : str
        A key of `CRITERIA`.
    data_root : Path
        Rooms in the S3DIS format, area 1 for training and 5 held out.
    work_dir : Path
        Where mmengine writes its logs.
    steps : int
        Training iterations, at least 5.
    seed : int
        Of the model's initial weights and of the samples; the same for every criterion.
    changes : dict, optional
        Further changes, as in mmengine's ``Config.merge_from_dict``, for instance
        ``{'model.criterion.temperature': 0.1}`` or ``{'optim_wrapper.type': 'AmpOptimWrapper'}``.

    Raises
    ------
    ValueError
        If the name is unknown or `steps` too small.
    """
    if name not in CRITERIA:
        raise ValueError(f"no demo config {name!r}; known: {', '.join(CRITERIA)}")
    if steps < 5:
        raise ValueError(f"steps must be at least 5, got {steps}")
    cfg = Config.fromfile(str(files("influencer_mmdet3d") / "demo" / "configs" / f"rooms_{name}.py"))
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        cfg[loader].dataset.root = str(data_root)
    warm_up = min(_WARM_UP, steps // 4)
    cfg.param_scheduler[0].end = cfg.param_scheduler[1].begin = warm_up
    cfg.param_scheduler[1].end = steps
    cfg.train_cfg.update(max_iters=steps, val_interval=max(1, steps // 5))
    cfg.randomness.seed = cfg.train_dataloader.dataset.seed = seed
    cfg.work_dir = str(work_dir)
    cfg.custom_hooks[0].description = f"training, {CRITERIA[name]}"
    cfg.merge_from_dict(changes or {})
    cfg.train_dataloader.dataset.length = steps * cfg.train_dataloader.batch_size
    return cfg


def by_criterion(runs: Sequence[TrainedRun]) -> dict[str, list[TrainedRun]]:
    """Return the runs of each criterion, in the order of seeds."""
    names = dict.fromkeys(run.name for run in runs)
    return {name: sorted((run for run in runs if run.name == name), key=lambda run: run.seed) for name in names}


def train(name: str, cfg: Config) -> TrainedRun:
    """Train and evaluate; `name` only labels the result."""
    began = time.process_time()
    # mmengine's loggers are global, by this name and the second: two runs must never share one
    cfg.experiment_name = f"{name}-{next(_RUNS)}"
    runner = Runner.from_cfg(cfg)
    runner.train()
    curves = next(hook for hook in runner.hooks if type(hook).__name__ == "DemoProgressHook")
    metric = runner.val_loop.evaluator.metrics[0]
    return TrainedRun(
        name, cfg.randomness.seed, curves.losses, curves.scores, metric.rooms, time.process_time() - began
    )
