"""Two runs in one folder: the second is refused by name, and a killed run leaves no lock behind."""

import os
import platform
import signal
import subprocess
import sys
import time

import pytest
from mapanything_opv2v.checkpoints.folder_lock import NAME, FolderLock

HOLD = """
import os, sys, time
from pathlib import Path
from mapanything_opv2v.checkpoints.folder_lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
if os.fork() == 0:  # a loader worker that outlives its parent
    time.sleep(20)
    os._exit(0)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()


def test_a_second_run_is_refused_and_told_whose_folder_it_is(holder, tmp_path):
    with pytest.raises(ValueError) as refused:
        FolderLock(tmp_path)
    text = str(refused.value)
    assert text.startswith(
        f"{tmp_path}: another training runs in this folder (process {holder.pid} on {platform.node()}, since 2"
    )
    assert "choose another folder (hydra.run.dir=...)" in text


def test_a_killed_run_leaves_the_folder_free_although_its_workers_live(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            lock = FolderLock(tmp_path)
            break
        except ValueError:
            time.sleep(0.05)
    assert str(os.getpid()) in (tmp_path / NAME).read_text()
    lock.release()
    lock.release()


def test_a_damaged_note_still_refuses(holder, tmp_path):
    (tmp_path / NAME).write_text("x")
    with pytest.raises(ValueError, match="does not say which process"):
        FolderLock(tmp_path)
