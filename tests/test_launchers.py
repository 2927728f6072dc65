"""Every launcher and every task script prints help and exits 0."""

import subprocess
import sys

import pytest
from repo import ROOT

LAUNCHERS = sorted([*ROOT.glob("tools/**/*.py"), *ROOT.glob("tools/**/*.sh"), ROOT / "tasks" / "demo_index.py"])


def test_there_are_some():
    assert len(LAUNCHERS) > 10


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_prints_help(path, tmp_path):
    runner = ["bash"] if path.suffix == ".sh" else [sys.executable]
    done = subprocess.run([*runner, str(path), "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()
    assert not list(tmp_path.iterdir()), "help must not write files"


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_table_of_old_names_has_it(path):
    if path.parts[-3] == "tools":
        assert path.name in (ROOT / "tools" / "README.md").read_text(), f"tools/README.md does not name {path.name}"
