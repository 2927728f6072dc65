"""Kill a job at random moments, give its command again, and compare with a run that nobody disturbed.

A job runs in a forked process, so that a kill costs no imports. After each kill: every file that the job has put in
its place must be whole, and no process of the job may live on. At the end the last run must succeed, and leave the
same files as the undisturbed run and no others.
"""

from __future__ import annotations

import faulthandler
import fnmatch
import os
import random
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

LIMIT, LINGER = 300.0, 60.0
"""Seconds for one undisturbed run, and for the processes of a killed one to end."""


@dataclass(frozen=True)
class Job:
    """One long job.

    Attributes
    ----------
    name : str
    run : callable
        Does the job in the folder it is given, and returns its exit status.
    growing : tuple of str
        Names of files that the job appends to, besides those whose name begins with a dot.
    normal : callable
        Gets a file's name and content; returns the content without what differs between two runs, such as times.
    """

    name: str
    run: Callable[[Path], int]
    growing: tuple[str, ...] = ()
    normal: Callable[[str, bytes], bytes] = lambda name, data: data


@dataclass
class Counts:
    """Kills that met a running job; series of kills that ended in the undisturbed result, and those that did not."""

    done: int = 0
    results: int = 0
    lost: int = 0


class Victim:
    """A job with its undisturbed result."""

    def __init__(self, job: Job, scratch: Path) -> None:
        self.job, self.folder = job, scratch / job.name
        shutil.rmtree(self.folder, ignore_errors=True)
        started = time.monotonic()
        status = _wait(self._start(), LIMIT)
        self.seconds = time.monotonic() - started
        if status != 0:
            raise RuntimeError(f"{job.name}: the undisturbed run ended with {status}")
        self.expected = self._tree()

    def round(self, rng: random.Random, lost: Callable[[str], object]) -> Counts:
        """Kill the job up to four times in a row, then let it end."""
        shutil.rmtree(self.folder, ignore_errors=True)
        counts = Counts()
        faults: list[str] = []
        for _ in range(rng.randint(1, 4)):
            pid = self._start()
            time.sleep(rng.uniform(0, 0.95 * self.seconds))
            os.kill(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)[1]
            counts.done += status == signal.SIGKILL
            self.seconds *= 1 if status else 0.7  # it had ended before the kill
            if status not in (0, signal.SIGKILL):
                faults.append(f"went on after a kill, but ended with {status}")
            faults += [*self._half_files(), *_survivors(pid)]
            if not list(self._differences()):  # killed after its last file: some jobs refuse a finished folder
                break
        else:
            faults += self._last_run()
        for fault in faults:
            lost(fault)
        counts.results, counts.lost = int(not faults), int(bool(faults))
        return counts

    def _last_run(self) -> list[str]:
        """Give the command once more, undisturbed; return what is wrong with its end."""
        started = time.monotonic()
        status = _wait(self._start(), LIMIT)
        self.seconds = 0.8 * self.seconds + 0.2 * max(time.monotonic() - started, 0.02)
        return [f"the same command again ended with {status}"] if status else list(self._differences())

    def _start(self) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        pid = os.fork()
        if not pid:
            status = 99
            try:
                os.setsid()
                with (self.folder.parent / f"{self.job.name}.log").open("ab", 0) as log:
                    os.dup2(log.fileno(), 1)
                    os.dup2(log.fileno(), 2)
                faulthandler.enable()  # a run without end is ended by SIGABRT, and says where it was
                status = self.job.run(self.folder)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        return pid

    def _tree(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.folder).as_posix(): self._content(path)
            for path in self.folder.rglob("*")
            if path.is_file()
        }

    def _content(self, path: Path) -> bytes:
        """Return what is compared: a part may hold anything, a file in its place has to be readable."""
        data = path.read_bytes()
        if _is_part(path.name):
            return data
        try:
            return self.job.normal(path.name, data)
        except Exception as error:
            return f"unreadable: {error!r}".encode()

    def _half_files(self) -> Iterator[str]:
        for name, data in self._tree().items():
            parts = name.split("/")
            if any(map(_is_part, parts)):
                continue
            if any(fnmatch.fnmatch(parts[-1], pattern) for pattern in self.job.growing):
                continue
            if name not in self.expected:
                yield f"left {name} behind, which the undisturbed run does not write"
            elif data != self.expected[name]:
                yield f"left {name} in its place with another content"

    def _differences(self) -> Iterator[str]:
        tree = self._tree()
        for name in sorted(tree.keys() | self.expected.keys()):
            if name not in tree:
                yield f"{name} is missing at the end"
            elif name not in self.expected:
                yield f"{name} is left over at the end"
            elif tree[name] != self.expected[name]:
                yield f"{name} differs at the end"


def _is_part(name: str) -> bool:
    return name.startswith(".") and name.endswith(".part")


def _wait(pid: int, seconds: float) -> int:
    """Wait for a process; return its exit status, or -signal."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGABRT)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def apart(function: Callable[[], object]) -> None:
    """Call a function in a process of its own, so that no thread or lock of it is inherited by the jobs."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError("the valid files could not be made")


def _survivors(session: int) -> list[str]:
    """Wait until no process of a session is left; end those that stay, and name them."""
    end = time.monotonic() + LINGER
    while alive := list(_members(session)):
        if time.monotonic() > end:
            for pid, _ in alive:
                os.kill(pid, signal.SIGKILL)
            return [f"{len(alive)} processes live on after the kill: {alive[0][1]}"]
        time.sleep(0.05)
    return []


def _members(session: int) -> Iterator[tuple[int, str]]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, rest = (folder / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        fields = rest.split()
        if int(fields[3]) == session and fields[0] not in "ZX":
            yield int(folder.name), name
