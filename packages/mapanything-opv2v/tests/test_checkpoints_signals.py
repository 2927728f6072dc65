"""Signals that come while a checkpoint is written act after it, once."""

from __future__ import annotations

import os
import signal
import threading

import pytest
import torch
from mapanything_opv2v.checkpoints import storage
from mapanything_opv2v.checkpoints.signals import held


class _Interrupting:
    """Something to pickle that signals its own process while it is pickled."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        os.kill(os.getpid(), self.number)
        os.kill(os.getpid(), self.number)
        return int, (7,)


@pytest.fixture
def handler():
    """Return how often a job's handler of SIGUSR2, which ends the program, was called."""
    calls = []

    def end(number, frame):
        calls.append(number)
        raise SystemExit(-1)

    before = signal.signal(signal.SIGUSR2, end)
    yield calls
    signal.signal(signal.SIGUSR2, before)


def test_a_job_that_runs_out_of_time_ends_after_its_checkpoint(tmp_path, handler):
    path = tmp_path / "checkpoint-last.pth"
    with pytest.raises(SystemExit):
        storage.write(path, {"tensor": torch.arange(3), "mark": _Interrupting(signal.SIGUSR2)})
    assert handler == [signal.SIGUSR2]  # once, although it came twice
    assert storage.load(path)["tensor"].tolist() == [0, 1, 2]
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_without_waiting_the_end_becomes_an_error_of_the_archive(tmp_path, handler):
    """What this is for: torch's writer puts its own error in the place of the program's end."""
    with pytest.raises((RuntimeError, SystemExit)), (tmp_path / "a").open("wb") as stream:
        torch.save({"tensor": torch.arange(3), "mark": _Interrupting(signal.SIGUSR2)}, stream)


@pytest.fixture
def ctrl_c():
    """Let SIGINT raise KeyboardInterrupt, also where the tests run in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_waits_too(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        storage.write(tmp_path / "checkpoint-last.pth", {"mark": _Interrupting(signal.SIGINT)})
    assert (tmp_path / "checkpoint-last.pth").is_file()


def test_handlers_are_as_before(handler):
    before = [signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)]
    with held():
        assert signal.getsignal(signal.SIGUSR2) != before[0]
        assert signal.getsignal(signal.SIGTERM) == before[1]  # the default ends the process at once, as ever
    assert [signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)] == before


def test_in_another_thread_nothing_changes(tmp_path):
    thread = threading.Thread(target=storage.write, args=(tmp_path / "checkpoint-1.pth", {"a": 1}))
    thread.start()
    thread.join()
    assert storage.load(tmp_path / "checkpoint-1.pth") == {"a": 1}
