"""`roborefer-spatial demo`: the whole way on synthetic rooms, on a CPU, without RoboRefer or downloads.

Scenes, task sets, a baseline, a tiny vision-language model trained on Task 2B, answers to held-out rooms
through the transformers backend, scores, and the gallery.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from roborefer_spatial import files, predictions, terminal
from roborefer_spatial.answers import format_points
from roborefer_spatial.look.report import Run, write_report
from roborefer_spatial.predicting import backends
from roborefer_spatial.predicting.backends import Request
from roborefer_spatial.predicting.predict import predict
from roborefer_spatial.predicting.store import run_identity
from roborefer_spatial.sample import Sample, load_samples
from roborefer_spatial.scoring.metrics import Metrics, by_set
from roborefer_spatial.scoring.score import Scores, score
from roborefer_spatial.synthetic.tree import write_scenes
from roborefer_spatial.tasks.build import build
from roborefer_spatial.tasks.object_samples import BuildOptions

TRAIN_WH, VAL_WH = (160, 120), (320, 240)
SETS = ("t1_{}_multi", "t1_{}_concat", "t2b_{}_multi")
VLM, BASELINE, MATCHER = "tiny VLM", "baseline", "matcher"
MATCHED = ("t1_multi", "t2b_multi")
"""Tasks that the matcher answers, too."""
_NEEDS = ("torch", "transformers", "accelerate", "matplotlib")
_SYNTHETIC = (
    "All rooms, objects, masks and inpainted views are rendered by the package itself; the model starts from "
    "random weights and has seen the training rooms only."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How large the demonstration is. `steps` of 32 samples; the rest counts rooms."""

    train_scenes: int = 80
    val_scenes: int = 20
    steps: int = 600
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("train_scenes", "val_scenes", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(self, name)}: expected at least 1")


class MedianBackend:
    """The baseline: always the median of the true points of the training set, blind to the images."""

    def __init__(self, training: Sequence[Sample]) -> None:
        points = [sample.answer_point for sample in training if sample.answer_point is not None]
        x, y = np.median(np.array(points), axis=0)
        self.text = format_points([(float(x), float(y))])

    def answer(self, requests: Sequence[Request]) -> list[str]:
        """Return the same point for every question."""
        return [self.text] * len(requests)


def demo(out: Path, plan: Plan, echo: Callable[[str], None] = print, *, progress: bool = True) -> bool:
    """Run the demonstration; return whether the trained model beats the baseline.

    Writes `index.html`, `overview.png` and `result.json` into `out`.

    Raises
    ------
    ValueError
        A library that it needs is not installed.
    """
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"the demo needs {', '.join(missing)}: pip install 'roborefer-spatial[demo]'")
    started = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="roborefer-spatial-demo-") as folder:
        work = Path(folder)
        tasks = _make_tasks(work, plan, echo, progress)
        checkpoint, training_s, parameters = _train(work, tasks, plan, echo, progress)
        runs = {VLM: Run(VLM, _ask_vlm(work, checkpoint, tasks["t2b_val_multi"]))}
        runs |= {run.name: run for run in (*_matcher(work, tasks, echo), *_baselines(work, tasks))}
        sets = {name: next(iter(by_set(run.scores).values())) for name, run in runs.items()}
        vlm, baseline = sets[VLM], sets[f"{BASELINE}, t2b_multi"]
        start = {"run": VLM, "order": "best"}
        write_report(list(runs.values()), out / "index.html", title="x3 spatial tasks: demo", start=start)
        from roborefer_spatial.demo.picture import draw_overview

        draw_overview(out / "overview.png", runs[VLM].scores, runs[f"{BASELINE}, t2b_multi"].scores)
    figures = _figures(sets, plan, tasks, training_s, parameters)
    for label, text in figures:
        echo(f"{label}: {text}")
    files.write_json(
        out / "result.json",
        {
            "package": "roborefer-spatial",
            "title": "x3 spatial tasks: a tiny VLM learns to point at what was removed",
            "page": "index.html",
            "picture": "overview.png",
            "figures": figures,
            "synthetic": _SYNTHETIC,
            "seconds": round(time.perf_counter() - started, 1),
        },
    )
    return bool(vlm["hit_at_mask"] > baseline["hit_at_mask"])


def _make_tasks(work: Path, plan: Plan, echo: Callable[[str], None], progress: bool) -> dict[str, list[Sample]]:
    """Render the rooms and build the sets; return them by file name."""
    echo(f"rendering {plan.train_scenes} training rooms and {plan.val_scenes} held-out rooms")
    tree = work / "x3"
    write_scenes(tree, scenes=plan.train_scenes, seed=plan.seed, size_wh=TRAIN_WH, splits=("train",), progress=progress)
    write_scenes(tree, scenes=plan.val_scenes, seed=plan.seed, size_wh=VAL_WH, splits=("val",), progress=progress)
    build(tree, BuildOptions(out_dir=work / "tasks"), progress=progress)
    names = [pattern.format(split) for pattern in SETS for split in ("train", "val")]
    return {name: load_samples(work / "tasks" / f"{name}.jsonl") for name in names}


def _train(
    work: Path, tasks: dict[str, list[Sample]], plan: Plan, echo: Callable[[str], None], progress: bool
) -> tuple[Path, float, int]:
    """Train the model; return its checkpoint, the seconds that it took, and its number of parameters."""
    from roborefer_spatial import torchvision_cpu

    torchvision_cpu.make_importable()
    import torch
    import transformers

    from roborefer_spatial.demo import model as demo_model

    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()  # a log gets lines, not bars
    training = tasks["t2b_train_multi"]
    model, processor = demo_model.build(training, plan.seed)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    data = demo_model.encode(processor, training)
    echo(f"training a model of {parameters:,} parameters on {len(training)} samples of Task 2B")
    threads, started = torch.get_num_threads(), time.perf_counter()
    torch.set_num_threads(1)  # so small a model is fastest on one
    try:
        with terminal.progress(description="train", unit="step", total=plan.steps, quiet=not progress) as bar:

            def show(step: int, loss: float) -> None:
                bar.update()
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)

            demo_model.train(
                model, data, processor.tokenizer.pad_token_id, steps=plan.steps, seed=plan.seed, on_step=show
            )
    finally:
        torch.set_num_threads(threads)
    demo_model.save(model, processor, work / "checkpoint")
    return work / "checkpoint", time.perf_counter() - started, parameters


def _baselines(work: Path, tasks: dict[str, list[Sample]]) -> list[Run]:
    """Answer every held-out set with the median training point."""
    runs = []
    for pattern in SETS:
        name = pattern.format("val")
        backend = MedianBackend(tasks[pattern.format("train")])
        identity = {"backend": "median", "text": backend.text}
        scores = _predicted(tasks[name], lambda: backend, work / f"{name}_baseline.jsonl", identity)  # noqa: B023
        runs.append(Run(f"{BASELINE}, {scores.samples[0].task}", scores))
    return runs


def _matcher(work: Path, tasks: dict[str, list[Sample]], echo: Callable[[str], None]) -> list[Run]:
    """Answer held-out Task 1 and Task 2B by matching the two pictures."""
    runs, options = [], backends.options("matcher", {})
    for task in MATCHED:
        name = task.replace("_", "_val_")
        echo(f"matching the pictures of {len(tasks[name])} held-out samples ({task})")
        identity = run_identity(work / "tasks" / f"{name}.jsonl", "matcher", options)
        out = work / f"{name}_matcher.jsonl"
        runs.append(
            Run(
                f"{MATCHER}, {task}",
                _predicted(tasks[name], lambda: backends.create("matcher", options), out, identity),
            )
        )
    return runs


def _ask_vlm(work: Path, checkpoint: Path, samples: list[Sample]) -> Scores:
    given = {"model": str(checkpoint), "device": "cpu", "max_new_tokens": 24}
    options = backends.options("transformers", given)
    identity = run_identity(work / "tasks" / "t2b_val_multi.jsonl", "transformers", options)
    return _predicted(samples, lambda: backends.create("transformers", options), work / "vlm.jsonl", identity)


def _predicted(
    samples: list[Sample], make_backend: Callable[[], backends.Backend], out: Path, identity: dict[str, Any]
) -> Scores:
    outcome = predict(samples, make_backend, out, identity=identity, batch_size=64)
    if outcome.failed:
        raise RuntimeError(f"{outcome.failed} of {outcome.total} samples failed, first {outcome.first_error}")
    return score(samples, predictions.read(out))


def _figures(
    sets: dict[str, Metrics], plan: Plan, tasks: dict[str, list[Sample]], training_s: float, parameters: int
) -> list[list[str]]:
    """Return (label, text) pairs for people, from the metrics of each run by its name."""
    vlm, baseline, carried = sets[VLM], sets[f"{BASELINE}, t2b_multi"], sets[f"{MATCHER}, t1_multi"]

    def hits(metrics: Metrics) -> str:
        interval = metrics["intervals"]["hit_at_mask"]
        text = f"{metrics['hit_at_mask']:.3f}"
        return text if interval is None else f"{text} (95 % interval {interval[0]:.3f} to {interval[1]:.3f})"

    return [
        ["Task 2B, Hit@Mask on held-out rooms, tiny VLM", hits(vlm)],
        ["the same, baseline (median of the training answers)", hits(baseline)],
        ["the same, matcher (the difference of the two pictures)", hits(sets[f"{MATCHER}, t2b_multi"])],
        ["the same, chance (a random point)", f"{vlm['chance_hit_at_mask']:.3f}"],
        ["Task 1, Hit@Mask on held-out rooms, matcher (SIFT, no training)", hits(carried)],
        ["the same, baseline (median of the training answers)", hits(sets[f"{BASELINE}, t1_multi"])],
        ["the same, chance (a random point)", f"{carried['chance_hit_at_mask']:.3f}"],
        ["Task 1, NOT_VISIBLE, F1 of the matcher", f"{carried['not_visible_f1']:.3f}"],
        ["answers that could not be read", str(sum(vlm["parse_failures"].values()))],
        ["held-out rooms, samples", f"{vlm['scenes']}, {vlm['total']}"],
        ["training rooms, samples", f"{plan.train_scenes}, {len(tasks['t2b_train_multi'])}"],
        [
            "training",
            f"{plan.steps} steps in {training_s:.0f} s on one CPU thread, {parameters:,} parameters",
        ],
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `roborefer-spatial demo`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "example:\n  roborefer-spatial demo --out demo_out"
    add, plan = parser.add_argument, Plan()
    add("--out", type=Path, required=True, help="folder for index.html, overview.png and result.json")
    add("--train-scenes", type=int, default=plan.train_scenes, help="rooms to train on (default: %(default)s)")
    add("--val-scenes", type=int, default=plan.val_scenes, help="held-out rooms (default: %(default)s)")
    add("--steps", type=int, default=plan.steps, help="training steps (default: %(default)s)")
    add("--seed", type=int, default=plan.seed, help="decides rooms, weights and batches (default: 0)")
    add("--quiet", action="store_true", help="show no progress and no figures, which result.json has, too")


def _silent(line: str) -> None:
    """Say nothing."""


def run(args: argparse.Namespace) -> int:
    """Run `roborefer-spatial demo`; 1 if the trained model does not beat the baseline."""
    plan = Plan(train_scenes=args.train_scenes, val_scenes=args.val_scenes, steps=args.steps, seed=args.seed)
    if demo(args.out, plan, _silent if args.quiet else print, progress=not args.quiet):
        print(f"open {args.out / 'index.html'}")
        return terminal.DONE
    print("error: the trained model does not beat the baseline on held-out rooms", file=sys.stderr)
    return terminal.FAILED
