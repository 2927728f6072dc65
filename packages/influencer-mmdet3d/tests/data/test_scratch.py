"""Arrays in files without a name: as good as numpy's own, gone afterwards, and room for them is made sure of."""

import errno
import mmap
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from influencer_mmdet3d.data import scratch
from influencer_mmdet3d.data.scratch import MEMORY, Scratch


@pytest.mark.parametrize("block", [1, 64, 1 << 20])
def test_arrays_keep_their_values_and_do_not_touch_each_other(tmp_path, block):
    maker, generator = Scratch(tmp_path / "new", block), np.random.default_rng(0)
    made = []
    for shape in [3, (5, 6), (0, 3), 0, (2, 3, 4), 1000, ()]:
        for kind in (np.uint8, np.int32, np.float64, "<U3"):
            values = generator.integers(0, 99, shape).astype(kind)
            array = maker.empty(shape, kind)
            assert array.shape == values.shape and array.dtype == values.dtype and type(array) is np.ndarray
            array[...] = values
            made.append((array, values))
            maker.release()
    for array, values in made:
        np.testing.assert_array_equal(array, values)


def test_without_a_folder_arrays_are_ordinary():
    assert MEMORY.empty((2, 3), np.int32).base is None
    assert MEMORY.full(3, 7, np.int16).tolist() == [7, 7, 7]


def test_parts_by_hand(tmp_path):
    for maker in (MEMORY, Scratch(tmp_path)):
        assert list(maker.parts(5, 2)) == [slice(0, 2), slice(2, 4), slice(4, 5)]
        assert list(maker.parts(0)) == []


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="POSIX only")
def test_a_full_disk_is_told_before_anything_is_written(tmp_path, monkeypatch):
    """Writing to a mapped file on a full disk would end the process by a signal, without a word."""

    def full(file, start, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=rf"{tmp_path}: no room for 80 MB of temporary files, .* --out on a larger disk"):
        Scratch(tmp_path).empty(10_000_000, np.float64)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_let_go_of(tmp_path):
    def held(kind):
        return int(re.search(rf"{kind}:\s+(\d+)", Path("/proc/self/status").read_text()).group(1)) / 1024

    maker = Scratch(tmp_path)
    before = {kind: held(kind) for kind in ("RssAnon", "VmRSS")}
    large = maker.full(1 << 24, 1, np.float64)  # 128 MB
    assert held("RssAnon") - before["RssAnon"] < 20 and held("VmRSS") - before["VmRSS"] < 20
    assert large.sum() == 1 << 24
    other = np.memmap(tmp_path / "other", np.uint8, "w+", shape=1 << 26)
    other[:] = 1
    maker.follow(other[3:])
    maker.release()
    assert held("VmRSS") - before["VmRSS"] < 20 and other[5] == 1


CHILD = """
import os, sys, numpy as np
from pathlib import Path
from influencer_mmdet3d.data.scratch import Scratch
array = Scratch(Path(sys.argv[1])).full(1 << 20, 1, np.int64)
print("there", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_nothing_is_left_of_a_killed_process(tmp_path):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout.readline() == b"there\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert not list(tmp_path.iterdir())


def test_where_memory_cannot_be_given_back_nothing_happens(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "mmap", type("Module", (), {"mmap": mmap.mmap}))
    maker = Scratch(tmp_path)
    array = maker.full(10, 3, np.int32)
    maker.release()
    assert array.tolist() == [3] * 10
