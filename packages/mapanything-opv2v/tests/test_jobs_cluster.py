"""Jobs on a real Dask scheduler with two workers of this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from distributed import LocalCluster
from mapanything_opv2v import cli, jobs


@pytest.fixture(scope="module")
def scheduler():
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", protocol="tcp") as local:
        yield local.scheduler_address


def pid_of(number):
    if number == 13:
        raise ValueError("unlucky")
    return os.getpid()


def test_two_workers_share_the_items(scheduler):
    with jobs.place(scheduler=scheduler) as place:
        assert place.workers == 2
        done = list(jobs.run(pid_of, range(20), workers=place.workers, executor=place.executor, progress=False))
    assert sorted(item.item for item in done) == list(range(20))
    assert [(item.item, str(item.error)) for item in done if item.error] == [(13, "unlucky")]
    pids = {item.result for item in done if item.result}
    assert os.getpid() not in pids and 1 <= len(pids) <= 2


def test_the_cluster_outlives_a_job_and_its_errors(scheduler):
    with pytest.raises(RuntimeError, match="stop"), jobs.place(scheduler=scheduler):
        raise RuntimeError("stop")
    with jobs.place(scheduler=scheduler) as place:
        assert place.executor.submit(pid_of, 1).result() != os.getpid()


def test_depth_check_and_prebuild_give_the_same_there_as_here(scheduler, small_town, tmp_path, capsys):
    """Every command says the same, writes the same, and resumes."""
    texts = []
    for name, where in (("here", []), ("there", ["--scheduler", scheduler])):
        tree = [str(small_town.root), "--splits", "test", "--quiet", *where]
        out = tmp_path / name
        small = ["--panorama-resolution", "56", "14", "--no-depth"]
        assert cli.main(["check", *tree, "--depth-root", str(small_town.depth_root)]) in (0, 1)
        assert cli.main(["depth", *tree, "--out", str(out / "depth")]) == 0
        assert cli.main(["depth", *tree, "--out", str(out / "depth")]) == 0
        assert cli.main(["prebuild", *tree, "--cache", str(out / "cache"), *small]) == 0
        texts.append(capsys.readouterr().out.replace(str(out), "OUT"))
    assert texts[0] == texts[1] and "were there" in texts[0]
    here, there = (sorted((tmp_path / name).rglob("*.npy")) for name in ("here", "there"))
    assert len(here) == len(there) > 0
    for a, b in zip(here, there):
        assert a.name == b.name and np.array_equal(np.load(a), np.load(b))


def test_the_command_line_names_what_is_wrong(small_town, tmp_path, capsys, monkeypatch):
    tree = ["depth", str(small_town.root), "--out", str(tmp_path)]
    assert cli.main([*tree, "--scheduler", "tcp://127.0.0.1:1", "--workers", "2"]) == 2
    assert "--workers 2 with --scheduler: the cluster's own workers are used" in capsys.readouterr().err
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(jobs, "CONNECT_S", 1)
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        assert cli.main([*tree, "--scheduler", address]) == 2
    assert f"--scheduler {address}: no Dask scheduler answers" in capsys.readouterr().err


def test_a_scheduler_without_workers(tmp_path):
    with (
        LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0", protocol="tcp") as empty,
        pytest.raises(ValueError, match=r"it has no workers; start some with `dask worker tcp://"),
        jobs.place(scheduler=empty.scheduler_address),
    ):
        pass


def test_without_distributed(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"pip install mapanything-opv2v\[cluster\]"), jobs.place(scheduler="x"):
        pass


def test_dask_is_imported_only_when_asked_for():
    code = "import sys, mapanything_opv2v.commands.data; sys.exit('distributed' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
