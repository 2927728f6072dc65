"""One cell of the comparison: a criterion, a difficulty and a seed, trained and evaluated along the way."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from influencer_mmdet3d.data.rooms import CLASSES
from influencer_mmdet3d.files import write_whole

from learning.criterion import Criterion
from learning.data import Batch, Pool, batches, load_pool, make_plan, other_starts, whole_rooms
from learning.evaluation import evaluate
from learning.network import Segmentor, draw_pilots
from learning.recipes import find
from learning.settings import Settings

_DTYPES = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Cell(NamedTuple):
    """Name of one training."""

    criterion: str
    difficulty: str
    seed: int

    def path(self, out: Path) -> Path:
        """Return the cell's result file."""
        return out / "cells" / f"{self.difficulty}.{re.sub('[^A-Za-z0-9.=_-]', '_', self.criterion)}.{self.seed}.json"

    def __str__(self) -> str:
        return f"{self.difficulty} {self.criterion} seed {self.seed}"


class Training:
    """Network, optimiser and data of a cell, one step at a time."""

    def __init__(self, cell: Cell, settings: Settings, pool: Pool) -> None:
        self.settings, self.recipe, self.pool = settings, find(cell.criterion), pool
        self.device, self.queries = pool.points.device, settings.queries(cell.difficulty)
        torch.manual_seed(cell.seed)  # initial weights, drawn on the CPU: the same for every criterion and device
        self.model = Segmentor(settings, self.queries, len(CLASSES), self.recipe.many > 0).to(self.device)
        self.criterion = Criterion(self.recipe, len(CLASSES), settings.loss_weight)
        on_gpu = self.device.type == "cuda"
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=on_gpu
        )
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, settings.rate)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=settings.amp == "fp16")
        self.noise = torch.Generator(self.device).manual_seed(cell.seed)
        self.starts = torch.Generator(self.device).manual_seed(cell.seed)
        self.data: Iterator[Batch] = batches(pool, make_plan(cell.seed, settings), settings.points, self.queries)
        self.done = 0

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of encoder and decoder."""
        dtype = _DTYPES[self.settings.amp]
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None)

    def step(self) -> torch.Tensor:
        """Train on the next batch and return the loss, detached."""
        batch = next(self.data)
        pilots = draw_pilots(batch, self.recipe.pilot_noise, self.noise) if self.recipe.pilots else None
        progress = self.done / self.settings.steps
        groups = self.recipe.sets(progress)
        every = groups + (self.recipe.many > 0)
        if every > 1:
            batch = batch._replace(seeds=other_starts(batch, every, self.starts))
        with self.autocast():
            layers = self.model(batch, pilots, every)
        loss = self.criterion(layers, batch, progress, groups)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        self.done += 1
        return loss.detach()


def train_cell(cell: Cell, settings: Settings, out: Path, device: torch.device) -> dict[str, Any]:
    """Train and evaluate a cell and write its file; return the content.

    Raises
    ------
    FloatingPointError
        If the loss is not finite.
    """
    training = Training(cell, settings, load_pool(out / "rooms", cell.difficulty, "training", settings).to(device))
    held_out = load_pool(out / "rooms", cell.difficulty, "held-out", settings).to(device)
    rooms = whole_rooms(held_out, training.queries)
    curve: list[dict[str, float]] = []
    seconds = 0.0
    for milestone in settings.milestones:
        begin = time.perf_counter()
        losses = [training.step() for _ in range(milestone - training.done)]
        mean = float(torch.stack(losses).mean())  # waits for the device
        seconds += time.perf_counter() - begin
        if mean != mean or abs(mean) == float("inf"):
            raise FloatingPointError(f"{cell}: the loss is not finite before step {milestone}")
        values = evaluate(training.model, rooms, settings.min_points, _DTYPES[settings.amp])
        curve.append({"step": milestone, "seconds": seconds, "loss": mean, **values})
    result = {
        **cell._asdict(),
        **_made_with(cell, settings),
        "device": device_name(device),
        "torch": torch.__version__,
        "curve": curve,
    }
    write_whole(cell.path(out), json.dumps(result, indent=1))
    return result


def is_done(cell: Cell, settings: Settings, out: Path) -> bool:
    """Say whether a cell's file is there.

    Raises
    ------
    ValueError
        If it is of other settings or of another recipe of that name: cells of one folder must compare.
    """
    path = cell.path(out)
    if not path.exists():
        return False
    there = json.loads(path.read_text())
    other = []
    for part, wanted in _made_with(cell, settings).items():
        was = there[part]
        names = [name for name in {**was, **wanted} if was.get(name) != wanted.get(name)]
        other += [f"{name}={was.get(name)} (now {wanted.get(name)})" for name in names]
    if other:
        raise ValueError(f"{path} was made with {', '.join(other)}; give the same settings or another --out")
    return True


def _made_with(cell: Cell, settings: Settings) -> dict[str, dict[str, Any]]:
    return {"settings": dataclasses.asdict(settings), "recipe": find(cell.criterion).changed()}


def step_time(cell: Cell, settings: Settings, out: Path, device: torch.device, repeats: int = 5) -> float:
    """Return the milliseconds of a step, training alone on the device: median of `repeats` tens after a warm-up.

    Batches are made in the warm-up, for they are the same for every criterion.
    """
    settings = dataclasses.replace(settings, steps=10 * (repeats + 1), evaluations=1)
    training = Training(cell, settings, load_pool(out / "rooms", cell.difficulty, "training", settings).to(device))
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        float(torch.stack([training.step() for _ in range(10)]).mean())
        times.append(100 * (time.perf_counter() - begin))
    return sorted(times[1:])[repeats // 2]


def device_name(device: torch.device) -> str:
    """Name the hardware in results."""
    return str(torch.cuda.get_device_name(device)) if device.type == "cuda" else "cpu"
