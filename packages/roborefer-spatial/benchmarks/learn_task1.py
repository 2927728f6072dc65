"""Task 1 learnt: a small model with two images as two finds the marked object in the other view, or says NOT_VISIBLE.

Rooms are rendered in memory by the package's generator; the held-out rooms are a tree of it, built and scored with the
package, so that matcher, median of the training answers and a random point answer the very same questions. One GPU; a
few minutes. The weights are kept as it goes (`--out`), and a run that was stopped goes on with them.

Run: python benchmarks/learn_task1.py --out learn_task1 --seconds 300
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import multiprocessing
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
from roborefer_spatial.predictions import Prediction
from roborefer_spatial.sample import Sample, load_samples
from roborefer_spatial.scoring.metrics import by_set
from roborefer_spatial.scoring.score import score
from roborefer_spatial.synthetic.rooms import shoot
from roborefer_spatial.synthetic.tree import _scene, write_scenes
from roborefer_spatial.tasks.build import build
from roborefer_spatial.tasks.object_samples import BuildOptions
from torch import nn
from torch.nn import functional

WIDTH, HEIGHT, VIEWS = 160, 120, 5
CELL = 4
"""The model answers with a cell of 4x4 pixels of the query, or with NOT_VISIBLE."""
ALPHA, REACH = 0.45, round(0.02 * WIDTH)
MARKABLE = 0.004
"""An object is asked about from views in which it covers this share of the picture."""
VAL_WH = (320, 240)


def render(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures (views, h, w, 3) uint8 and the number of the thing (views, h, w) int8, -1 the room."""
    rng = np.random.default_rng([7, number])  # the held-out rooms are seeded by a hash of a text
    room, seats, _ = _scene(rng, VIEWS, (WIDTH, HEIGHT), 3)
    pictures, things = zip(*(shoot(room, seat).compose() for seat in seats))
    noisy = np.stack(pictures) * 255 + rng.normal(0, 2, (VIEWS, HEIGHT, WIDTH, 3))
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8), np.stack(things).astype(np.int8)


def collected(rendered: Any, until: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the rooms of a pool's iterator: all that are done by then, and one at least."""
    found: list[tuple[np.ndarray, np.ndarray]] = []
    with contextlib.suppress(StopIteration, multiprocessing.TimeoutError):
        while True:
            left = until - time.monotonic()
            found.append(rendered.next(timeout=max(left, 0.01) if found else None))
    return np.stack([pictures for pictures, _ in found]), np.stack([things for _, things in found])


class Block(nn.Module):
    """Self-attention and a perceptron, each after a norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // 32
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(self.norms[0](x)).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.mlp(self.norms[1](x))


class Pointer(nn.Module):
    """Two pictures to (cells + 1) logits: one encoder for both, attention among all their tokens, a head on B's."""

    def __init__(self, width: int = 256, depth: int = 8) -> None:
        super().__init__()
        half = width // 2

        def stage(a: int, b: int) -> nn.Sequential:
            first, second = nn.Conv2d(a, b, 3, 2, 1), nn.Conv2d(b, b, 3, 1, 1)
            return nn.Sequential(first, nn.GroupNorm(8, b), nn.GELU(), second, nn.GroupNorm(8, b), nn.GELU())

        self.fine = nn.Sequential(stage(3, 64), stage(64, half))  # stride 4
        self.coarse = stage(half, width)  # stride 8
        self.place = nn.Parameter(0.02 * torch.randn(1, (HEIGHT // 8) * (WIDTH // 8), width))
        self.which = nn.Parameter(0.02 * torch.randn(2, 1, width))
        self.said = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.back = nn.Conv2d(width, half, 1)
        self.head = nn.Sequential(nn.Conv2d(2 * half, half, 3, 1, 1), nn.GELU(), nn.Conv2d(half, 1, 1))
        self.absent = nn.Linear(width, 1)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        batch = len(a)
        fine = self.fine(torch.cat([a, b]))
        tokens = self.coarse(fine).flatten(2).transpose(1, 2) + self.place
        tokens = torch.cat([tokens[:batch] + self.which[0], tokens[batch:] + self.which[1]], 1)
        tokens = torch.cat([self.said.expand(batch, -1, -1), tokens], 1)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        found = tokens[:, -(HEIGHT // 8) * (WIDTH // 8) :].transpose(1, 2).reshape(batch, -1, HEIGHT // 8, WIDTH // 8)
        found = functional.interpolate(self.back(found), scale_factor=2, mode="bilinear", align_corners=False)
        cells = self.head(torch.cat([found, fine[batch:]], 1)).flatten(1)
        return torch.cat([cells, self.absent(tokens[:, 0])], 1)


def dilated(mask: torch.Tensor) -> torch.Tensor:
    """Grow (n, h, w) masks as the generator does."""
    return functional.max_pool2d(mask[:, None].float(), 2 * REACH + 1, 1, REACH)[:, 0] > 0


class Questions:
    """Draws questions from rendered rooms, on the device that holds them."""

    def __init__(self, pictures: np.ndarray, things: np.ndarray, device: str) -> None:
        self.pictures, self.things = torch.from_numpy(pictures).to(device), torch.from_numpy(things).to(device)
        counts = np.stack([(things == k).sum(axis=(2, 3)) for k in range(int(things.max()) + 1)], -1)
        self.markable = torch.from_numpy(np.argwhere(counts >= MARKABLE * WIDTH * HEIGHT)).to(device)

    def draw(self, batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return A marked, B (n, 3, h, w) in -1..1, and the target (n, cells + 1) that sums to 1."""
        device = self.pictures.device
        room, view, thing = self.markable[torch.randint(len(self.markable), (batch,), device=device)].unbind(1)
        other = (view + torch.randint(1, VIEWS, (batch,), device=device)) % VIEWS
        mask_a, mask_b = (dilated(self.things[room, v] == thing[:, None, None]) for v in (view, other))
        a, b = (self.pictures[room, v].permute(0, 3, 1, 2).float() / 255 for v in (view, other))
        gain = 1 + 0.3 * (torch.rand(2, batch, 3, 1, 1, device=device) - 0.5)
        a, b = (a * gain[0]).clamp(0, 1), (b * gain[1]).clamp(0, 1)
        red = torch.tensor([1.0, 0, 0], device=device)[None, :, None, None]
        a = torch.where(mask_a[:, None], (1 - ALPHA) * a + ALPHA * red, a)
        share = functional.avg_pool2d(mask_b[:, None].float(), CELL).flatten(1)
        absent = (share.sum(1, keepdim=True) == 0).float()
        target = torch.cat([share / share.sum(1, keepdim=True).clamp(min=1e-6), absent], 1)
        turn = torch.rand(batch, device=device) < 0.5  # a room in a mirror
        a, b = (torch.where(turn[:, None, None, None], x.flip(3), x) for x in (a, b))
        cells = target[:, :-1].view(batch, HEIGHT // CELL, WIDTH // CELL)
        cells = torch.where(turn[:, None, None], cells.flip(2), cells).flatten(1)
        return 2 * a - 1, 2 * b - 1, torch.cat([cells, target[:, -1:]], 1)


def learn(model: Pointer, questions: Questions, out: Path, args: argparse.Namespace, started: float) -> dict[str, Any]:
    """Train until the time is over; the learning rate follows the clock."""
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.rate, weight_decay=0.05, betas=(0.9, 0.98))
    state, step, spent, losses = out / "state.pt", 0, 0.0, []
    if state.is_file():
        saved = torch.load(state, map_location=device)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        step, spent = saved["step"], saved["spent"]
    torch.manual_seed(args.seed + step)
    begin = kept = time.monotonic()
    while True:
        now = time.monotonic()
        done = spent + now - begin
        if done >= args.seconds or now - started >= args.until or step >= args.steps:
            break
        part = max(done / args.seconds, step / args.steps)
        for group in optimizer.param_groups:
            group["lr"] = args.rate * min(1, (step + 1) / 500) * 0.5 * (1 + math.cos(math.pi * part))
        a, b, target = questions.draw(args.batch)
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(a, b)
        loss = functional.cross_entropy(logits.float(), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 100 == 0:
            losses.append([step, round(loss.item(), 4)])
            print(f"step {step}, {done:.0f} s, loss {losses[-1][1]}", flush=True)
        if now - kept > 60:
            kept = now
            _keep(state, model, optimizer, step, done)
    _keep(state, model, optimizer, step, done)
    return {"steps": step, "seconds": round(done, 1), "losses": losses}


def _keep(path: Path, model: Pointer, optimizer: torch.optim.Optimizer, step: int, spent: float) -> None:
    kept = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "spent": spent}
    torch.save(kept, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


@torch.no_grad()
def answers(model: Pointer, samples: list[Sample], batch: int = 64) -> list[Prediction]:
    """Answer samples: the middle of the best 3x3 cells, or NOT_VISIBLE where that is likelier than not."""
    device = next(model.parameters()).device
    said = []
    for start in range(0, len(samples), batch):
        some = samples[start : start + batch]
        a, b = (torch.stack([_picture(sample.image[side]) for sample in some]).to(device) for side in (0, 1))
        chance = model(a, b).float().softmax(1)
        cells = functional.avg_pool2d(chance[:, :-1].view(-1, 1, HEIGHT // CELL, WIDTH // CELL), 3, 1, 1).flatten(1)
        for sample, absent, best in zip(some, chance[:, -1].tolist(), cells.argmax(1).tolist()):
            row, col = divmod(best, WIDTH // CELL)
            point = ((col + 0.5) * CELL / WIDTH, (row + 0.5) * CELL / HEIGHT)
            said.append(Prediction(sample.id, NOT_VISIBLE if absent > 0.5 else format_points([point])))
    return said


def _picture(path: str) -> torch.Tensor:
    picture = Image.fromarray(read_rgb(Path(path))).resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 127.5 - 1


def others(samples: list[Sample], *, matcher: bool) -> dict[str, list[Prediction]]:
    """Return what needs no learning: NOT_VISIBLE always, and the matcher."""
    runs = {"always NOT_VISIBLE": [Prediction(s.id, NOT_VISIBLE) for s in samples]}
    if not matcher:
        return runs
    backend = backends.create("matcher", backends.options("matcher", {}))
    requests = [Request(s.id, tuple(map(Path, s.image)), "", task=s.task, concat=s.concat) for s in samples]
    said = [Prediction(s.id, str(text)) for s, text in zip(samples, backend.answer(requests))]
    return {**runs, "matcher (SIFT)": said}


def main() -> int:
    """Render, train, answer, score; write results.json and answers.jsonl."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for weights, answers and results.json")
    add("--rooms", type=int, default=6000, help="training rooms (default: %(default)s)")
    add("--val-rooms", type=int, default=40, help="held-out rooms (default: %(default)s)")
    add("--render-seconds", type=float, default=100, help="rendering ends then (default: %(default)s)")
    add("--seconds", type=float, default=300, help="training time (default: %(default)s)")
    add("--until", type=float, default=1e9, help="training stops so many seconds after the start of the program")
    add("--steps", type=int, default=10**9, help="and after so many steps")
    add("--batch", type=int, default=256, help="questions a step (default: %(default)s)")
    add("--rate", type=float, default=4e-4, help="highest learning rate (default: %(default)s)")
    add("--width", type=int, default=256, help="of the model (default: %(default)s)")
    add("--depth", type=int, default=8, help="blocks of attention (default: %(default)s)")
    add("--workers", type=int, default=8, help="processes that render (default: %(default)s)")
    add("--seed", type=int, default=0, help="of weights and questions (default: %(default)s)")
    add("--no-matcher", action="store_true", help="for a machine without OpenCV")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    started = time.monotonic()
    args.out = args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    pool = multiprocessing.get_context("spawn").Pool(args.workers)
    rendered = pool.imap_unordered(render, range(args.rooms))  # meanwhile:
    tree, tasks = args.out / "x3", args.out / "tasks"
    if not (tasks / "manifest.json").is_file():
        write_scenes(tree, scenes=args.val_rooms, seed=0, size_wh=VAL_WH, splits=("val",))
        build(tree, BuildOptions(out_dir=tasks))
    samples = load_samples(tasks / "t1_val_multi.jsonl")
    print(f"{len(samples)} held-out samples, {time.monotonic() - started:.0f} s", flush=True)
    runs = others(samples, matcher=not args.no_matcher)
    print(f"matched, {time.monotonic() - started:.0f} s", flush=True)
    pictures, things = collected(rendered, started + args.render_seconds)
    pool.terminate()
    print(f"{len(pictures)} training rooms, {time.monotonic() - started:.0f} s", flush=True)
    questions = Questions(pictures, things, args.device)
    middle = _median(questions)

    torch.manual_seed(args.seed)
    model = Pointer(args.width, args.depth).to(args.device)
    result: dict[str, Any] = {"rooms": len(pictures), "parameters": sum(p.numel() for p in model.parameters())}
    runs["median of the training answers"] = [Prediction(s.id, format_points([middle])) for s in samples]
    result["runs"] = {name: _metrics(samples, run) for name, run in runs.items()}
    _write(args.out, result)
    result.update(learn(model, questions, args.out, args, started))
    said = answers(model.eval(), samples)
    (args.out / "answers.jsonl").write_text("".join(row.to_json() + "\n" for row in said))
    result["runs"]["two-image model"] = _metrics(samples, said)
    _write(args.out, result)
    for name, metrics in result["runs"].items():
        print(name, json.dumps(metrics), flush=True)
    return 0


def _median(questions: Questions) -> tuple[float, float]:
    """Return the median point of the training answers, which are mirrored half of the time."""
    cells = torch.cat([questions.draw(256)[2][:, :-1] for _ in range(8)]).view(-1, HEIGHT // CELL, WIDTH // CELL)
    sums = cells.sum((0, 1)), cells.sum((0, 2))
    x, y = (float((axis.cumsum(0) / axis.sum() < 0.5).sum() + 0.5) / len(axis) for axis in sums)
    return x, y


def _metrics(samples: list[Sample], said: list[Prediction]) -> dict[str, Any]:
    found = by_set(score(samples, said))["t1_multi/val"]
    names = ("hit_at_mask", "chance_hit_at_mask", "not_visible_f1", "not_visible_precision", "not_visible_recall",
             "overall_accuracy")  # fmt: skip
    intervals = {name: found["intervals"].get(name) for name in names}
    return {**{name: found[name] for name in names}, "total": found["total"], "intervals": intervals}


def _write(out: Path, result: dict[str, Any]) -> None:
    (out / "results.json").write_text(json.dumps(result, indent=1, default=float) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
