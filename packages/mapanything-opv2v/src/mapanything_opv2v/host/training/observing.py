"""Deviations that only look: the record in checkpoints, the learning rate in the log, the provenance file."""

from __future__ import annotations

import functools
import inspect
import logging
import math
import os
import platform
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mapanything_opv2v import checkout
from mapanything_opv2v.checkpoints.record import KEY
from mapanything_opv2v.files import write_json
from mapanything_opv2v.host.training import checkpointing
from mapanything_opv2v.host.training.patching import TOOLS, TRAINING, Patches, deviation
from mapanything_opv2v.host.training.run_state import RunState
from mapanything_opv2v.host.training.schedule import epoch_line

logger = logging.getLogger(__name__)

_ENVIRONMENT = ("CUDA_VISIBLE_DEVICES", "MAPANYTHING_ROOT", "OMP_NUM_THREADS", "OPV2V_DEPTH_ROOT", "OPV2V_ROOT",
                "PYTHONPATH", "SLURM_JOB_ID", "TORCH_DIST_TIMEOUT", "WORLD_SIZE")  # fmt: skip


@deviation(
    where=f"{TRAINING}:build_dataset, {TRAINING}:train_one_epoch, {TOOLS}:load_model, {TOOLS}:save_on_master",
    host="checkpoints do not say which step, data set or code they come from",
    ours="each holds epoch, global_step, steps_per_epoch, dataset length, world size, commits and resolved config",
)
def run_record(state: RunState, patches: Patches) -> None:
    """Follow the run and put what is known of it into every checkpoint."""

    def observe_loader(host: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(host)
        def build_dataset(*arguments: Any, **options: Any) -> Any:
            loader = host(*arguments, **options)
            if not _argument(host, "test", arguments, options):
                from mapanything_opv2v.host.data.fixed_steps import FixedSteps, scene_count

                dataset = loader.dataset.dataset  # inside the host's DynamicBatchDatasetWrapper
                state.steps_per_epoch, state.dataset_length = len(loader), scene_count(dataset)
                state.steps_fixed = isinstance(dataset, FixedSteps)
            return loader

        return build_dataset

    def observe_resume(host: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(host)
        def load_model(train_args: Any, *arguments: Any, **options: Any) -> Any:
            best = host(train_args, *arguments, **options)
            state.epoch = train_args.start_epoch - 1
            if train_args.resume and train_args.resume_ckpt is not None:
                state.resumed_from = train_args.resume_ckpt
                saved = checkpointing.read_record(state, train_args.resume_ckpt)
                # a checkpoint without a record has made as many steps an epoch as this run, as far as one can tell
                state.global_step = saved.global_step if saved else (state.epoch + 1) * (state.steps_per_epoch or 0)
            return best

        return load_model

    def observe_epoch(host: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(host)
        def train_one_epoch(*arguments: Any, **options: Any) -> Any:
            stats = host(*arguments, **options)
            state.epoch = _argument(host, "epoch", arguments, options)
            state.global_step += len(_argument(host, "data_loader", arguments, options))
            return stats

        return train_one_epoch

    def add_record(save: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(save)
        def save_on_master(checkpoint: dict[str, Any], path: str | Path) -> None:
            save({**checkpoint, KEY: state.record().to_dict()}, path)

        return save_on_master

    patches.wrap(TRAINING, "build_dataset", observe_loader)
    patches.wrap(TRAINING, "train_one_epoch", observe_epoch)
    patches.wrap(TOOLS, "load_model", observe_resume)
    patches.wrap(TOOLS, "save_on_master", add_record)


@deviation(
    where=f"{TRAINING}:train_one_epoch",
    host="logs the learning rate in the middle of other figures",
    ours="one line at each epoch's start says its first and last learning rate of every parameter group",
)
def lr_log(state: RunState, patches: Patches) -> None:
    """Log the learning rates of an epoch when it begins."""

    def make(host: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(host)
        def train_one_epoch(*arguments: Any, **options: Any) -> Any:
            if state.is_first:
                epoch, steps = (_argument(host, name, arguments, options) for name in ("epoch", "data_loader"))
                logger.info("%s", epoch_line(state.config.train_params, epoch, len(steps)))
            return host(*arguments, **options)

        return train_one_epoch

    patches.wrap(TRAINING, "train_one_epoch", make)


@deviation(
    where=f"{TOOLS}:load_model",
    host="keeps the config, not what it ran on",
    ours="provenance-TIME.json in the run's folder: command, commits, versions, data, GPUs, deviations, resume",
)
def provenance(state: RunState, patches: Patches) -> None:
    """Write down what the run is made of, once everything is known and before the first step."""

    def make(host: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(host)
        def load_model(*arguments: Any, **options: Any) -> Any:
            best = host(*arguments, **options)
            if state.is_first:
                now = datetime.now(timezone.utc)
                write_json(state.output_dir / f"provenance-{now:%Y%m%dT%H%M%S.%fZ}.json", describe_run(state, now))
            return best

        return load_model

    patches.wrap(TOOLS, "load_model", make)


def describe_run(state: RunState, now: datetime) -> dict[str, Any]:
    """Return the contents of the provenance file."""
    import torch

    record = state.record().to_dict()
    return {
        "started": now.isoformat(timespec="seconds"),
        "command": sys.argv,
        "host": {"root": str(state.host_root), "commit": record.pop("host_commit")},
        "plugin": {"version": record.pop("plugin_version"), "commit": checkout.describe(Path(__file__).parent)},
        "deviations": {"in_force": list(state.deviations), "left_out": list(state.left_out)},
        "resumed_from": state.resumed_from,
        "pretrained": state.config.model.pretrained,
        "python": platform.python_version(),
        "machine": platform.node(),
        "packages": checkout.versions(),
        "gpus": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
        "environment": {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        **record,
        "config": _finite(record["config"]),
    }


def _finite(value: Any) -> Any:
    """Return a plain value with infinite numbers as text, which JSON can hold."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _argument(function: Callable[..., Any], name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Return what a call binds to a parameter."""
    return inspect.signature(function).bind(*arguments, **options).arguments[name]
