"""Deviations that concern checkpoints: how they are written, what may be loaded, what a run may go on from."""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from mapanything_opv2v.checkpoints import storage
from mapanything_opv2v.checkpoints.record import RunRecord, notices, refusals
from mapanything_opv2v.host.training.patching import TOOLS, Patches, deviation
from mapanything_opv2v.host.training.run_state import RunState, plain_values

logger = logging.getLogger(__name__)

_STATE_DICTS = ("model", "optimizer", "scaler")


@deviation(
    where="torch:load",
    host="loads checkpoints with weights_only=False, which runs whatever code they hold",
    ours="weights_only=True, with MapAnything's own plain containers allowed",
)
def safe_loading(state: RunState, patches: Patches) -> None:
    """Load tensors and plain values only, wherever this process calls torch.load."""

    def make(torch_load: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(torch_load)
        def load(path: Any, *arguments: Any, **options: Any) -> Any:
            return storage.load_with(torch_load, path, *arguments, **options)

        return load

    patches.wrap("torch", "load", make)


@deviation(
    where=f"{TOOLS}:save_on_master",
    host="writes over the last checkpoint; a kill meanwhile leaves none",
    ours="written beside, synced, renamed; what killed runs left half written is removed at the start",
)
def atomic_checkpoints(state: RunState, patches: Patches) -> None:
    """Write checkpoints whole or not at all, on the first process; clean up after killed runs."""
    if state.is_first and (removed := storage.clean(state.output_dir)):
        logger.warning("removed what a killed run left half written: %s", ", ".join(removed))

    def make(host: Callable[..., Any]) -> Callable[..., Any]:
        is_main_process = importlib.import_module(TOOLS).is_main_process

        @functools.wraps(host)
        def save_on_master(checkpoint: dict[str, Any], path: str | Path) -> None:
            if is_main_process():
                storage.write(Path(path), checkpoint)

        return save_on_master

    patches.wrap(TOOLS, "save_on_master", make)


@deviation(
    where=f"{TOOLS}:save_on_master",
    host="pickles an OmegaConf object and numpy numbers into checkpoints, so that loading them needs trust",
    ours="the config is a resolved plain dict, numbers are Python's",
)
def plain_checkpoints(state: RunState, patches: Patches) -> None:
    """Put plain Python values into checkpoints, the state dicts apart."""

    def make(save: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(save)
        def save_on_master(checkpoint: dict[str, Any], path: str | Path) -> None:
            save({name: value if name in _STATE_DICTS else _plain(value) for name, value in checkpoint.items()}, path)

        return save_on_master

    patches.wrap(TOOLS, "save_on_master", make)


def _plain(value: Any) -> Any:
    if OmegaConf.is_config(value):
        return plain_values(value)
    return value.item() if isinstance(value, np.generic) else value


@deviation(
    where=f"{TOOLS}:load_model",
    host="goes on from a checkpoint whatever has changed, on another schedule",
    ours="refuses another data set or epoch length (unless --accept-changes), tells another world size or commit",
)
def resume_check(state: RunState, patches: Patches) -> None:
    """Compare the run with the checkpoint that it goes on from, before the host loads it."""

    def make(host: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(host)
        def load_model(train_args: Any, *arguments: Any, **options: Any) -> Any:
            if train_args.resume and train_args.resume_ckpt is not None:
                compare(state, train_args.resume_ckpt)
            return host(train_args, *arguments, **options)

        return load_model

    patches.wrap(TOOLS, "load_model", make)


def compare(state: RunState, path: str) -> None:
    """Tell what differs from the run that wrote a checkpoint.

    Raises
    ------
    SystemExit
        If its data set or epoch length is another and the user did not accept that. Every process says the same.
    """
    saved, now = read_record(state, path), state.record()
    if saved is None:
        if state.is_first:
            logger.warning("%s has no record of its run: neither data set nor schedule can be compared", path)
        return
    if state.is_first:
        for notice in notices(saved, now):
            logger.warning("%s: %s", path, notice)
    reasons = refusals(saved, now)
    listed = "\n".join(f"  - {reason}" for reason in reasons)
    if reasons and not state.accept_changes:
        raise SystemExit(
            f"mapanything-opv2v: {path} is not the same run:\n{listed}\n"
            "Go on anyway with --accept-changes, or train into another folder with model.pretrained set to it"
        )
    if reasons and state.is_first:
        logger.warning("%s is not the same run, accepted:\n%s", path, listed)


def read_record(state: RunState, path: str) -> RunRecord | None:
    """Return the record in a checkpoint without reading its tensors; None without one."""
    if "safe_loading" in state.left_out:  # the user trusts it
        import torch

        return RunRecord.from_checkpoint(torch.load(path, map_location="cpu", mmap=True, weights_only=False))
    return RunRecord.from_checkpoint(storage.load(path, map_location="cpu", mmap=True))
