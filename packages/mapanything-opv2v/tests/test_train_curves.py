"""benchmarks/train_curves.py apart from the training itself: options, figures from logs, report."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "train_curves.py"


@pytest.fixture(scope="module")
def curves():
    spec = importlib.util.spec_from_file_location("train_curves", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_steps_are_fixed_and_each_key_is_set_once(curves, tmp_path):
    args = curves.parse(["--out", str(tmp_path), "--steps", "300", "--epochs", "5"])
    for stage in curves.STAGES:
        words = curves.overrides(stage, args)
        keys = [word.partition("=")[0] for word in words]
        assert len(keys) == len(set(keys)) and f"+experiment=opv2v_{stage}" in words
        assert "dataset.steps_per_epoch=60" in words and 'dataset.resolution_train="(224,168)"' in words


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--width", "100"], "--width must be a multiple of 56"),
        (["--steps", "7"], "--steps one of --epochs"),
        (["--gpus", "99"], "--gpus 99: torch sees"),
    ],
)
def test_options_that_cannot_work_are_told(curves, tmp_path, capsys, words, problem):
    with pytest.raises(SystemExit):
        curves.parse(["--out", str(tmp_path), *words])
    assert problem in capsys.readouterr().err


def test_figures_of_a_run_and_their_report(curves, tmp_path, capsys):
    run_dir = tmp_path / "run"
    with SummaryWriter(log_dir=str(run_dir)) as writer:
        for step in range(16):  # 8 steps in each of 2 epochs, one every half second
            writer.add_scalar("train_loss", 16.0 - step, step * 125, walltime=100 + step / 2)
        for epoch, loss in ((1, 5.0), (2, 4.0)):
            writer.add_scalar("OPV2VDataset_validate_loss_avg", loss, 1000 * epoch)
    (run_dir / "train.log").write_text("data: 0.1  max mem: 100\nmax mem: 250\nmax mem: 240\n")
    run = {"status": 0, **curves.read_run(run_dir)}
    assert run["train_loss"] == [16.0 - step for step in range(16)] and run["validation_loss"] == [5.0, 4.0]
    assert run["first_loss"] == 14.5 and run["last_loss"] == 2.5  # means of the first and last quarter
    assert run["steps_per_s"] == pytest.approx(2.0) and run["gpu_memory_mb"] == 250
    curves.report(curves.parse(["--out", str(tmp_path)]), {"stage1": run, "stage2": {"status": 1}})
    told = json.loads((tmp_path / "result.json").read_text())
    assert told["runs"]["stage1"]["last_loss"] == 2.5 and told["machine"]["torch"] == torch.__version__
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "stage1" in capsys.readouterr().out
