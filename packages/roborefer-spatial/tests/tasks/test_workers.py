import math
import os
import subprocess
import sys
import time
from pathlib import Path

import distributed
import pytest
from roborefer_spatial.tasks.workers import run_ordered

# What other processes run must be importable there, and test modules are not: hence functions of the standard
# library. `eval` runs the text it is given.
SQUARES = [str(number) + "**2" for number in range(50)]


def test_one_worker_stays_here():
    assert list(run_ordered(eval, ["3 * 3", "__import__('os').getpid()"])) == [9, os.getpid()]


@pytest.mark.parametrize("count", [0, 1, 50])
def test_processes_give_the_same_in_order(count):
    assert list(run_ordered(eval, SQUARES[:count], workers=2)) == [number**2 for number in range(count)]


def test_processes_are_other_processes():
    pids = set(run_ordered(eval, ["__import__('os').getpid()"] * 20, workers=2))
    assert os.getpid() not in pids


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_reach_the_caller(workers):
    with pytest.raises(ValueError, match="nonnegative"):
        list(run_ordered(math.isqrt, [*range(30), -1, *range(30)], workers=workers))


def test_a_process_that_dies_is_an_error():
    with pytest.raises(ValueError, match="a worker process died, perhaps for lack of memory: try fewer --workers"):
        list(run_ordered(eval, [*SQUARES, "__import__('os')._exit(9)"], workers=2))


def test_a_caller_that_stops_early_leaves_no_process():
    results = run_ordered(eval, ["__import__('os').getpid()"] * 100, workers=2)
    pid = next(results)
    results.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(("workers", "scheduler"), [(0, None), (-1, None), (2, "tcp://here:1")])
def test_wrong_numbers_of_workers(workers, scheduler):
    with pytest.raises(ValueError, match=f"workers is {workers}: expected at least 1, and nothing else beside"):
        list(run_ordered(abs, [1], workers=workers, scheduler=scheduler))


@pytest.fixture(scope="module")
def dask_address():
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
    ) as cluster:
        yield cluster.scheduler_address


def test_dask_gives_the_same_in_order(dask_address):
    results = run_ordered(eval, SQUARES, scheduler=dask_address)
    assert list(results) == [number**2 for number in range(50)]


def test_dask_runs_again_what_it_ran_before(dask_address, tmp_path):
    append = f"open({str(tmp_path / 'log')!r}, 'a').write('x')"
    for _ in range(2):
        assert list(run_ordered(eval, [append], scheduler=dask_address)) == [1]
    assert (tmp_path / "log").read_text() == "xx"


def test_dask_errors_reach_the_caller(dask_address):
    with pytest.raises(ValueError, match="nonnegative"):
        list(run_ordered(math.isqrt, [*range(30), -1], scheduler=dask_address))


def test_a_cluster_without_workers_is_an_error():
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster,
        pytest.raises(ValueError, match="has no workers"),
    ):
        list(run_ordered(abs, [1], scheduler=cluster.scheduler_address))


def test_dask_missing_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"pip install 'roborefer-spatial\[cluster\]'"):
        list(run_ordered(abs, [1], scheduler="tcp://here:1"))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_workers_end_when_their_parent_is_killed():
    work = "[__import__('time').sleep(0.5), __import__('os').getpid()][1]"
    code = "from roborefer_spatial.tasks.workers import run_ordered\n"
    code += f"for pid in run_ordered(eval, [{work!r}] * 1000, workers=2): print(pid, flush=True)\n"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pids = {int(parent.stdout.readline()) for _ in range(8)}
    assert len(pids) == 2
    parent.kill()
    parent.wait()
    alive = pids
    for _ in range(100):
        alive = {pid for pid in alive if Path(f"/proc/{pid}").exists() and state(pid) != "Z"}
        if not alive:
            break
        time.sleep(0.1)
    assert not alive


def state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2]
    except FileNotFoundError:
        return "Z"
