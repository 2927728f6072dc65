"""The trial of the kernels: what is kept for whom, and what a failure looks like."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from influencer_mmdet3d.loss.kernels import trial

DEVICE = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def _place(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path / "pipe"))
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (8, 6))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "a GPU")
    trial.verdict.cache_clear()


def answers(monkeypatch, *done, pipes=None):
    """Let trials end like this, one after the other; return the commands, and add where each looks for MPS."""
    commands, left, pipes = [], list(done), [] if pipes is None else pipes

    def run(command, **options):
        commands.append(command)
        pipes.append(options["env"]["CUDA_MPS_PIPE_DIRECTORY"])
        stdout, code, stderr = left.pop(0)
        return SimpleNamespace(stdout=stdout, returncode=code, stderr=stderr)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def said(**verdict):
    return json.dumps({"passed": True, "reason": "agree", "times": {}} | verdict)


def test_a_verdict_is_kept(monkeypatch):
    commands = answers(monkeypatch, (f"some line\n{said(times={'S': [20.0, 2.0]})}\n", 0, ""))
    assert trial.recall(DEVICE) is None
    first = trial.verdict(DEVICE)
    trial.verdict.cache_clear()
    assert trial.verdict(DEVICE) == first and first.passed and first.times == {"S": [20.0, 2.0]}
    assert len(commands) == 1 and commands[0][1:] == ["-m", "influencer_mmdet3d.host.kernel_trial", "0"]


def test_it_holds_for_one_gpu_and_these_versions(monkeypatch):
    answers(monkeypatch, (said(), 0, ""), (said(passed=False, reason="differ"), 0, ""))
    trial.verdict(DEVICE)
    before = trial.key(DEVICE)
    monkeypatch.setattr(torch, "__version__", "9.9")
    assert trial.recall(DEVICE) is None and trial.key(DEVICE) != before
    trial.verdict.cache_clear()
    assert not trial.verdict(DEVICE).passed
    assert len(json.loads(trial.store().read_text())) == 2


def test_a_trial_that_cannot_be_made_is_not_kept(monkeypatch):
    answers(monkeypatch, ("", -11, "Traceback\nout of memory"), (said(), 0, ""))
    found = trial.verdict(DEVICE)
    assert not found.passed and found.reason == "could not be tried: exit status -11, out of memory"
    trial.verdict.cache_clear()
    assert trial.verdict(DEVICE).passed


def test_the_trial_leaves_mps_alone(monkeypatch, tmp_path):
    """There a fault of one program ends all; only a GPU that takes no program otherwise is tried with it."""
    pipes, mps = [], str(tmp_path / "pipe")
    busy = "AcceleratorError: CUDA error: CUDA-capable device(s) is/are busy or unavailable\n"
    answers(monkeypatch, (said(), 0, ""), ("", -11, "fault"), ("", 1, busy), (said(passed=False), 0, ""), pipes=pipes)
    assert trial.make_trial(DEVICE).passed
    assert trial.make_trial(DEVICE).reason == "could not be tried: exit status -11, fault"  # and not with MPS
    assert mps not in pipes and not any(Path(pipe).exists() for pipe in pipes)
    assert not trial.make_trial(DEVICE).passed and not trial.recall(DEVICE).passed
    assert len(pipes) == 4 and pipes[3] == mps


def test_a_store_that_cannot_be_read_is_made_anew(monkeypatch):
    answers(monkeypatch, (said(), 0, ""))
    trial.store().parent.mkdir(parents=True)
    trial.store().write_text("{")
    assert trial.verdict(DEVICE).passed and trial.recall(DEVICE).passed


def test_a_home_that_cannot_be_written_to(monkeypatch, tmp_path):
    answers(monkeypatch, (said(), 0, ""))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert trial.verdict(DEVICE).passed and trial.recall(DEVICE) is None
