"""tools/opv2v/train_opv2v.sh: the command that it runs, and that its overrides compose."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from mapanything_opv2v.train import build_parser

SCRIPT = Path(__file__).parents[3] / "tools" / "opv2v" / "train_opv2v.sh"
ENV = {name: value for name, value in os.environ.items() if name not in ("GPUS", "SLURM", "PYTHON")}


def command(*words, **variables):
    done = subprocess.run(
        ["bash", str(SCRIPT), *words], env={**ENV, "DRY_RUN": "1", **variables}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return shlex.split(done.stdout)


LAUNCH = ["-m", "mapanything_opv2v.train"]


@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3", "cylindrical"])
def test_one_gpu(stage):
    assert command(stage, "a=b c") == ["python3", *LAUNCH, f"+experiment=opv2v_{stage}", "a=b c"]


def test_several_gpus():
    words = command("stage1", "--without", "lr_log", GPUS="4", PYTHON="py")
    torchrun = ["py", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=4"]
    assert words == [*torchrun, *LAUNCH, "+experiment=opv2v_stage1", "--without", "lr_log"]
    args, rest = build_parser().parse_known_args(words[7:])
    assert args.without == "lr_log" and rest == ["+experiment=opv2v_stage1"]


def test_slurm():
    words = command("stage3", "hydra.launcher.partition=gpu", SLURM="1", GPUS="8")
    overrides = ["+experiment=opv2v_stage3", "+cluster=opv2v_slurm", "hydra.launcher.gpus_per_node=8"]
    assert words == ["python3", *LAUNCH, *overrides, "hydra.launcher.partition=gpu"]


def test_an_unknown_stage_shows_the_usage():
    done = subprocess.run(["bash", str(SCRIPT), "stage4"], env=ENV, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("usage: train_opv2v.sh stage1|stage2")
