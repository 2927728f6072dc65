"""What the rewards teach: the demo's tiny model, supervised and then GRPO, against supervised alone at equal steps.

A LLaVA of 0.2 M parameters learns Task 2B in rendered rooms by imitation for `--first` steps; one copy goes on by
imitation for `--more` steps, its learning rate continuing, another by GRPO (DeepSeekMath, arXiv 2402.03300: answers are
drawn in groups, an answer's advantage is its reward less the group's mean, in units of the group's deviation; one
update for each draw, so that no clipping is needed) with the package's rewards. A third model learns by imitation for
all steps in one schedule. All answer the same held-out rooms greedily, scored by the package. The loop is written out
here so that it needs torch and transformers only; TRL's trainer takes the same rewards (`training.rewards_trl`).

Run: python benchmarks/learn_rewards.py --out learn_rewards
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from roborefer_spatial import torchvision_cpu
from roborefer_spatial.predictions import Prediction
from roborefer_spatial.sample import Sample, load_samples
from roborefer_spatial.scoring.metrics import by_set
from roborefer_spatial.scoring.rewards import RewardOptions, rewards
from roborefer_spatial.scoring.score import score
from roborefer_spatial.synthetic.tree import write_scenes
from roborefer_spatial.tasks.build import build
from roborefer_spatial.tasks.object_samples import BuildOptions
from torch import Tensor, nn

torchvision_cpu.make_importable()
from roborefer_spatial.demo import model as tiny  # noqa: E402

SIZES = {"train": (160, 120), "val": (320, 240)}
LONGEST = 20
"""Tokens of an answer at most."""
ROOMS_EACH = 10


def make_part(job: tuple[Path, str, int]) -> Path:
    """Render ten rooms and build their questions, unless they are there; return the file of Task 2B."""
    folder, split, number = job
    tasks = folder / f"{split}_{number}" / "tasks"
    if not (tasks / "manifest.json").is_file():
        tree = folder / f"{split}_{number}" / "x3"
        write_scenes(tree, scenes=ROOMS_EACH, seed=number, size_wh=SIZES[split], splits=(split,))
        build(tree, BuildOptions(out_dir=tasks))
    return tasks / f"t2b_{split}_multi.jsonl"


def questions(folder: Path, split: str, rooms: int, pool: Any) -> list[Sample]:
    """Return Task 2B of so many rooms; parts are rendered side by side."""
    parts = pool.map(make_part, [(folder, split, number) for number in range(-(-rooms // ROOMS_EACH))], chunksize=1)
    return [sample for part in parts for sample in load_samples(part)]


class Asked:
    """Questions as tensors: prompts alone (all of one length), whole rows with answers, and the samples."""

    def __init__(self, processor: Any, samples: list[Sample], device: str) -> None:
        self.samples, self.pad = samples, processor.tokenizer.pad_token_id
        self.never = processor.tokenizer.convert_tokens_to_ids(["<image>", "<user>", "<assistant>"])
        self.data = {name: tensor.to(device) for name, tensor in tiny.encode(processor, samples).items()}
        said = self.data["labels"] != -100
        lengths = said.int().argmax(1)
        if len(set(lengths.tolist())) != 1:
            raise ValueError(f"prompts of {len(set(lengths.tolist()))} lengths: expected one, as Task 2B has")
        self.prompt = int(lengths[0])

    def draw(self, batch: int, generator: torch.Generator) -> Tensor:
        return torch.randint(len(self.samples), (batch,), generator=generator)


def imitate(model: nn.Module, asked: Asked, steps: int, rate: Any, seed: int) -> None:
    """Train on the true answers; `rate(step)` is the learning rate."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.01, betas=(0.9, 0.99))
    model.train()
    for step in range(steps):
        index = asked.draw(32, generator).to(asked.data["labels"].device)
        batch = {name: tensor[index] for name, tensor in asked.data.items()}
        loss = model(**batch, attention_mask=(batch["input_ids"] != asked.pad).long()).loss
        _step(model, optimizer, loss, rate(step))
    model.eval()


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, rate: float) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()


@torch.no_grad()
def drawn(model: Any, asked: Asked, index: Tensor, copies: int, eos: int, *, greedy: bool = False) -> Tensor:
    """Return answers (n * copies, LONGEST) as tokens, padded after the end."""
    ids = asked.data["input_ids"][index, : asked.prompt].repeat_interleave(copies, 0)
    pixels = asked.data["pixel_values"][index].repeat_interleave(copies, 0)
    ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    for _ in range(LONGEST):
        logits = model(input_ids=ids, pixel_values=pixels, attention_mask=torch.ones_like(ids)).logits[:, -1].float()
        logits[:, asked.never] = -torch.inf
        token = logits.argmax(1) if greedy else torch.multinomial(logits.softmax(1), 1)[:, 0]
        token = token.masked_fill(ended, asked.pad)
        ended |= token == eos
        ids = torch.cat([ids, token[:, None]], 1)
        if ended.all():
            break
    said = ids[:, asked.prompt :]
    return nn.functional.pad(said, (0, LONGEST - said.shape[1]), value=asked.pad)


def reinforce(model: Any, asked: Asked, processor: Any, args: argparse.Namespace, seed: int) -> list[list[float]]:
    """Train by GRPO; return the mean reward of every tenth step."""
    tokenizer, generator, curve = processor.tokenizer, torch.Generator().manual_seed(seed), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.0, betas=(0.9, 0.99))
    options = RewardOptions(visible_share=1.0)
    for step in range(args.more):
        index = asked.draw(args.prompts, generator).to(asked.data["labels"].device)
        said = drawn(model, asked, index, args.group, tokenizer.eos_token_id)
        texts = tokenizer.batch_decode(said, skip_special_tokens=True)
        samples = [asked.samples[number] for number in index.tolist() for _ in range(args.group)]
        earned = torch.tensor(rewards(samples, texts, options)).view(-1, args.group)
        spread = earned.std(1, keepdim=True)
        advantage = ((earned - earned.mean(1, keepdim=True)) / (spread + 1e-4)).view(-1, 1).float().to(said.device)
        ended = (said == tokenizer.eos_token_id).cumsum(1)
        counted = (ended - (said == tokenizer.eos_token_id).long() == 0) & (said != asked.pad)
        prompts = asked.data["input_ids"][index, : asked.prompt].repeat_interleave(args.group, 0)
        ids = torch.cat([prompts, said], 1)
        seen = torch.cat([torch.ones_like(prompts), counted.long()], 1)
        pixels = asked.data["pixel_values"][index].repeat_interleave(args.group, 0)
        logits = model(input_ids=ids, pixel_values=pixels, attention_mask=seen).logits[:, asked.prompt - 1 : -1]
        logits[..., asked.never] = -torch.inf
        logs = logits.float().log_softmax(-1).gather(-1, said[..., None])[..., 0]
        loss = -(advantage * logs * counted).sum() / counted.sum()
        _step(model, optimizer, loss, args.grpo_rate * min(1.0, (step + 1) / 20) * max(0.05, 1 - step / args.more))
        if step % 10 == 0:
            curve.append([step, round(float(earned.mean()), 4)])
            print(f"step {step}, reward of draws {curve[-1][1]}", flush=True)
    return curve


def measured(model: Any, asked: Asked, processor: Any) -> dict[str, Any]:
    """Return Hit@Mask, its interval, and the mean reward, of greedy answers."""
    said = []
    for start in range(0, len(asked.samples), 256):
        index = torch.arange(start, min(start + 256, len(asked.samples)), device=asked.data["labels"].device)
        tokens = drawn(model, asked, index, 1, processor.tokenizer.eos_token_id, greedy=True)
        said += processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    found = by_set(score(asked.samples, [Prediction(s.id, text) for s, text in zip(asked.samples, said)]))
    row = next(iter(found.values()))
    names = ("hit_at_mask", "chance_hit_at_mask", "total")
    reward = float(rewards(asked.samples, said, RewardOptions(visible_share=1.0)).mean())
    return {**{name: row[name] for name in names}, "interval": row["intervals"]["hit_at_mask"], "reward": reward}


def one_seed(seed: int, training: list[Sample], held_out: list[Sample], args: argparse.Namespace) -> dict[str, Any]:
    """Train the three arms of a seed; return their figures."""
    started = time.monotonic()
    model, processor = tiny.build(training, seed)
    model.to(args.device)
    asked, asked_val = (Asked(processor, samples, args.device) for samples in (training, held_out))
    everything = args.first + args.more

    def falling(total: int, before: int = 0) -> Any:
        return lambda step: 3e-3 * min(1.0, (before + step + 1) / 50) * max(0.05, 1 - (before + step) / total)

    whole = copy.deepcopy(model)
    result: dict[str, Any] = {"seed": seed}

    def note(name: str, arm: Any) -> None:
        result[name] = measured(arm, asked_val, processor)
        result[name]["seconds"] = round(time.monotonic() - started)
        print(f"seed {seed}, {name}: {json.dumps(result[name], default=float)}", flush=True)

    imitate(model, asked, args.first, falling(args.first), seed)
    note("supervised, first steps", model)
    taught = copy.deepcopy(model)
    result["reward of draws"] = reinforce(model, asked, processor, args, seed + 1000)
    note("supervised, then GRPO", model)
    imitate(taught, asked, args.more, lambda step: 1.5e-3 * max(0.05, 1 - step / args.more), seed + 1000)
    note("supervised, then supervised again", taught)
    imitate(whole, asked, everything, falling(everything), seed)
    note("supervised, all steps in one schedule", whole)
    return result


def main() -> int:
    """Render, train every seed, and write results.json as it goes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for results.json")
    add("--rooms-folder", type=Path, help="rooms, which runs can share (default: in --out)")
    add("--train-rooms", type=int, default=160, help="default: %(default)s")
    add("--val-rooms", type=int, default=60, help="default: %(default)s")
    add("--first", type=int, default=600, help="steps by imitation, 32 questions each (default: %(default)s)")
    add("--more", type=int, default=300, help="steps after that, in both arms (default: %(default)s)")
    add("--prompts", type=int, default=32, help="questions in a step of GRPO (default: %(default)s)")
    add("--group", type=int, default=8, help="answers drawn for each (default: %(default)s)")
    add("--grpo-rate", type=float, default=3e-4, help="highest learning rate of GRPO (default: %(default)s)")
    add("--seeds", type=int, nargs="*", default=[0, 1, 2], help="none: only rooms (default: 0 1 2)")
    add("--workers", type=int, default=4, help="processes that render (default: %(default)s)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    folder = (args.rooms_folder or args.out).resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
        training = questions(folder, "train", args.train_rooms, pool)
        held_out = questions(folder, "val", args.val_rooms, pool)
    print(f"{len(training)} and {len(held_out)} questions, {time.monotonic() - started:.0f} s", flush=True)
    options = {name: str(value) for name, value in vars(args).items() if name not in ("out", "rooms_folder")}
    results: dict[str, Any] = {"options": options, "questions": [len(training), len(held_out)], "seeds": []}
    for seed in args.seeds:
        results["seeds"].append(one_seed(seed, training, held_out, args))
        (args.out / "results.json").write_text(json.dumps(results, indent=1, default=float) + "\n")
    for name in results["seeds"][0] if results["seeds"] else ():
        rows = [found[name] for found in results["seeds"] if isinstance(found[name], dict)]
        if rows:
            hits = np.array([row["hit_at_mask"] for row in rows])
            print(f"{name}: Hit@Mask {hits.mean():.3f}, by seed {np.round(hits, 3).tolist()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
