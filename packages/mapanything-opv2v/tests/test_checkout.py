from __future__ import annotations

import subprocess

from mapanything_opv2v.checkout import UNKNOWN, commit_of, describe, is_below


def test_commit_and_changes(tmp_path):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@t"]
    assert commit_of(tmp_path) == describe(tmp_path) == UNKNOWN
    assert commit_of(tmp_path / "nowhere") == UNKNOWN
    (tmp_path / "a.py").write_text("1\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert commit_of(tmp_path) == describe(tmp_path) == commit
    (tmp_path / "new.py").write_text("untracked files change nothing that is imported by name\n")
    assert describe(tmp_path) == commit
    (tmp_path / "a.py").write_text("2\n")
    assert describe(tmp_path) == f"{commit}+changes"
    copy = tmp_path / "site-packages"
    copy.mkdir()
    (copy / "a.py").write_text("1\n")
    assert commit_of(copy) == UNKNOWN  # the repository around it says nothing about it


def test_no_git_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit_of(tmp_path) == UNKNOWN


def test_links_are_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert is_below(tmp_path / "link" / "a.py", tmp_path / "real")
    assert not is_below(tmp_path / "other.py", tmp_path / "real")
