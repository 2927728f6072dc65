"""The demo's second half: a tiny real MapAnything trains on a few towns and is evaluated on others, images only.

MapAnything runs in processes of its own, through the package's launcher and its command line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mapanything_opv2v import synthetic
from mapanything_opv2v.files import read_json
from mapanything_opv2v.predictions import list_predictions

ROOT = "MAPANYTHING_ROOT"

MISSING = (
    "MapAnything was not trained: MAPANYTHING_ROOT is not set. Get a checkout (the package's README, Install), then "
    "run the demo again with MAPANYTHING_ROOT naming it."
)

SIZE_WH = (112, 84)
EPOCHS, STEPS = 4, 20
TOWNS = 6
"""Of each split; every one is drawn anew."""
LR = 1e-3

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

    losses: tuple[float, ...]
    """Mean training loss of each epoch."""
    summary: dict[str, Any]
    """`summary.json` of the evaluation."""
    predictions: Path
    """Predictions of the first evaluated frame."""


def train_and_evaluate(out: Path, seed: int, *, quiet: bool = False) -> Trained | None:
    """Train on the town's split `train`, evaluate on `test`; None without MAPANYTHING_ROOT.

    Raises
    ------
    ValueError
        If training or evaluation fails; with the end of what was printed.
    """
    root = os.environ.get(ROOT)
    if not root:
        return None
    town = synthetic.write_town(
        out / "small_town",
        seed=seed,
        sequences=TOWNS,
        agents=2,
        splits=("train", "validate", "test"),
        depth_root=out / "small_depth",
        image_size=(160, 120),
        lidar_size=(16, 128),
        layout="streets",
        progress=not quiet,
    )
    runs = (out / "runs").resolve()
    env = {
        **os.environ,
        "OPV2V_ROOT": str(town.root.resolve()),
        "OPV2V_DEPTH_ROOT": str(town.depth_root.resolve()),
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
        "OMP_NUM_THREADS": "1",  # more threads than idle cores make tiny steps many times slower
        "CUDA_VISIBLE_DEVICES": "",
    }
    if not quiet:
        print(f"training a tiny MapAnything for {EPOCHS * STEPS} steps on the CPU", flush=True)
    _run(_TRAIN, _overrides(runs), env, out / "training.txt")
    run = runs / "opv2v" / "stage2"
    evaluated = out / "evaluation"
    width, height = map(str, SIZE_WH)
    arguments = ["evaluate", "--checkpoint", run / "checkpoint-final.pth", "--root", town.root, "--out", evaluated]
    arguments += ["--depth-root", town.depth_root, "--num-views", "4", "--resolution", width, height]
    _run(_CLI, [*map(str, arguments), "--keep-predictions", "--quiet"], env, out / "evaluation.txt")
    log = [json.loads(line) for line in (run / "log.txt").read_text().splitlines()]
    losses = tuple(float(line["train_loss"]) for line in log if "train_loss" in line)
    first = list_predictions(evaluated / "predictions")[0]
    return Trained(losses, read_json(evaluated / "summary.json"), first)


def told(trained: Trained) -> str:
    """Return what the page says of the model."""
    width, height = SIZE_WH
    return (
        f"MapAnything with 8 million parameters and no pretrained weights, {EPOCHS * STEPS} steps of stage 2 on "
        f"{TOWNS} towns, a frame of two vehicles each, {width} x {height} pixels, evaluated on {TOWNS} other towns: "
        "the model saw images only, no calibration, pose or depth. It shows that everything runs, from training to "
        "these pages. Such a model places neither cameras nor surfaces well (the constant beside it sees nothing "
        "at all), and its figures say nothing about MapAnything."
    )


def _overrides(runs: Path) -> list[str]:
    """Return the Hydra overrides that make stage 2 small, without MapAnything's weights."""
    width, height = SIZE_WH
    return [
        "+experiment=opv2v_stage2",
        "model=opv2v_tiny",
        "model.pretrained=null",
        f"machine.root_experiments_dir={runs}",
        f'dataset.resolution_train="({width},{height})"',
        "dataset.num_views=4",
        "dataset.num_workers=1",
        f"dataset.steps_per_epoch={STEPS}",
        "dataset.max_sets_per_epoch=null",
        "dataset.opv2v.val.max_scenes=2",
        "train_params.max_num_of_imgs_per_gpu=8",
        f"train_params.epochs={EPOCHS}",
        "train_params.warmup_epochs=0.5",
        f"train_params.eval_freq={EPOCHS}",
        "train_params.keep_freq=0",
        "train_params.amp=0",
        f"train_params.lr={LR}",
        f"train_params.submodule_configs.encoder.lr={LR}",
    ]


def _run(load: str, arguments: Sequence[str], env: dict[str, str], log: Path) -> None:
    command = [sys.executable, "-c", _BOOT.format(load=load), *arguments]
    with log.open("w") as stream:
        done = subprocess.run(command, env=env, stdout=stream, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        end = log.read_text(errors="replace")[-3000:]
        raise ValueError(f"the demo's MapAnything failed with status {done.returncode}, see {log}:\n{end}")
