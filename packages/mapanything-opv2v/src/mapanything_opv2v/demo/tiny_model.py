"""The demo's second half: a tiny real MapAnything trains on drawn towns and is judged on others beside a constant.

First a start (`+experiment=opv2v_start`), which asks where the partner and every patch is; then the dense head, for
ranges. MapAnything runs in processes of its own, through the package's launcher and its command line.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mapanything_opv2v import rawdata, synthetic
from mapanything_opv2v.demo import partners
from mapanything_opv2v.files import read_json
from mapanything_opv2v.predictions import list_predictions

ROOT = "MAPANYTHING_ROOT"

MISSING = (
    "MapAnything was not trained: MAPANYTHING_ROOT is not set. Get a checkout (the package's README, Install), then "
    "run the demo again with MAPANYTHING_ROOT naming it; it then takes about a quarter of an hour."
)

SIZE_WH = (84, 21)
TOWNS = {"train": 130, "validate": 4, "test": 40}
"""Of each split, all drawn anew, with so many agents each."""
AGENTS = 7
IMAGE_WH, LIDAR = (80, 60), (16, 64)
NEAR_M = 15.0
"""Largest distance of a partner, in training and where the model is judged."""
SAME = 0.3
"""Share of training pairs that are a vehicle and itself, turned."""
START_EPOCHS, START_STEPS, START_PAIRS = 4, 500, 16
DENSE_EPOCHS, DENSE_STEPS, DENSE_PAIRS = 3, 250, 8
LR, POSE_LR, DENSE_LR = 2e-3, 1e-3, 1.5e-3
"""A pose head that learns as fast as the rest can stay at one heading for good."""

_SHOWN_EVERY_S = 20.0
_STEP = re.compile(r"Epoch: \[(\d+)\]\s+\[\s*(\d+)/(\d+)\].*? loss: [\d.]+ \(([\d.]+)\)")

_TRAIN = "from mapanything_opv2v.train import main"
_CLI = "from mapanything_opv2v.cli import main"
_BOOT = """\
import sys
from mapanything_opv2v.host import torchvision_ops
torchvision_ops.define_missing()
{load}
sys.exit(main(sys.argv[1:]))
"""


@dataclass(frozen=True)
class Trained:
    """What became of the model."""

    losses: tuple[tuple[float, ...], tuple[float, ...]]
    """Mean training loss of each epoch, of the start and of the dense stage: two different losses."""
    summary: dict[str, Any]
    """`summary.json` of the evaluation on held-out towns."""
    strangers: dict[str, Any]
    """The same with the images of a partner from another town."""
    predictions: Path
    """Predictions of the first evaluated pair."""
    seconds: float
    """Of the two trainings."""


def train_and_evaluate(out: Path, seed: int, *, quiet: bool = False) -> Trained | None:
    """Train on the split `train` of drawn towns, evaluate on `test`; None without MAPANYTHING_ROOT.

    Raises
    ------
    ValueError
        If training or evaluation fails; with the end of what was printed.
    """
    root = os.environ.get(ROOT)
    if not root:
        return None
    towns, pairs, strangers = (out / name for name in ("small_towns", "pairs", "pairs_of_strangers"))
    _draw(towns, seed, quiet)
    index = rawdata.index_tree(towns)
    held_out = partners.near_pairs(index.splits["test"], NEAR_M)
    partners.write_pairs(pairs / "train", partners.near_pairs(index.splits["train"], NEAR_M))
    partners.write_pairs(pairs / "test", held_out)
    partners.write_pairs(strangers / "test", held_out, strangers=True)
    env = {
        **os.environ,
        "OPV2V_ROOT": str(towns.resolve()),
        "OPV2V_DEPTH_ROOT": str(towns.resolve()),
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
        "OMP_NUM_THREADS": "1",  # more threads than idle cores make tiny steps many times slower
        "CUDA_VISIBLE_DEVICES": "",
    }
    width, height = map(str, SIZE_WH)
    cache = (out / "small_panoramas").resolve()
    build = ["prebuild", towns, "--depth-root", towns, "--cache", cache, "--panorama-resolution", width, height]
    _run(_CLI, [*map(str, build), "--quiet"], env, out / "prebuild.txt")
    began, runs = time.monotonic(), (out / "runs").resolve()
    first = _train("start", _start(runs, cache), env, out, runs, quiet)
    second = _train("cylindrical", _dense(runs, cache), env, out, runs, quiet)
    seconds = time.monotonic() - began
    checkpoint = runs / "opv2v" / "cylindrical" / "checkpoint-final.pth"
    summary = _evaluate(checkpoint, pairs, out / "evaluation", env)
    constant = out / "evaluation" / "baselines" / "constant.npz"
    shuffled = _evaluate(checkpoint, strangers, out / "evaluation_of_strangers", env, "--baseline", str(constant))
    shown = list_predictions(out / "evaluation" / "predictions")[0]
    return Trained((first, second), summary, shuffled, shown, seconds)


def _draw(towns: Path, seed: int, quiet: bool) -> None:
    for split, count in TOWNS.items():
        synthetic.write_town(
            towns,
            seed=seed,
            sequences=count,
            agents=AGENTS,
            splits=(split,),
            image_size=IMAGE_WH,
            lidar_size=LIDAR,
            layout="streets",
            progress=not quiet,
        )


def _shared(runs: Path, cache: Path) -> list[str]:
    """Return the overrides of both trainings: the tiny model, small panoramas, pairs of near vehicles."""
    width, height = SIZE_WH
    return [
        "model=opv2v_tiny",
        "model/task=calibrated_sfm",
        "model.encoder.patch_size=7",
        "model.info_sharing.module_args.init_values=null",
        f"machine.root_experiments_dir={runs}",
        f'dataset.resolution_train="({width},{height})"',
        f"dataset.opv2v.panorama_cache={cache}",
        "dataset.num_views=2",
        "dataset.num_workers=1",
        "dataset.max_sets_per_epoch=null",
        "dataset.train.variable_num_views=false",
        "dataset.opv2v.class_name=OPV2VStartDataset",
        "dataset.opv2v.main_agent_policy=random",
        "dataset.opv2v.train.transform=imgnorm",
        "dataset.opv2v.train.panorama_roll=true",
        f"++dataset.opv2v.train.partner_near_m={NEAR_M}",
        f"++dataset.opv2v.train.partner_far_m={NEAR_M}",
        "++dataset.opv2v.train.partner_widen_epochs=1000000",  # never: the share of turned copies stays
        f"++dataset.opv2v.train.partner_same={SAME}",
        "dataset.opv2v.val.max_scenes=8",
        "train_params.eval_freq=1000000",  # the evaluation that follows is of near pairs, a validation of all
        "train_params.keep_freq=0",
        "train_params.amp=0",
    ]


def _start(runs: Path, cache: Path) -> list[str]:
    return [
        "+experiment=opv2v_start",
        *_shared(runs, cache),
        "model.model_str=opv2v_start",
        "model.pretrained=null",
        f"dataset.steps_per_epoch={START_STEPS}",
        f"train_params.max_num_of_imgs_per_gpu={2 * START_PAIRS}",
        f"train_params.epochs={START_EPOCHS}",
        "train_params.warmup_epochs=0.1",
        f"train_params.lr={LR}",
        "train_params.min_lr=2e-5",
        f"train_params.submodule_configs.encoder.lr={LR}",
        f"+train_params.submodule_configs.pose_head={{lr:{POSE_LR},min_lr:1e-5}}",
    ]


def _dense(runs: Path, cache: Path) -> list[str]:
    return [
        "+experiment=opv2v_cylindrical",
        *_shared(runs, cache),
        f"model.pretrained={runs / 'opv2v' / 'start' / 'checkpoint-final.pth'}",
        f"dataset.steps_per_epoch={DENSE_STEPS}",
        f"train_params.max_num_of_imgs_per_gpu={2 * DENSE_PAIRS}",
        f"train_params.epochs={DENSE_EPOCHS}",
        "train_params.warmup_epochs=0.2",
        f"train_params.lr={DENSE_LR}",
        "train_params.submodule_configs.encoder.lr=3e-4",
        "+train_params.submodule_configs.info_sharing={lr:3e-4,min_lr:1e-6}",
        "+train_params.submodule_configs.pose_head={lr:3e-4,min_lr:1e-6}",
    ]


def _train(stage: str, overrides: list[str], env: dict[str, str], out: Path, runs: Path, quiet: bool) -> Any:
    """Train a stage; return the mean loss of each epoch."""
    _run(_TRAIN, overrides, env, out / f"training_{stage}.txt", None if quiet else stage)
    log = (runs / "opv2v" / stage / "log.txt").read_text().splitlines()
    lines = [json.loads(line) for line in log]
    return tuple(float(line["train_loss"]) for line in lines if "train_loss" in line)


def _evaluate(checkpoint: Path, root: Path, out: Path, env: dict[str, str], *more: str) -> dict[str, Any]:
    """Evaluate the pairs of a tree; return the summary."""
    width, height = map(str, SIZE_WH)
    words = ["evaluate", "--checkpoint", checkpoint, "--root", root, "--out", out]
    words += ["--dataset", "OPV2VCoopCylindricalDataset", "--num-views", "2", "--resolution", width, height]
    words += ["--inputs", "calibration", "--keep-predictions", "--quiet", *more]
    _run(_CLI, [*map(str, words)], env, out.with_suffix(".txt"))
    return dict(read_json(out / "summary.json"))


def _run(load: str, arguments: Sequence[str], env: dict[str, str], log: Path, shown: str | None = None) -> None:
    """Run a process and keep what it prints; say how far a training is, if it has a name to be shown by."""
    command = [sys.executable, "-c", _BOOT.format(load=load), *arguments]
    epochs = next((int(word.partition("=")[2]) for word in arguments if word.startswith("train_params.epochs=")), 1)
    began = told = time.monotonic()
    with (
        log.open("w") as stream,
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            stream.write(line)
            stream.flush()
            if shown and time.monotonic() - told > _SHOWN_EVERY_S and (text := progress(line, epochs, began)):
                told = time.monotonic()
                print(f"training, {shown}: {text}", flush=True)
    if process.returncode != 0:
        end = log.read_text(errors="replace")[-3000:]
        raise ValueError(f"the demo's MapAnything failed with status {process.returncode}, see {log}:\n{end}")


def progress(line: str, epochs: int, began: float) -> str | None:
    """Return step, loss and time left that a line of the host's log stands for; None if it is another line."""
    match = _STEP.search(line)
    if match is None:
        return None
    epoch, step, steps = map(int, match.groups()[:3])
    done = epoch * steps + step
    left = (time.monotonic() - began) * (epochs * steps / done - 1) if done else 0.0
    return f"step {done} of {epochs * steps}, mean loss of this epoch {match[4]}, about {left:.0f} s left"
