"""Every launcher prints help and exits 0."""

import subprocess
import sys

import pytest
from repo import ROOT

LAUNCHERS = sorted(path for path in ROOT.glob("tools/**/*") if path.suffix in {".py", ".sh"})


def test_there_are_some():
    assert LAUNCHERS


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_prints_help(path, tmp_path):
    runner = ["bash"] if path.suffix == ".sh" else [sys.executable]
    done = subprocess.run([*runner, str(path), "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()
    assert not list(tmp_path.iterdir()), "help must not write files"
