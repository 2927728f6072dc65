"""Rooms for `learn_task1`: rendered in the background into files, and questions of Task 1 drawn from them on a GPU."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from roborefer_spatial.synthetic.rooms import shoot
from roborefer_spatial.synthetic.tree import _scene
from torch.nn import functional

WIDTH, HEIGHT, VIEWS = 160, 120, 5
CELL = 4
"""The model answers with a cell of 4x4 pixels of the query, or with NOT_VISIBLE."""
ALPHA, REACH = 0.45, round(0.02 * WIDTH)
MARKABLE = 0.004
"""An object is asked about from views in which it covers this share of the picture."""
CHUNK = 24
"""Rooms in a file."""


def render(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures (views, h, w, 3) uint8 and the number of the thing (views, h, w) int8, -1 the room."""
    rng = np.random.default_rng([7, number])  # the held-out rooms are seeded by a hash of a text
    room, seats, _ = _scene(rng, VIEWS, (WIDTH, HEIGHT), 3)
    pictures, things = zip(*(shoot(room, seat).compose() for seat in seats))
    noisy = np.stack(pictures) * 255 + rng.normal(0, 2, (VIEWS, HEIGHT, WIDTH, 3))
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8), np.stack(things).astype(np.int8)


def write_chunk(job: tuple[Path, int]) -> None:
    """Render the rooms of one file, unless it is there."""
    folder, number = job
    path = folder / f"chunk_{number:05d}.npz"
    if path.is_file():
        return
    pictures, things = zip(*(render(CHUNK * number + index) for index in range(CHUNK)))
    part = path.with_suffix(".part")
    with part.open("wb") as stream:
        np.savez(stream, pictures=np.stack(pictures), things=np.stack(things))
    part.replace(path)


def rendering(folder: Path, rooms: int, workers: int) -> Any:
    """Start a pool that fills the folder with at least so many rooms; the caller terminates it."""
    folder.mkdir(parents=True, exist_ok=True)
    pool = multiprocessing.get_context("spawn").Pool(workers)
    pool.map_async(write_chunk, [(folder, number) for number in range(-(-rooms // CHUNK))], chunksize=1)
    return pool


def dilated(mask: torch.Tensor) -> torch.Tensor:
    """Grow (n, h, w) masks as the generator does."""
    return functional.max_pool2d(mask[:, None].float(), 2 * REACH + 1, 1, REACH)[:, 0] > 0


def softened(pictures: torch.Tensor) -> torch.Tensor:
    """Blur (n, 3, h, w) by a random share each: held-out pictures are larger ones made smaller."""
    blurred = functional.avg_pool2d(functional.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return torch.lerp(pictures, blurred, torch.rand(len(pictures), 1, 1, 1, device=pictures.device))


class Rooms:
    """The rendered rooms of a folder on a device; `refresh` takes those that have come since."""

    def __init__(self, folder: Path, device: str, limit: int) -> None:
        self.folder, self.device, self.limit = folder, device, limit
        self.pictures = torch.zeros((0, VIEWS, HEIGHT, WIDTH, 3), dtype=torch.uint8, device=device)
        self.things = torch.zeros((0, VIEWS, HEIGHT, WIDTH), dtype=torch.int8, device=device)
        self.markable = torch.zeros((0, 3), dtype=torch.int64, device=device)
        self.taken: set[str] = set()

    def __len__(self) -> int:
        return len(self.pictures)

    def refresh(self) -> None:
        """Read the files that are new."""
        new = [path for path in sorted(self.folder.glob("chunk_*.npz")) if path.name not in self.taken]
        pictures, things, markable, count = [self.pictures], [self.things], [self.markable], len(self)
        for path in new[: max(0, self.limit - count) // CHUNK]:
            with np.load(path) as file:
                shown = file["things"]
                pictures.append(torch.from_numpy(file["pictures"]).to(self.device))
            things.append(torch.from_numpy(shown).to(self.device))
            areas = np.stack([(shown == k).sum(axis=(2, 3)) for k in range(int(shown.max()) + 1)], -1)
            found = np.argwhere(areas >= MARKABLE * WIDTH * HEIGHT)
            found[:, 0] += count
            markable.append(torch.from_numpy(found).to(self.device))
            count += len(shown)
            self.taken.add(path.name)
        if len(pictures) > 1:
            self.pictures, self.things, self.markable = torch.cat(pictures), torch.cat(things), torch.cat(markable)

    def wait(self, rooms: int) -> None:
        """Return when there are so many rooms."""
        while self.refresh() or len(self) < min(rooms, self.limit // CHUNK * CHUNK):
            time.sleep(0.5)

    def draw(self, batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return A marked and B (n, 3, h, w) in -1..1, and the object's share of every cell of each (n, rows, cols)."""
        device = self.pictures.device
        room, view, thing = self.markable[torch.randint(len(self.markable), (batch,), device=device)].unbind(1)
        other = (view + torch.randint(1, VIEWS, (batch,), device=device)) % VIEWS
        mask_a, mask_b = (dilated(self.things[room, v] == thing[:, None, None]) for v in (view, other))
        a, b = (self.pictures[room, v].permute(0, 3, 1, 2).float() / 255 for v in (view, other))
        gain = 1 + 0.3 * (torch.rand(2, batch, 3, 1, 1, device=device) - 0.5)
        a, b = (softened((x * g).clamp(0, 1)) for x, g in zip((a, b), gain))
        red = torch.tensor([1.0, 0, 0], device=device)[None, :, None, None]
        a = torch.where(mask_a[:, None], (1 - ALPHA) * a + ALPHA * red, a)
        shares = [functional.avg_pool2d(mask[:, None].float(), CELL)[:, 0] for mask in (mask_a, mask_b)]
        turn = torch.rand(batch, 1, 1, device=device) < 0.5  # a room in a mirror
        a, b = (2 * torch.where(turn[:, None], x.flip(3), x) - 1 for x in (a, b))
        share_a, share_b = (torch.where(turn, share.flip(2), share) for share in shares)
        return a, b, share_a, share_b
