"""Jobs on a real SLURM cluster of one node: several tasks, a requeue and a time-out, going on at the right step."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import tempfile
import threading
import time
from pathlib import Path

import pytest
from mapanything_opv2v.checkpoints import storage
from mapanything_opv2v.checkpoints.record import KEY

ROOT = Path(__file__).parents[4]
GLOO = Path(__file__).with_name("gloo")
slurm = runpy.run_path(str(ROOT / "tasks" / "slurm_cluster.py"))
pytestmark = pytest.mark.skipif(bool(slurm["missing"]()), reason=slurm["missing"]() or "there")
TASKS = 2


@pytest.fixture(scope="module")
def cluster():
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # short: a socket lies there
    with slurm["Cluster"](folder) as running:
        yield running
    shutil.rmtree(folder)


class Submitted:
    """A launcher that waits for its job, in a thread, as a user's terminal does."""

    def __init__(self, launch, cluster, host_root, folder, *overrides):
        self.cluster, self.run_dir, self.done = cluster, folder / "opv2v" / "stage1", None
        before = set(self._numbers())
        options = ("+cluster=opv2v_slurm", f"hydra.launcher.gpus_per_node={TASKS}", "hydra.launcher.partition=gpu")

        def work():
            path = os.pathsep.join([str(host_root), str(GLOO)])  # a CPU has no NCCL
            own = {name: cluster.environment[name] for name in ("SLURM_CONF", "PATH")}
            self.done = launch("stage1", folder, *options, *overrides, PYTHONPATH=path, **own)

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()
        self.number = self.wait(lambda: next(iter(set(self._numbers()) - before), None), 90, "a job in the queue")

    def _numbers(self):
        return self.cluster.run("squeue", "-h", "-t", "all", "-o", "%F").split()

    def wait(self, ready, seconds, what):
        deadline = time.monotonic() + seconds
        while not (found := ready()):
            if time.monotonic() > deadline or (self.done is not None and self.done.returncode):
                raise TimeoutError(f"no {what}:\n{self.text()[-6000:]}")
            time.sleep(1)
        return found

    def epochs(self):
        path = self.run_dir / "log.txt"
        return [json.loads(line)["epoch"] for line in path.read_text().splitlines()] if path.is_file() else []

    def finish(self, seconds):
        self._thread.join(seconds)
        assert self.done is not None, f"still running after {seconds} s:\n{self.text()[-6000:]}"
        assert self.done.returncode == 0, self.text()[-6000:]
        return self.cluster.wait_for_job(self.number, ("COMPLETED",), 30)

    def text(self):
        logs = [
            path
            for path in sorted(self.run_dir.rglob("*"))
            if path.is_file() and path.suffix in (".log", ".out", ".err", ".sh")
        ]
        said = "" if self.done is None else self.done.stdout + self.done.stderr
        return said + "".join(f"\n--- {path}\n{path.read_text(errors='replace')}" for path in logs)


def check(job, epochs):
    """Every epoch was trained once by both tasks, in one folder, and the last start went on from a checkpoint."""
    record = storage.load(job.run_dir / "checkpoint-final.pth")[KEY]
    assert (record["world_size"], record["global_step"], record["steps_per_epoch"]) == (TASKS, 2 * epochs, 2)
    seen = job.epochs()
    assert [*dict.fromkeys(seen)] == list(range(epochs + 1))  # in order
    assert sorted(seen) == seen and len(seen) > epochs + 1  # the epoch that a start goes on from stands there again
    stories = [json.loads(path.read_text()) for path in sorted(job.run_dir.glob("provenance-*.json"))]
    assert stories[0]["resumed_from"] is None
    assert {story["resumed_from"] for story in stories[1:]} == {str(job.run_dir / "checkpoint-last.pth")}
    assert not list(job.run_dir.glob(".*.part"))
    return stories


def test_a_job_that_is_requeued_goes_on(launch, cluster, host_root, tmp_path):
    job = Submitted(launch, cluster, host_root, tmp_path, "train_params.epochs=12")
    job.wait(lambda: max(job.epochs(), default=0) >= 2, 240, "second epoch")
    cluster.run("scontrol", "requeue", job.number)
    assert "Restarts=1" in job.finish(400)
    assert len(check(job, 12)) == 2


def test_a_job_that_runs_out_of_time_goes_on(launch, cluster, host_root, tmp_path):
    """A minute before the end of its three minutes SLURM tells the job, which queues itself again and goes on.

    The cluster lets a requeued job wait for 20 seconds (SLURM by default for two minutes). The terminal that waits is
    not asked: without SLURM's accounting it takes the end of the first try for the job's. On a machine so busy that a
    start ends before its first checkpoint, the next one rightly begins anew.
    """
    short = ("hydra.launcher.timeout_min=3", "hydra.launcher.signal_delay_s=60", "train_params.epochs=100")
    job = Submitted(launch, cluster, host_root, tmp_path, *short)
    deadline = time.monotonic() + 560
    resumed, reached = [], 0
    while not resumed or max(job.epochs()) <= reached:  # it goes on, and gets further than before
        assert time.monotonic() < deadline, job.text()[-6000:]
        time.sleep(1)
        stories = [json.loads(path.read_text()) for path in sorted(job.run_dir.glob("provenance-*.json"))]
        if not resumed:
            resumed = [story["resumed_from"] for story in stories if story["resumed_from"] is not None]
            reached = max(job.epochs(), default=0)
    cluster.run("scancel", job.number)
    assert resumed == [str(job.run_dir / "checkpoint-last.pth")] and stories[0]["resumed_from"] is None
    seen = job.epochs()
    assert sorted(seen) == seen and [*dict.fromkeys(seen)] == list(range(max(seen) + 1))
    record = storage.load(job.run_dir / "checkpoint-last.pth")[KEY]
    assert record["global_step"] == 2 * (record["epoch"] + 1) and record["world_size"] == TASKS
    assert "Requeued job" in job.text()
