"""The stress harness sees planted faults."""

import importlib
import os
import random
import time
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "stress"


@pytest.fixture
def fuzz(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("fuzz")


@pytest.fixture
def kills(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("kills")


def read(path):
    """Read a byte, with one planted fault for each of its values."""
    kind = path.read_bytes()[0]
    if kind == 0:
        return [][0]
    if kind == 1:
        raise ValueError(f"{path}: refused")
    if kind == 2:
        raise ValueError("refused, without the name")
    if kind == 3:
        os.kill(os.getpid(), 9)
    if kind == 4:
        bytearray(1 << 33)
    if kind == 5:
        int("x" + path.name)
    while kind == 6:
        pass
    return kind


def test_every_kind_of_bad_end_of_a_reader_is_seen(fuzz, monkeypatch):
    monkeypatch.setattr(fuzz, "SECONDS", 0.05)
    reader = fuzz.Reader("planted", "a.bin", [b"\7"], read, lambda rng, seeds: bytes([rng.randrange(8)]))
    lost = {}
    counts = fuzz.run(reader, 0, 0, 24, Path(__file__).parent, lost.__setitem__)
    kinds = {number: fuzz.content(reader, 0, number)[0] for number in range(24)}
    assert set(kinds.values()) == set(range(8))
    assert set(lost) == {number for number, kind in kinds.items() if kind not in (1, 7)}
    assert (counts.done, counts.results) == (24, list(kinds.values()).count(7))
    assert (counts.errors, counts.lost) == (list(kinds.values()).count(1), len(lost))
    words = ["IndexError", "", "ValueError (not named)", "crash", "MemoryError", "ValueError (not ours)", "Endless"]
    assert all(lost[number].startswith(words[kind]) for number, kind in kinds.items() if number in lost)


def whole(folder):
    """Write three files, each whole or not at all."""
    for name in "abc":
        time.sleep(0.01)
        (folder / ".x.part").write_text(name * 9)
        (folder / ".x.part").replace(folder / name)
    return 0


def half(folder):
    """Leave a half file for some time."""
    with (folder / "a").open("w") as stream:
        for _ in range(9):
            stream.write("a")
            stream.flush()
            time.sleep(0.005)
    return 0


def forgets(folder):
    """Not do what an earlier run has begun."""
    if not (folder / "begun").exists():
        (folder / "begun").touch()
        time.sleep(0.05)
        (folder / "a").touch()
    return 0


def leaves(folder):
    """Write beside under a new name each time, and never clean up."""
    beside = folder / f".{os.getpid()}.part"
    beside.touch()
    time.sleep(0.05)
    beside.replace(folder / "a")
    return 0


def orphans(folder):
    """Start a process that outlives a kill."""
    child = os.fork()
    if not child:
        time.sleep(60)
    time.sleep(0.03)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return 0


@pytest.mark.parametrize(
    ("job", "fault"),
    [
        (whole, None),
        (half, "left a in its place with another content"),
        (forgets, "a is missing at the end"),
        (leaves, ".part is left over at the end"),
        (orphans, "1 processes live on after the kill"),
    ],
)
def test_every_kind_of_bad_job_is_seen(kills, tmp_path, monkeypatch, job, fault):
    monkeypatch.setattr(kills, "LINGER", 0.1)
    victim, rng, faults = kills.Victim(kills.Job(job.__name__, job), tmp_path), random.Random(0), []
    rounds = 0
    while rounds < 3 or (fault and rounds < 60 and not faults):
        counts = victim.round(rng, faults.append)
        assert counts.lost == bool(faults) or fault
        rounds += 1
    assert any(fault in found for found in faults) if fault else not faults


def test_a_part_may_hold_anything_and_a_torn_file_is_a_loss(kills, tmp_path):
    def parsed(name, data):
        return str(int(data)).encode()  # as a reader of checkpoints: what is torn raises

    def ends(folder):
        (folder / "a").write_bytes(b"1")
        return 0

    victim = kills.Victim(kills.Job("parsed", ends, normal=parsed), tmp_path)
    (victim.folder / ".a.1.part").touch()
    assert list(victim._half_files()) == []
    (victim.folder / "a").write_bytes(b"")
    assert list(victim._half_files()) == ["left a in its place with another content"]
