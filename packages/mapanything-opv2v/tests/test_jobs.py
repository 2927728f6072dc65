import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mapanything_opv2v import jobs


def halve(number):
    if number % 2:
        raise ValueError(f"{number} is odd")
    if number == 100:
        raise KeyError("a defect")
    return number // 2


@pytest.mark.parametrize("workers", [1, 2])
def test_every_item_comes_back_with_its_result_or_its_error(workers):
    outcomes = list(jobs.run(halve, list(range(30)), workers=workers, progress=False))
    assert sorted(done.item for done in outcomes) == list(range(30))
    for done in outcomes:
        if done.item % 2:
            assert done.result is None and str(done.error) == f"{done.item} is odd"
        else:
            assert done.result == done.item // 2 and done.error is None


def test_any_executor_will_do():
    with ThreadPoolExecutor(3) as pool:
        outcomes = list(jobs.run(halve, range(0, 40, 2), workers=3, executor=pool, progress=False))
        assert sorted(done.result for done in outcomes) == list(range(20))
        assert pool.submit(halve, 4).result() == 2  # it is not shut down


@pytest.mark.parametrize("workers", [1, 2])
def test_defects_stop_the_job(workers):
    with pytest.raises(KeyError, match="a defect"):
        list(jobs.run(halve, [2, 100], workers=workers, progress=False))


def test_few_items_wait_at_a_time():
    taken, most = [], [0]

    class Counting(ThreadPoolExecutor):
        def submit(self, function, *args):
            taken.append(args)
            return super().submit(function, *args)

    with Counting(1) as pool:
        seen = 0
        for _ in jobs.run(halve, range(102, 502, 4), workers=1, executor=pool, progress=False):
            seen += 1
            most[0] = max(most[0], len(taken) - seen)
    assert seen == 100 and most[0] <= jobs.WAITING_PER_WORKER


def test_bad_worker_count():
    with pytest.raises(ValueError, match="workers=0, expected at least 1"):
        list(jobs.run(halve, [2], workers=0))


def test_the_bar_counts_items(capsys):
    list(jobs.run(halve, [2, 4, 5], description="halving"))
    assert "halving: 3 of 3 items, " in capsys.readouterr().err


def test_workers_end_when_their_job_is_killed(tmp_path):
    """A worker writes its id, and waits; its parent is killed."""
    note = f"open({str(tmp_path / 'pid')!r} + str(__import__('os').getpid()), 'w').close()"
    wait = f"[{note}, __import__('time').sleep(60)]"
    code = f"from mapanything_opv2v import jobs; list(jobs.run(eval, [{wait!r}] * 2, workers=2, progress=False))"
    with subprocess.Popen([sys.executable, "-c", code]) as job:
        wait_until(lambda: list(tmp_path.iterdir()), 60)
        job.kill()
    workers = [int(path.name.removeprefix("pid")) for path in tmp_path.iterdir()]
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), 20)


def wait_until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
