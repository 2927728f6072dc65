"""Task 1 learnt: a small model with two images as two finds the marked object in the other view, or says NOT_VISIBLE.

Training rooms are rendered in the background by the package's generator while the model trains; the held-out rooms are
a tree of it, built and scored with the package, so that matcher, median of the training answers, NOT_VISIBLE always and
a random point answer the very same questions. One GPU; a few minutes. Rooms, weights and answers are kept as it goes
(`--out`, `--rooms-folder`), and a run that was stopped goes on with them.

Run: python benchmarks/learn_task1.py --out learn_task1 --seconds 300
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from roborefer_spatial.answers import NOT_VISIBLE, format_points
from roborefer_spatial.images import read_rgb
from roborefer_spatial.predicting import backends
from roborefer_spatial.predicting.backends import Request
from roborefer_spatial.predictions import Prediction, read
from roborefer_spatial.sample import Sample, load_samples
from roborefer_spatial.scoring.metrics import by_set
from roborefer_spatial.scoring.score import score
from roborefer_spatial.synthetic.tree import write_scenes
from roborefer_spatial.tasks.build import build
from roborefer_spatial.tasks.object_samples import BuildOptions
from task1_model import COLS, ROWS, Pointer, loss_of
from task1_rooms import CELL, HEIGHT, WIDTH, Rooms, rendering
from torch import nn
from torch.nn import functional

VAL_WH = (320, 240)
_NAMES = (
    "hit_at_mask", "chance_hit_at_mask", "not_visible_f1", "not_visible_precision", "not_visible_recall",
    "overall_accuracy",
)  # fmt: skip


class Training:
    """Model, its running average, optimizer, and how far they are."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        self.args, self.state = args, args.out / "state.pt"
        self.model = Pointer(args.width, args.depth).to(args.device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=args.rate, weight_decay=0.05, betas=(0.9, 0.98), fused=args.device == "cuda"
        )
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.step, self.spent = 0, 0.0
        self.losses: list[list[float]] = []
        if self.state.is_file():
            saved = torch.load(self.state, map_location=args.device)
            for name in ("model", "average", "optimizer"):
                getattr(self, name).load_state_dict(saved[name])
            self.step, self.spent, self.losses = saved["step"], saved["spent"], saved["losses"]

    def keep(self, spent: float) -> None:
        """Write all of it."""
        saved = {name: getattr(self, name).state_dict() for name in ("model", "average", "optimizer")}
        part = self.state.with_suffix(".part")
        torch.save({**saved, "step": self.step, "spent": spent, "losses": self.losses}, part)
        part.replace(self.state)

    def one(self, rooms: Rooms) -> torch.Tensor:
        """Make one step; return its loss."""
        a, b, share_a, share_b = rooms.draw(self.args.batch)
        with torch.autocast(a.device.type, torch.bfloat16, enabled=a.is_cuda):
            logits, mark = self.model(a, b)
        loss = loss_of(logits, mark, share_a, share_b)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        with torch.no_grad():
            pace = min(0.999, 1 - 1 / (self.step / 10 + 1))
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - pace)
            for kept, new in zip(self.average.buffers(), self.model.buffers()):
                kept.copy_(new)
        return loss.detach()

    def run(self, rooms: Rooms, started: float) -> None:
        """Train until the time is over; the learning rate follows the clock, and new rooms come in."""
        args = self.args
        torch.manual_seed(args.seed + self.step)
        self.model.train()
        begin = kept = looked = time.monotonic()
        while True:
            now = time.monotonic()
            done = self.spent + now - begin
            if done >= args.seconds or now - started >= args.until or self.step >= args.steps:
                break
            part = min(1.0, max(done / args.seconds, self.step / args.steps))
            for group in self.optimizer.param_groups:
                group["lr"] = args.rate * min(1, (self.step + 1) / 300) * 0.5 * (1 + math.cos(math.pi * part))
            loss = self.one(rooms)
            if self.step % 100 == 0:
                self.losses.append([self.step, round(float(loss), 4)])
                print(f"step {self.step}, {done:.0f} s, {len(rooms)} rooms, loss {self.losses[-1][1]}", flush=True)
            if now - looked > 15:
                rooms.refresh()
                looked = time.monotonic()
            if now - kept > 60:
                self.keep(done)
                kept = time.monotonic()
        self.spent = done
        self.keep(done)


@torch.no_grad()
def answers(model: Pointer, samples: list[Sample], batch: int = 64) -> list[Prediction]:
    """Answer samples: the middle of the best 3x3 cells, or NOT_VISIBLE where that is likelier than not."""
    device = next(model.parameters()).device
    said = []
    for start in range(0, len(samples), batch):
        some = samples[start : start + batch]
        a, b = (torch.stack([_picture(sample.image[side]) for sample in some]).to(device) for side in (0, 1))
        chance = model(a, b)[0].softmax(1)
        cells = functional.avg_pool2d(chance[:, :-1].view(-1, 1, ROWS, COLS), 3, 1, 1).flatten(1)
        for sample, absent, best in zip(some, chance[:, -1].tolist(), cells.argmax(1).tolist()):
            row, col = divmod(best, COLS)
            point = ((col + 0.5) * CELL / WIDTH, (row + 0.5) * CELL / HEIGHT)
            said.append(Prediction(sample.id, NOT_VISIBLE if absent > 0.5 else format_points([point])))
    return said


def _picture(path: str) -> torch.Tensor:
    picture = Image.fromarray(read_rgb(Path(path))).resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 127.5 - 1


def held_out(folder: Path, rooms: int) -> list[Sample]:
    """Render and build the held-out questions, unless they are there."""
    tasks = folder / "tasks"
    if not (tasks / "manifest.json").is_file():
        write_scenes(folder / "x3", scenes=rooms, seed=0, size_wh=VAL_WH, splits=("val",))
        build(folder / "x3", BuildOptions(out_dir=tasks))
    return load_samples(tasks / "t1_val_multi.jsonl")


def matched(folder: Path, samples: list[Sample]) -> list[Prediction]:
    """Return the matcher's answers, which are kept in the folder."""
    path = folder / "matcher.jsonl"
    if not path.is_file():
        backend = backends.create("matcher", backends.options("matcher", {}))
        requests = [Request(s.id, tuple(map(Path, s.image)), "", task=s.task, concat=s.concat) for s in samples]
        rows = [Prediction(s.id, str(text)) for s, text in zip(samples, backend.answer(requests))]
        _write(path, "".join(row.to_json() + "\n" for row in rows))
    return read(path)


def median(rooms: Rooms) -> tuple[float, float]:
    """Return the median point of the training answers, which are mirrored half of the time."""
    cells = torch.cat([rooms.draw(64)[3] for _ in range(32)])
    sums = cells.sum((0, 1)), cells.sum((0, 2))
    x, y = (float((axis.cumsum(0) / axis.sum() < 0.5).sum() + 0.5) / len(axis) for axis in sums)
    return x, y


def metrics(samples: list[Sample], said: list[Prediction]) -> dict[str, Any]:
    """Return the measures of the set, with their intervals."""
    found = by_set(score(samples, said))["t1_multi/val"]
    intervals = {name: found["intervals"].get(name) for name in _NAMES}
    return {**{name: found[name] for name in _NAMES}, "total": found["total"], "intervals": intervals}


def _write(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)


def main() -> int:
    """Render, train, answer, score; write results.json and answers.jsonl."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for weights, answers and results.json")
    add("--rooms-folder", type=Path, help="training and held-out rooms, which runs can share (default: in --out)")
    add("--rooms", type=int, default=20000, help="training rooms at most (default: %(default)s)")
    add("--first-rooms", type=int, default=480, help="rooms to wait for (default: %(default)s)")
    add("--val-rooms", type=int, default=40, help="held-out rooms (default: %(default)s)")
    add("--seconds", type=float, default=300, help="training time (default: %(default)s)")
    add("--until", type=float, default=1e9, help="training stops so many seconds after the start of the program")
    add("--steps", type=int, default=10**9, help="and after so many steps")
    add("--batch", type=int, default=256, help="questions a step (default: %(default)s)")
    add("--rate", type=float, default=1e-3, help="highest learning rate (default: %(default)s)")
    add("--width", type=int, default=192, help="of the model (default: %(default)s)")
    add("--depth", type=int, default=4, help="blocks of attention; 0: looks only (default: %(default)s)")
    add("--workers", type=int, default=6, help="processes that render; 0: another run does (default: %(default)s)")
    add("--seed", type=int, default=0, help="of weights and questions (default: %(default)s)")
    add("--no-matcher", action="store_true", help="leave the matcher out")
    add(
        "--only",
        choices=("rooms", "matcher"),
        help="render all training rooms, or answer with the matcher; no training",
    )
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    started = time.monotonic()
    args.out, folder = args.out.resolve(), (args.rooms_folder or args.out).resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    pool = rendering(folder / "rooms", args.rooms, args.workers) if args.workers else None
    if args.only == "rooms":
        pool.close()
        pool.join()
        return 0
    if args.only is None:
        rooms = Rooms(folder / "rooms", args.device, args.rooms)
        rooms.wait(args.first_rooms)
        print(f"{len(rooms)} rooms, {time.monotonic() - started:.0f} s", flush=True)
        training = Training(args)
        training.run(rooms, started)
    samples = held_out(folder, args.val_rooms)
    runs = {"always NOT_VISIBLE": [Prediction(s.id, NOT_VISIBLE) for s in samples]}
    if not args.no_matcher:
        runs["matcher (SIFT)"] = matched(folder, samples)
    if args.only is None:
        middle = format_points([median(rooms)])
        runs["median of the training answers"] = [Prediction(s.id, middle) for s in samples]
        runs["two-image model"] = answers(training.average.eval(), samples)
        _write(args.out / "answers.jsonl", "".join(row.to_json() + "\n" for row in runs["two-image model"]))
    result: dict[str, Any] = {"runs": {name: metrics(samples, said) for name, said in runs.items()}}
    if args.only is None:
        result |= {
            "rooms": len(rooms),
            "parameters": sum(p.numel() for p in training.model.parameters()),
            "steps": training.step,
            "seconds": round(training.spent, 1),
            "losses": training.losses,
            "seed": args.seed,
            "width": args.width,
            "depth": args.depth,
        }
    _write(args.out / "results.json", json.dumps(result, indent=1, default=float) + "\n")
    for name, row in result["runs"].items():
        print(f"{name}: " + ", ".join(f"{key} {row[key]:.3f}" for key in _NAMES if row[key] is not None), flush=True)
    if pool is not None:
        pool.terminate()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
