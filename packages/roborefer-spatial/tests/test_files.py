import json
import signal
import stat
import subprocess
import sys

import pytest
from roborefer_spatial import files
from roborefer_spatial.files import atomic_folder, atomic_open, filling, read_json, write_bytes, write_json


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "new" / "file.bin"
    with atomic_open(path) as stream:
        stream.write(b"first ")
        assert not path.exists()
        stream.write(b"second")
    assert path.read_bytes() == b"first second"
    assert names(path.parent) == ["file.bin"]


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.bin"
    write_bytes(path, b"old")
    with pytest.raises(KeyboardInterrupt), atomic_open(path) as stream:
        stream.write(b"half of the new")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file.bin"]


def test_other_users_can_read_what_the_umask_allows(tmp_path):
    write_bytes(tmp_path / "file.bin", b"")
    (tmp_path / "plain").write_bytes(b"")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("file.bin", "plain")]
    assert modes[0] == modes[1]


def test_long_names_fit(tmp_path):
    path = tmp_path / ("x" * 240 + ".json")
    write_json(path, {"a": "ü"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": "ü"}


def test_nan_is_not_json(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", float("nan"))
    assert names(tmp_path) == []


def killed(code, folder):
    """Run code in a folder, in a process that is killed at the end of it."""
    start = "import os, sys\nfrom pathlib import Path\nfrom roborefer_spatial.files import *\nos.chdir(sys.argv[1])\n"
    job = subprocess.run([sys.executable, "-c", f"{start}{code}; os.kill(os.getpid(), 9)", str(folder)], check=False)
    assert job.returncode == -signal.SIGKILL


def test_what_a_killed_process_left_is_removed_and_what_is_being_written_is_not(tmp_path):
    killed("a = atomic_open(Path('a.bin')); a.__enter__(); b = atomic_folder(Path('new')); b.__enter__()", tmp_path)
    (tmp_path / ".mine.part").write_bytes(b"not ours")
    assert len(names(tmp_path)) == 3
    with atomic_open(tmp_path / "b.bin"), atomic_folder(tmp_path / "c"):
        files._swept.clear()  # as in another process
        write_bytes(tmp_path / "a.bin", b"whole")
        assert len(names(tmp_path)) == 4
    assert sorted(names(tmp_path)) == [".mine.part", "a.bin", "b.bin", "c"]


def test_a_folder_appears_whole(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "new" / "folder") as made:
        (made / "half").write_bytes(b"")
        raise KeyboardInterrupt
    assert names(tmp_path / "new") == []


def test_a_folder_that_is_being_filled(tmp_path):
    folder = tmp_path / "tree"
    killed("filling(Path('tree'), {'seed': 1}).__enter__()", tmp_path)
    assert files.is_unfinished(folder)
    with pytest.raises(ValueError, match=r"other arguments was ended before it was done: \{\"seed\": 1\}; now"):
        filling(folder, {"seed": 2}).__enter__()
    with filling(folder, {"seed": 1}), pytest.raises(ValueError, match="another process is filling this folder"):
        filling(folder, {"seed": 1}).__enter__()
    assert names(folder) == []


@pytest.mark.parametrize("data", [b"{", b"\xff", b"9" * 5000, b"[" * 100_000])
def test_what_is_no_json_is_named(tmp_path, data):
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.json: not valid JSON: "):
        read_json(tmp_path / "x.json")
    (tmp_path / "x.json").write_bytes(b"[]")
    with pytest.raises(ValueError, match=r"x\.json: expected a JSON object, got list"):
        files.read_json_object(tmp_path / "x.json")


def test_the_data_are_on_the_disk_before_they_have_their_name(tmp_path, monkeypatch):
    path, done = tmp_path / "file.bin", []
    real = files.os.fsync

    def sync(descriptor):
        done.append(path.exists())
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", sync)
    write_bytes(path, b"data")
    assert done and done[0] is False
