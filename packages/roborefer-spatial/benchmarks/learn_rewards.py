"""What the rewards teach: the demo's tiny model, supervised and then GRPO, against supervised alone.

A LLaVA of 0.2 M parameters learns Task 2B in rendered rooms by imitation for `--first` steps. From there one copy goes
on by GRPO (DeepSeekMath, arXiv 2402.03300: answers are drawn in groups, an answer's advantage is its reward less the
group's mean, in units of the group's deviation; one update for each draw, so that no clipping is needed) with the
package's rewards for `--more` steps, one by imitation for as many steps, and one by imitation for as many seconds. A
last model learns by imitation for all steps in one schedule. All answer the same held-out rooms greedily, scored by the
package and compared question by question. The loop is written out here so that it needs torch and transformers only;
TRL's trainer takes the same rewards (`training.rewards_trl`).

Every part that is done is kept in `--out` and not done again, so a stopped run goes on where it was, and processes with
other `--seeds` can share the folder. `--seeds` without a number trains nothing, and compares what is there.

Run: python benchmarks/learn_rewards.py --out learn_rewards
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from roborefer_spatial import files, torchvision_cpu
from roborefer_spatial.predictions import Prediction
from roborefer_spatial.sample import Sample, load_samples
from roborefer_spatial.scoring.compare import compared
from roborefer_spatial.scoring.rewards import RewardOptions, rewards
from roborefer_spatial.scoring.score import score
from roborefer_spatial.synthetic.tree import write_scenes
from roborefer_spatial.tasks.build import build
from roborefer_spatial.tasks.object_samples import BuildOptions
from torch import Tensor, nn
from transformers import DynamicCache

torchvision_cpu.make_importable()
from roborefer_spatial.demo import model as tiny  # noqa: E402

SIZES = {"train": (160, 120), "val": (320, 240)}
ROOMS_EACH = 10
FIRST, GRPO = "supervised, first steps", "supervised, then GRPO"
SAME_STEPS, SAME_TIME = "supervised, then supervised, same steps", "supervised, then supervised, same time"
WHOLE = "supervised, all steps in one schedule"
KEPT = ("first", "more", "prompts", "group", "grpo_rate", "again_rate")
OTHERS = (FIRST, SAME_STEPS, SAME_TIME, WHOLE)
"""What GRPO is compared with."""


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
    """Return Task 2B of so many rooms; parts are rendered side by side, and name their rooms alike."""
    parts = pool.map(make_part, [(folder, split, number) for number in range(-(-rooms // ROOMS_EACH))], chunksize=1)
    return [
        msgspec.structs.replace(sample, id=f"{number}/{sample.id}", scene=f"{number}/{sample.scene}")
        for number, part in enumerate(parts)
        for sample in load_samples(part)
    ]


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
        self.longest = said.shape[1] - self.prompt
        """Tokens of the longest true answer: no answer that is drawn is longer."""
        self.earned: dict[tuple[int, str], float] = {}

    def rewards(self, index: list[int], texts: list[str]) -> list[float]:
        """Return the reward of each answer; what was answered before is looked up."""
        asked = list(zip(index, texts))
        new = [key for key in dict.fromkeys(asked) if key not in self.earned]
        options = RewardOptions(visible_share=1.0)  # Task 2B has no NOT_VISIBLE
        found = rewards([self.samples[number] for number, _ in new], [text for _, text in new], options)
        self.earned.update(zip(new, found.tolist()))
        return [self.earned[key] for key in asked]

    def draw(self, batch: int, generator: torch.Generator) -> Tensor:
        return torch.randint(len(self.samples), (batch,), generator=generator)


def imitate(model: nn.Module, asked: Asked, seed: int, steps: int, rate: Callable[[float], float]) -> None:
    """Train on the true answers; `rate(step)` is the learning rate."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.01, betas=(0.9, 0.99))
    model.train()
    for step in range(steps):
        _imitate_once(model, asked, generator, optimizer, rate(step))
    model.eval()


def imitate_for(model: nn.Module, asked: Asked, seed: int, seconds: float, highest: float) -> int:
    """Train on the true answers until the time is over, at a rate that falls with it; return the steps."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.01, betas=(0.9, 0.99))
    started, steps = time.monotonic(), 0
    model.train()
    while (gone := (time.monotonic() - started) / seconds) < 1:
        _imitate_once(model, asked, generator, optimizer, highest * max(0.05, 1 - gone))
        steps += 1
    model.eval()
    return steps


def _imitate_once(model: nn.Module, asked: Asked, generator: Any, optimizer: Any, rate: float) -> None:
    index = asked.draw(32, generator).to(asked.data["labels"].device)
    batch = {name: tensor[index] for name, tensor in asked.data.items()}
    loss = model(**batch, attention_mask=(batch["input_ids"] != asked.pad).long()).loss
    _step(model, optimizer, loss, rate)


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, rate: float) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()


@torch.no_grad()
def drawn(model: Any, asked: Asked, index: Tensor, copies: int, eos: int, *, greedy: bool = False) -> Tensor:
    """Return answers (n * copies, longest) as tokens, padded after the end. A question is read once for all copies."""
    ids, cache = asked.data["input_ids"][index, : asked.prompt], DynamicCache()
    logits = model(
        input_ids=ids, pixel_values=asked.data["pixel_values"][index], past_key_values=cache, use_cache=True
    ).logits[:, -1]
    cache.batch_repeat_interleave(copies)
    logits = logits.repeat_interleave(copies, 0)
    ended = torch.zeros(len(logits), dtype=torch.bool, device=ids.device)
    said: list[Tensor] = []
    while True:
        logits = logits.float()
        logits[:, asked.never] = -torch.inf
        token = logits.argmax(1) if greedy else torch.multinomial(logits.softmax(1), 1)[:, 0]
        said.append(token.masked_fill(ended, asked.pad))
        ended |= token == eos
        if len(said) == asked.longest or ended.all():
            tokens = torch.stack(said, 1)
            return nn.functional.pad(tokens, (0, asked.longest - tokens.shape[1]), value=asked.pad)
        logits = model(input_ids=said[-1][:, None], past_key_values=cache, use_cache=True).logits[:, -1]


def reinforce(model: Any, asked: Asked, processor: Any, args: argparse.Namespace, seed: int) -> list[list[float]]:
    """Train by GRPO; return the mean reward of the draws of every ten steps."""
    tokenizer, generator, curve, earned_of = processor.tokenizer, torch.Generator().manual_seed(seed), [], []
    torch.manual_seed(seed)  # the draws of answers
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.0, betas=(0.9, 0.99))
    for step in range(args.more):
        index = asked.draw(args.prompts, generator).to(asked.data["labels"].device)
        said = drawn(model, asked, index, args.group, tokenizer.eos_token_id)
        texts = tokenizer.batch_decode(said, skip_special_tokens=True)
        numbers = [number for number in index.tolist() for _ in range(args.group)]
        earned = torch.tensor(asked.rewards(numbers, texts)).view(-1, args.group)
        advantage = (earned - earned.mean(1, keepdim=True)) / (earned.std(1, keepdim=True) + 1e-4)
        loss = -(advantage.view(-1, 1).to(said.device) * _logs(model, asked, index, said, args.group)).sum()
        rate = args.grpo_rate * min(1.0, (step + 1) / 20) * max(0.05, 1 - step / args.more)
        _step(model, optimizer, loss / (said != asked.pad).sum(), rate)
        earned_of.append(float(earned.mean()))
        if len(earned_of) == 10:
            curve.append([step - 9, round(float(np.mean(earned_of)), 4)])
            earned_of.clear()
            print(f"seed {seed}, steps {step - 9} to {step}, reward of draws {curve[-1][1]}", flush=True)
    return curve


def _logs(model: Any, asked: Asked, index: Tensor, said: Tensor, copies: int) -> Tensor:
    """Return the log probability of every token that was drawn, 0 after an answer's end."""
    prompts = asked.data["input_ids"][index, : asked.prompt].repeat_interleave(copies, 0)
    pixels = asked.data["pixel_values"][index].repeat_interleave(copies, 0)
    ids = torch.cat([prompts, said], 1)
    seen = (ids != asked.pad).long()
    logits = model(input_ids=ids, pixel_values=pixels, attention_mask=seen).logits[:, asked.prompt - 1 : -1].float()
    barred = torch.zeros(logits.shape[-1], device=logits.device).index_fill(0, torch.tensor(asked.never).to(ids), 1)
    logs = logits.masked_fill(barred.bool(), -torch.inf).log_softmax(-1).gather(-1, said[..., None])[..., 0]
    return torch.where(said != asked.pad, logs, 0.0)


def answered(model: Any, asked: Asked, processor: Any) -> list[str]:
    """Return the greedy answer to every question."""
    said = []
    for start in range(0, len(asked.samples), 256):
        index = torch.arange(start, min(start + 256, len(asked.samples)), device=asked.data["labels"].device)
        tokens = drawn(model, asked, index, 1, processor.tokenizer.eos_token_id, greedy=True)
        said += processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return said


class Arms:
    """The arms of a seed: each is trained once, answers the held-out rooms, and is kept in a file."""

    def __init__(self, seed: int, training: list[Sample], held_out: list[Sample], args: argparse.Namespace) -> None:
        self.file, self.args, self.seed = args.out / f"seed_{seed}.json", args, seed
        self.weights = self.file.with_suffix(".pt")
        options = {name: getattr(args, name) for name in KEPT} | {"questions": [len(training), len(held_out)]}
        self.kept: dict[str, Any] = {"seed": seed, "options": options, "arms": {}}
        if self.file.is_file():
            self.kept = json.loads(self.file.read_text())
            if self.kept["options"] != options:
                raise ValueError(f"{self.file} was made with {self.kept['options']}, not {options}: take another --out")
        self.model, self.processor = tiny.build(training, seed)
        self.model.to(args.device)
        self.asked, self.asked_val = (Asked(self.processor, some, args.device) for some in (training, held_out))

    def train(self, name: str, work: Callable[[Any], dict[str, Any]], start: Any) -> float:
        """Train a copy of `start`, unless that is done; return the seconds that its training took."""
        if name not in self.kept["arms"]:
            model = copy.deepcopy(start)
            started = time.monotonic()
            noted = work(model)
            if self.args.device != "cpu":
                torch.cuda.synchronize()
            noted["seconds"] = round(time.monotonic() - started, 1)
            texts = answered(model, self.asked_val, self.processor)
            noted["reward"] = float(np.mean(self.asked_val.rewards(list(range(len(texts))), texts)))
            self.kept["arms"][name] = noted | {"answers": texts}
            if name == FIRST:
                torch.save(model.state_dict(), self.weights)
            files.write_json(self.file, self.kept)
            print(f"seed {self.seed}, {name}: {noted['seconds']} s, reward {noted['reward']:.3f}", flush=True)
        return float(self.kept["arms"][name]["seconds"])

    def run(self) -> None:
        """Train all that is missing."""
        args, seed, everything = self.args, self.seed, self.args.first + self.args.more

        def falling(total: int) -> Callable[[float], float]:
            return lambda step: 3e-3 * min(1.0, (step + 1) / 50) * max(0.05, 1 - step / total)

        def supervised(steps: int, rate: Callable[[float], float], order: int) -> Callable[[Any], dict[str, Any]]:
            def work(model: Any) -> dict[str, Any]:
                imitate(model, self.asked, order, steps, rate)
                return {"steps": steps}

            return work

        def by_rewards(model: Any) -> dict[str, Any]:
            return {"steps": args.more, "curve": reinforce(model, self.asked, self.processor, args, seed)}

        def for_as_long(model: Any) -> dict[str, Any]:
            return {"steps": imitate_for(model, self.asked, seed + 1000, seconds, args.again_rate)}

        def again(step: float) -> float:
            return args.again_rate * max(0.05, 1 - step / args.more)

        self.train(WHOLE, supervised(everything, falling(everything), seed), self.model)
        self.train(FIRST, supervised(args.first, falling(args.first), seed), self.model)
        if not self.weights.is_file():
            raise ValueError(f"{self.weights} is gone: move {self.file.name} away to train the seed anew")
        taught = copy.deepcopy(self.model)
        taught.load_state_dict(torch.load(self.weights, map_location=args.device, weights_only=True))
        taught.eval()
        seconds = self.train(GRPO, by_rewards, taught)
        self.train(SAME_STEPS, supervised(args.more, again, seed + 1000), taught)
        self.train(SAME_TIME, for_as_long, taught)


def summary(held_out: list[Sample], folder: Path) -> dict[str, Any]:
    """Score every kept arm; return Hit@Mask of each, and GRPO's difference from each other, question by question."""
    kept = [json.loads(path.read_text()) for path in sorted(folder.glob("seed_*.json"))]
    scenes = [sample.scene for sample in held_out]

    def hits(texts: list[str]) -> Any:
        found = score(held_out, [Prediction(sample.id, text) for sample, text in zip(held_out, texts)])
        return np.nan_to_num(found.hit), found.chance

    result: dict[str, Any] = {"questions": len(held_out), "rooms": len(set(scenes)), "arms": {}, "GRPO less": {}}
    columns = {name: {} for name in (GRPO, *OTHERS)}
    for name, by_seed in columns.items():
        for row in kept:
            if name in row["arms"]:
                by_seed[row["seed"]], chance = hits(row["arms"][name]["answers"])
        if by_seed:
            mean = np.mean(list(by_seed.values()), 0)
            whole = compared(np.zeros_like(mean), mean, scenes, bootstrap=2000, seed=0)
            rows = [row["arms"][name] for row in kept if name in row["arms"]]
            result["arms"][name] = {
                "hit_at_mask": whole.b,
                "interval": whole.interval,
                "by seed": {seed: float(hit.mean()) for seed, hit in by_seed.items()},
                "steps": [row["steps"] for row in rows],
                "seconds": [row["seconds"] for row in rows],
                "chance": float(np.nanmean(chance)),
            }
    for name in OTHERS:
        seeds = sorted(set(columns[GRPO]) & set(columns[name]))
        if seeds:
            two = [[columns[arm][seed] for seed in seeds] for arm in (name, GRPO)]
            one = [compared(a, b, scenes, bootstrap=2000, seed=0) for a, b in zip(*two)]
            both = compared(np.mean(two[0], 0), np.mean(two[1], 0), scenes, bootstrap=2000, seed=0)
            result["GRPO less"][name] = {
                "difference": both.difference,
                "interval": both.interval,
                "by seed": [c.difference for c in one],
                "only other, only GRPO": [[c.only_a, c.only_b] for c in one],
                "McNemar p": [c.p_value for c in one],
            }
    return result


def main() -> int:
    """Render, train every seed that is asked for, and compare what the folder holds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for what is learnt, and results.json")
    add("--rooms-folder", type=Path, help="rooms, which runs can share (default: in --out)")
    add("--train-rooms", type=int, default=160, help="default: %(default)s")
    add("--val-rooms", type=int, default=60, help="default: %(default)s")
    add("--first", type=int, default=600, help="steps by imitation, 32 questions each (default: %(default)s)")
    add("--more", type=int, default=300, help="steps after that, in both arms (default: %(default)s)")
    add("--again-rate", type=float, default=1.5e-3, help="rate at which imitation goes on (default: %(default)s)")
    add("--prompts", type=int, default=32, help="questions in a step of GRPO (default: %(default)s)")
    add("--group", type=int, default=8, help="answers drawn for each (default: %(default)s)")
    add("--grpo-rate", type=float, default=3e-4, help="highest learning rate of GRPO (default: %(default)s)")
    add("--seeds", type=int, nargs="*", default=[0, 1, 2], help="none: only compare (default: 0 1 2)")
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
    for seed in args.seeds:
        Arms(seed, training, held_out, args).run()
    found = summary(held_out, args.out)
    files.write_json(args.out / "results.json", found)
    for name, row in found["arms"].items():
        print(f"{name}: Hit@Mask {row['hit_at_mask']:.3f} {row['interval']}, by seed {row['by seed']}")
    for name, row in found["GRPO less"].items():
        print(f"GRPO less {name}: {row['difference']:+.3f} {row['interval']}, {row['by seed']}, p {row['McNemar p']}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
