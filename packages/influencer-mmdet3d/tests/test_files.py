"""Files appear whole or not at all."""

import signal
import subprocess
import sys

import pytest
from influencer_mmdet3d import files
from influencer_mmdet3d.files import filling, foreign_content, write_whole


def test_bytes_and_text_arrive_and_folders_are_made(tmp_path):
    write_whole(tmp_path / "new" / "text.txt", "früh")
    write_whole(tmp_path / "new" / "raw.bin", b"\x00\xff")
    assert (tmp_path / "new" / "text.txt").read_bytes() == "früh".encode()
    assert (tmp_path / "new" / "raw.bin").read_bytes() == b"\x00\xff"
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_pieces_arrive_whole_or_not_at_all(tmp_path):
    write_whole(tmp_path / "raw.bin", (bytes([k]) for k in range(3)))
    assert (tmp_path / "raw.bin").read_bytes() == b"\x00\x01\x02"
    with pytest.raises(ZeroDivisionError):
        write_whole(tmp_path / "raw.bin", (bytes([1 // k]) for k in (1, 0)))
    assert (tmp_path / "raw.bin").read_bytes() == b"\x00\x01\x02"
    assert [path.name for path in tmp_path.iterdir()] == ["raw.bin"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file(tmp_path, monkeypatch, step):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(*((files.os, "fsync", fail) if step == "fsync" else (type(path), "replace", fail)))
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def killed(code, folder):
    """Run code in a folder, in a process that is killed at the end of it."""
    start = "import os, sys\nfrom pathlib import Path\nfrom influencer_mmdet3d.files import *\nos.chdir(sys.argv[1])\n"
    job = subprocess.run([sys.executable, "-c", f"{start}{code}; os.kill(os.getpid(), 9)", str(folder)], check=False)
    assert job.returncode == -signal.SIGKILL


def test_what_a_killed_process_left_is_removed_and_what_is_being_written_is_not(tmp_path):
    killed("os.fsync = lambda number: os.kill(os.getpid(), 9); write_whole(Path('a.bin'), b'half')", tmp_path)
    (tmp_path / ".mine.part").write_bytes(b"not ours")
    assert len(list(tmp_path.iterdir())) == 2
    with files._open_part(tmp_path / "b.bin") as held:
        files._swept.clear()  # as in another process
        write_whole(tmp_path / "c.bin", b"whole")
        assert {path.name for path in tmp_path.iterdir()} == {".mine.part", "c.bin", held.name.rpartition("/")[2]}


def test_a_folder_that_is_being_filled(tmp_path):
    folder = tmp_path / "set"
    killed("block = filling(Path('set'), {'seed': 1}); block.__enter__()", tmp_path)
    assert files.is_unfinished(folder)
    with pytest.raises(ValueError, match=r"other arguments was ended before it was done: \{\"seed\": 1\}; now"):
        filling(folder, {"seed": 2}).__enter__()
    with filling(folder, {"seed": 1}), pytest.raises(ValueError, match="another process is filling this folder"):
        filling(folder, {"seed": 1}).__enter__()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"\xef\xbb\xbf <HTML>", "a web page, not the file"),
        (b"<?xml version='1.0'?><Error/>", "a web page, not the file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git-LFS pointer, not the file that it stands for"),
        (b'{\n  "message": "Not Found"', "JSON text, not the file"),
        (b"PK\x03\x04", None),
        (b"", None),
    ],
)
def test_what_stands_in_for_a_file(tmp_path, head, found):
    (tmp_path / "a").write_bytes(head)
    said = foreign_content(tmp_path / "a")
    assert said is None if found is None else said.startswith(found)


def test_the_order_of_arguments_does_not_matter(tmp_path):
    with pytest.raises(RuntimeError), filling(tmp_path / "a", {"x": 1, "y": 2}):
        raise RuntimeError
    with filling(tmp_path / "a", {"y": 2, "x": 1}):
        pass
    assert not files.is_unfinished(tmp_path / "a")


def test_a_folder_in_a_folder_that_is_not_there(tmp_path):
    with filling(tmp_path / "a" / "b" / "c", {}):
        assert files.is_unfinished(tmp_path / "a" / "b" / "c")
    assert not files.is_unfinished(tmp_path / "a" / "b" / "c")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "summary.json: not valid JSON (Expecting value: line 1 column 1 (char 0)); delete it, and its part"),
        (b"[" * 100_000, "summary.json: not valid JSON (maximum recursion depth exceeded"),
        (b"[1]", "summary.json: without key, classes; delete it, and its part is made again"),
        (b'{"key": 1}', "summary.json: without classes; delete it, and its part is made again"),
    ],
)
def test_a_record_that_is_none_is_named(tmp_path, content, message):
    path = tmp_path / "summary.json"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        files.read_record(path, ("key", "classes"))
    assert str(error.value).startswith(f"{tmp_path}/{message}")
    path.write_bytes(b'{"key": 1, "classes": {}}')
    assert files.read_record(path, ("key", "classes")) == {"key": 1, "classes": {}}
