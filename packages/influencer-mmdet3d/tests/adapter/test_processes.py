import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch
from influencer_mmdet3d.host.processes import plan_processes, run_logged

SLURM = {"SLURM_JOB_ID": "7"}
PYTHON = (sys.executable, "-u")


@pytest.fixture(autouse=True)
def _two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.parametrize(
    "environ, count, prefix, launcher",
    [
        ({}, 1, PYTHON, "none"),
        ({"GPUS": "1"}, 1, PYTHON, "none"),
        ({"GPUS": "2"}, 2, (sys.executable, "-m", "torch.distributed.run", "--standalone"), "pytorch"),
        (SLURM, 1, PYTHON, "none"),
        ({**SLURM, "SLURM_NTASKS": "8"}, 8, ("srun", "--ntasks=8", "--kill-on-bad-exit=1", *PYTHON), "slurm"),
        ({**SLURM, "GPUS": "4"}, 4, ("srun", "--ntasks=4"), "slurm"),
        ({**SLURM, "SLURM_NTASKS": "8", "SLURM_STEP_ID": "4294967290"}, 8, ("srun", "--ntasks=8"), "slurm"),
        ({**SLURM, "SLURM_NTASKS": "8", "SLURM_STEP_ID": "0", "SLURM_PROCID": "3"}, 8, PYTHON, "slurm"),
        ({**SLURM, "SLURM_NTASKS": "1", "SLURM_STEP_ID": "0"}, 1, PYTHON, "none"),
    ],
)
def test_plan(environ, count, prefix, launcher):
    plan = plan_processes(environ)
    assert (plan.count, plan.launcher) == (count, launcher)
    assert plan.prefix[: len(prefix)] == prefix
    assert plan.first is (environ.get("SLURM_PROCID", "0") == "0")


def test_torchrun_gets_the_number():
    assert plan_processes({"GPUS": "2"}).prefix[-1] == "--nproc_per_node=2"


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", ""])
def test_gpus_must_be_a_number(value):
    with pytest.raises(ValueError, match="GPUS must be a positive number"):
        plan_processes({"GPUS": value})


def test_more_gpus_than_there_are():
    with pytest.raises(ValueError, match="GPUS=3, but torch sees 2"):
        plan_processes({"GPUS": "3"})


def test_gpus_against_the_tasks_of_srun():
    with pytest.raises(ValueError, match="GPUS=2, but srun started 4 tasks"):
        plan_processes({**SLURM, "GPUS": "2", "SLURM_NTASKS": "4", "SLURM_STEP_ID": "1"})


def test_both_streams_are_shown_and_logged(tmp_path, capfdbinary):
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"
    log = tmp_path / "run" / "a.log"
    assert run_logged([*PYTHON, "-c", code], os.environ, log) == 7
    assert sorted(log.read_bytes().split()) == [b"err", b"out"]
    shown = capfdbinary.readouterr().out
    assert b"out" in shown and b"err" in shown and str(log).encode() in shown


def test_without_log():
    assert run_logged([*PYTHON, "-c", "pass"], os.environ, None) == 0


def test_death_by_signal_counts_as_in_a_shell():
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert run_logged([*PYTHON, "-c", code], os.environ, None) == 128 + signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_the_job_and_its_end_is_waited_for(number, tmp_path):
    """The job cleans up on the signal and chooses its exit code; the launcher ends after it, with that code."""
    job = f"""
        import signal, sys, time
        def stop(*_):
            time.sleep(0.3)
            open({str(tmp_path / "clean")!r}, "w").close()
            sys.exit(5)
        signal.signal({int(number)}, stop)
        open({str(tmp_path / "ready")!r}, "w").close()
        time.sleep(60)
    """
    outer = f"""
        import os, signal, sys
        from influencer_mmdet3d.host.processes import run_logged
        signal.signal({int(number)}, signal.SIG_DFL)  # a suite in a shell's background ignores SIGINT, as would this
        sys.exit(run_logged([sys.executable, "-c", {textwrap.dedent(job)!r}], os.environ, None))
    """
    launcher = subprocess.Popen([sys.executable, "-c", textwrap.dedent(outer)], start_new_session=True)
    try:
        until = time.monotonic() + 60
        while not (tmp_path / "ready").exists() and time.monotonic() < until:
            time.sleep(0.05)
        launcher.send_signal(number)
        assert launcher.wait(30) == 5
    finally:
        launcher.kill()
    assert (tmp_path / "clean").exists()
