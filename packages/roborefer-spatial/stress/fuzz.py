"""Feed readers mutated files in forked children, and sort what becomes of each.

An input ends well in a result or in a named error: a ValueError or OSError that this package raised and that names
the file. Anything else is lost: another exception, words of another library, a crash, more memory than allowed, no
end. Every input follows from (seed, reader, number), so a loss can be looked at again.
"""

from __future__ import annotations

import mmap
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

MEMORY = 1 << 30
"""Bytes of address space that a child may take beside what it was born with."""
SECONDS, PATIENCE = 5.0, 90.0
"""Limits of one input: processor time where Python code runs, and time where a library does not come back."""


@dataclass(frozen=True)
class Refused:
    """What a reader returns when it reports a named error instead of raising it."""


@dataclass(frozen=True)
class Reader:
    """One reader: valid files, how they are broken, and the function that reads one.

    Attributes
    ----------
    name : str
    file : str
        Name of the broken file, its folder included.
    seeds : sequence of bytes
        Valid contents.
    read : callable
        Gets the path of the broken file.
    mutate : callable
        Gets a generator and the seeds, and returns a content.
    prepare : callable
        Gets the folder once, to write the files that stay whole.
    called : str
        What an error calls the file, if not by its name.
    """

    name: str
    file: str
    seeds: Sequence[bytes]
    read: Callable[[Path], Any]
    mutate: Callable[[random.Random, Sequence[bytes]], bytes]
    prepare: Callable[[Path], None] = lambda folder: None
    called: str = ""


@dataclass
class Counts:
    """Outcomes of a run of inputs."""

    done: int = 0
    results: int = 0
    errors: int = 0
    lost: int = 0


class Endless(BaseException):
    """An input took too long."""


def content(reader: Reader, seed: int, number: int) -> bytes:
    """Return an input; number 0 is a valid file."""
    return reader.mutate(random.Random(f"{seed}/{reader.name}/{number}"), reader.seeds) if number else reader.seeds[0]


def run(reader: Reader, seed: int, start: int, stop: int, package: Path, lost: Callable[[int, str], None]) -> Counts:
    """Read inputs `start` to `stop`; `lost` gets the number of each lost one and what happened."""
    shared = mmap.mmap(-1, 32)  # number, results, errors, lost: what a child has done survives it
    shared[:8] = struct.pack("<q", start)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        notes = Path(folder) / "lost"
        reader.prepare(Path(folder) / "in")
        while struct.unpack("<q", shared[:8])[0] < stop:
            pid = os.fork()
            if not pid:
                _child(reader, seed, stop, package, Path(folder), shared)
            how = _ended(pid, shared)
            if how:
                number, results, errors, losses = struct.unpack("<4q", shared[:])
                lost(number, how)
                shared[:] = struct.pack("<4q", number + 1, results, errors, losses + 1)
        for line in notes.read_text().splitlines() if notes.exists() else ():
            number, how = line.split("\t", 1)
            lost(int(number), how)
    return Counts(stop - start, *struct.unpack("<4q", shared[:])[1:])


def _ended(pid: int, shared: mmap.mmap) -> str:
    """Wait for a child; return how it died, or nothing."""
    last, since = b"", time.monotonic()
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return "" if status == 0 else f"crash: wait status {status}"
        if shared[:8] != last:
            last, since = shared[:8], time.monotonic()
        elif time.monotonic() - since > PATIENCE:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return f"no end: killed after {PATIENCE:g} s"
        time.sleep(0.02)


def _child(reader: Reader, seed: int, stop: int, package: Path, folder: Path, shared: mmap.mmap) -> NoReturn:
    status = 1
    try:
        _limit()
        path = folder / "in" / reader.file
        path.parent.mkdir(parents=True, exist_ok=True)
        number, results, errors, lost = struct.unpack("<4q", shared[:])
        while number < stop:
            path.write_bytes(content(reader, seed, number))
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            how = outcome(reader, path, package)
            signal.setitimer(signal.ITIMER_PROF, 0)
            if how not in ("result", "error"):
                with (folder / "lost").open("a") as notes:
                    notes.write(f"{number}\t{' '.join(how.split())}\n")
            number += 1
            results, errors, lost = results + (how == "result"), errors + (how == "error"), lost + (len(how) > 6)
            shared[:] = struct.pack("<4q", number, results, errors, lost)
        status = 0
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(status)


def outcome(reader: Reader, path: Path, package: Path) -> str:
    """Read one file; return "result", "error" (a named one), or what went wrong."""
    try:
        return "error" if isinstance(reader.read(path), Refused) else "result"
    except (Exception, Endless) as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if Path(frame.filename).is_relative_to(package)]
        named = isinstance(error, ValueError | OSError) and (reader.called or path.name) in str(error)
        system = isinstance(error, OSError) and error.errno is not None
        raised = bool(own) and frames[-1] is own[-1] and (frames[-1].line or "").startswith("raise")
        if own and named and (raised or system):
            return "error"
        place = f"{Path(own[-1].filename).name}:{own[-1].lineno} in {own[-1].name}" if own else "outside"
        what = "not named" if raised else "not ours"
        return f"{type(error).__name__} ({what}) at {place}: {str(error)[:200]}"


def _limit() -> None:
    """Bound memory and time, and keep what libraries print away."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, _stop)
    warnings.simplefilter("ignore")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _stop(signum: int, frame: FrameType | None) -> None:
    raise Endless(f"more than {SECONDS:g} s of processor time")
