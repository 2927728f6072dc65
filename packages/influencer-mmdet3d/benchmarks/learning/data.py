"""Rooms on the device, and batches that are the same for every criterion with a seed.

Shape legend: R rooms, P points of a room, N points of a sample, S steps, B samples of a step, K instances (padded),
Q queries.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from influencer_mmdet3d.data.rooms import make_room
from influencer_mmdet3d.demo.decoder import farthest_points
from influencer_mmdet3d.files import write_whole
from torch import Tensor

from learning.settings import DIFFICULTIES, Settings

ROLES = ("training", "held-out")
_CHUNK = 64  # steps that are prepared together: the loop of farthest_points then costs little


class Pool(NamedTuple):
    """Rooms of one difficulty and role.

    Attributes
    ----------
    points : Tensor
        (R, P, 6) float32, metres and colours 0 to 255, in random order.
    segments : Tensor
        (R, P) int64, the instance of each point, from 0.
    labels : Tensor
        (R, K) int64, classes, 0 for padding.
    """

    points: Tensor
    segments: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> Pool:
        """Return a copy on a device."""
        return Pool(*(part.to(device) for part in self))


class Batch(NamedTuple):
    """Samples of a step.

    Attributes
    ----------
    points : Tensor
        (B, N, 6), metres from the room's corner, colours -1 to 1.
    segments : Tensor
        (B, N) int64 in [0, K).
    labels : Tensor
        (B, K) int64.
    present : Tensor
        (B, K) bool, instances that have a point in the sample.
    seeds : Tensor
        (B, Q) int64, the points that queries start from.
    """

    points: Tensor
    segments: Tensor
    labels: Tensor
    present: Tensor
    seeds: Tensor

    @property
    def inside(self) -> Tensor:
        """(B, Q, K) bool, whether a query starts inside an instance."""
        return torch.nn.functional.one_hot(self.segments.gather(1, self.seeds), self.labels.shape[1]).bool()


def make_pool(difficulty: str, role: str, rooms: int, points: int) -> Pool:
    """Generate rooms; a room depends on difficulty, role and its number alone, and no seed serves both roles."""
    kind = DIFFICULTIES[difficulty]
    made = []
    for number in range(rooms):
        rng = np.random.default_rng((kind.seed, ROLES.index(role), number))
        made.append(make_room(rng, points=points, objects=kind.objects, layout=kind.layout))
    labels = torch.zeros(rooms, kind.instances, dtype=torch.long)
    for row, room in zip(labels, made):
        row[torch.from_numpy(room.instance) - 1] = torch.from_numpy(room.semantic)
    return Pool(
        torch.stack([torch.from_numpy(room.points) for room in made]),
        torch.stack([torch.from_numpy(room.instance) - 1 for room in made]),
        labels,
    )


def _rooms(role: str, settings: Settings) -> int:
    return settings.rooms if role == "training" else settings.held_out


def pool_file(folder: Path, difficulty: str, role: str, settings: Settings) -> Path:
    """Return where the rooms of a difficulty and role are kept."""
    return folder / f"{difficulty}-{role}-{_rooms(role, settings)}x{settings.room_points}.npz"


def write_pool(folder: Path, difficulty: str, role: str, settings: Settings) -> None:
    """Make the rooms of a difficulty and role."""
    made = make_pool(difficulty, role, _rooms(role, settings), settings.room_points)
    buffer = io.BytesIO()
    np.savez(buffer, **{name: part.numpy() for name, part in made._asdict().items()})
    write_whole(pool_file(folder, difficulty, role, settings), buffer.getvalue())


def load_pool(folder: Path, difficulty: str, role: str, settings: Settings) -> Pool:
    """Return the rooms of a difficulty and role; they are made once and kept in `folder`."""
    path = pool_file(folder, difficulty, role, settings)
    if not path.exists():
        write_pool(folder, difficulty, role, settings)
    with np.load(path) as file:
        return Pool(*(torch.from_numpy(file[name]) for name in Pool._fields))


class Plan(NamedTuple):
    """Every random choice of a training's data; (S, B), but `tint` (S, B, 3).

    A sample takes the points offset + stride i modulo P of a room, i < N: P and stride have no common divisor, so no
    point is taken twice. Then: quarter turns, mirror (-1 or 1), scale, brightness and a shift of the colours.
    """

    room: Tensor
    offset: Tensor
    stride: Tensor
    turns: Tensor
    mirror: Tensor
    scale: Tensor
    bright: Tensor
    tint: Tensor


def make_plan(seed: int, settings: Settings) -> Plan:
    """Draw the plan of a seed: rooms in a new order in every pass, the demo's augmentations."""
    rng = np.random.default_rng((seed, 20_000))
    shape = settings.steps, settings.batch
    count = math.prod(shape)
    passes = [rng.permutation(settings.rooms) for _ in range(-(-count // settings.rooms))]
    strides = [step for step in range(1, settings.room_points) if math.gcd(step, settings.room_points) == 1]
    return Plan(
        torch.from_numpy(np.concatenate(passes)[:count].reshape(shape)),
        torch.from_numpy(rng.integers(settings.room_points, size=shape)),
        torch.from_numpy(rng.choice(strides, size=shape)),
        torch.from_numpy(rng.integers(4, size=shape)),
        torch.from_numpy(rng.choice([-1.0, 1.0], size=shape).astype(np.float32)),
        torch.from_numpy(rng.uniform(0.9, 1.1, size=shape).astype(np.float32)),
        torch.from_numpy(rng.uniform(0.85, 1.15, size=shape).astype(np.float32)),
        torch.from_numpy(rng.normal(0, 8, size=(*shape, 3)).astype(np.float32)),
    )


def batches(pool: Pool, plan: Plan, points: int, queries: int) -> Iterator[Batch]:
    """Yield the batch of every step, made on the pool's device, many steps at a time."""
    steps, batch = plan.room.shape
    for start in range(0, steps, _CHUNK):
        part = Plan(*(value[start : start + _CHUNK].flatten(0, 1).to(pool.points.device) for value in plan))
        made = _samples(pool, part, points, queries)
        for step in range(len(part.room) // batch):
            yield Batch(*(value[step * batch : (step + 1) * batch] for value in made))


def whole_rooms(pool: Pool, queries: int) -> Batch:
    """Return all points of all rooms as one batch, for evaluation."""
    return _batch(pool.points[..., :3], pool.points[..., 3:], pool.segments, pool.labels, queries)


def other_starts(batch: Batch, groups: int, generator: torch.Generator) -> Tensor:
    """Return the starts (B, G Q) of G query sets: those of the batch, then random points of each start's Voronoi cell.

    A point belongs to the cell of the nearest start.
    """
    xyz, seeds = batch.points[..., :3], batch.seeds
    starts = xyz.gather(1, seeds.unsqueeze(2).expand(-1, -1, 3))
    cell = torch.cdist(xyz, starts).argmin(2)  # (B, N)
    size = torch.zeros_like(seeds).scatter_add_(1, cell, torch.ones_like(cell))
    first = (size.cumsum(1) - size).clamp_max(xyz.shape[1] - 1)
    sets = [seeds]
    for _ in range(groups - 1):
        noise = torch.rand(cell.shape, generator=generator, device=cell.device, dtype=torch.float64)
        order = (cell + noise).argsort(1)  # by cell, in random order within it
        sets.append(torch.where(size > 0, order.gather(1, first), seeds))
    return torch.cat(sets, 1)


def _samples(pool: Pool, plan: Plan, points: int, queries: int) -> Batch:
    index = torch.arange(points, device=pool.points.device)
    rows = (plan.offset.unsqueeze(1) + plan.stride.unsqueeze(1) * index) % pool.points.shape[1]
    room = plan.room.unsqueeze(1)
    chosen, segments = pool.points[room, rows], pool.segments[room, rows]
    xyz = _turn(chosen[..., :3], plan)
    rgb = (chosen[..., 3:] * plan.bright.view(-1, 1, 1) + plan.tint.unsqueeze(1)).clamp(0, 255)
    return _batch(xyz - xyz.amin(1, keepdim=True), rgb, segments, pool.labels[plan.room], queries)


def _turn(xyz: Tensor, plan: Plan) -> Tensor:
    cos = torch.tensor([1.0, 0.0, -1.0, 0.0], device=xyz.device)[plan.turns].unsqueeze(1)
    sin = torch.tensor([0.0, 1.0, 0.0, -1.0], device=xyz.device)[plan.turns].unsqueeze(1)
    x, y, z = xyz.unbind(-1)
    turned = torch.stack([(cos * x - sin * y) * plan.mirror.unsqueeze(1), sin * x + cos * y, z], -1)
    return turned * plan.scale.view(-1, 1, 1)


def _batch(xyz: Tensor, rgb: Tensor, segments: Tensor, labels: Tensor, queries: int) -> Batch:
    present = torch.zeros_like(labels, dtype=torch.bool).scatter_(1, segments, True)
    seeds = farthest_points(xyz, queries)
    return Batch(torch.cat([xyz, rgb / 127.5 - 1], -1), segments, labels, present, seeds)
