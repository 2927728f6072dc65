import os
import subprocess
import sys
import time
from pathlib import Path

import distributed
import pytest
from roborefer_spatial.tasks.workers import _windowed, run_ordered

# What other processes run must be importable there, and test modules are not: hence functions of the standard
# library. `eval` runs the text it is given.
SQUARES = [str(number) + "**2" for number in range(50)]
RAISES = "(_ for _ in ()).throw(ValueError('our own words'))"


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
    with pytest.raises(ValueError, match="our own words"):
        list(run_ordered(eval, [*SQUARES, RAISES, *SQUARES], workers=workers))


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


RAISES = "(_ for _ in ()).throw(ValueError('our own words'))"


def test_dask_runs_again_what_it_ran_before(dask_address, tmp_path):
    append = f"open({str(tmp_path / 'log')!r}, 'a').write('x')"
    for _ in range(2):
        assert list(run_ordered(eval, [append], scheduler=dask_address)) == [1]
    assert (tmp_path / "log").read_text() == "xx"


def test_dask_errors_reach_the_caller(dask_address):
    with pytest.raises(ValueError, match="our own words"):
        list(run_ordered(eval, [*SQUARES, RAISES], scheduler=dask_address))


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


def test_workers_end_when_their_build_is_killed(tmp_path):
    """A worker writes its id, and waits; its parent is killed."""
    note = f"open({str(tmp_path / 'pid')!r} + str(__import__('os').getpid()), 'w').close()"
    wait = f"[{note}, __import__('time').sleep(60)]"
    code = (
        f"from roborefer_spatial.tasks.workers import run_ordered\nlist(run_ordered(eval, [{wait!r}] * 2, workers=2))"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as build:
        wait_until(lambda: list(tmp_path.iterdir()), 60)
        build.kill()
    workers = [int(path.name.removeprefix("pid")) for path in tmp_path.iterdir()]
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), 20)


def wait_until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


class Slow:
    """Stands for a pool: counts what was handed out and not yet read."""

    def __init__(self):
        self.chunks, self.open, self.most = [], 0, 0

    def __call__(self, run, function, items):
        self.chunks.append(list(items))
        self.open += 1
        self.most = max(self.most, self.open)
        slow = self

        class Later:
            def result(self):
                slow.open -= 1
                return run(function, items)

        return Later()


@pytest.mark.parametrize(("workers", "count"), [(1, 100), (2, 100), (3, 101), (2, 3)])
def test_a_window_of_four_chunks_of_four_for_each_worker(workers, count):
    slow = Slow()
    assert list(_windowed(slow, str, range(count), workers)) == [str(number) for number in range(count)]
    chunks = [list(range(count))[start : start + 4] for start in range(0, count, 4)]
    assert slow.chunks == chunks
    assert slow.most == min(len(chunks), 4 * workers + 1) and slow.open == 0


def test_an_error_stops_the_run_before_all_was_handed_out():
    slow = Slow()
    with pytest.raises(ZeroDivisionError):
        list(_windowed(slow, lambda number: 1 // (number - 2), range(1000), 2))
    assert len(slow.chunks) == 9
