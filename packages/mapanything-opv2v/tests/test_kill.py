"""`kill -9` at random moments while checkpoints are written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("kill_writer.py")


def after_kills(folder, how, kills):
    command = [sys.executable, str(SCRIPT), str(folder), how, str(kills), "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_fifty_kills_lose_nothing(tmp_path):
    found = after_kills(tmp_path, "whole", 50)
    assert found["kills"] == 50 and found["lost"] == found["behind"] == 0
    assert found["leftovers"] > 0  # some kills did hit a write
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-last.pth"]


def test_the_same_kills_lose_checkpoints_that_are_written_in_place(tmp_path):
    """What MapAnything does itself; it also shows that the kills come at moments that matter."""
    assert after_kills(tmp_path, "plain", 50)["lost"] > 0
