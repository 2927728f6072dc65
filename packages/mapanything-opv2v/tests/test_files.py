import json
import signal
import stat
import subprocess
import sys

import pytest
from mapanything_opv2v import files
from mapanything_opv2v.files import read_json, remove_leftovers, whole_file, write_json


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyError), whole_file(path) as stream:
        stream.write(b"half")
        raise KeyError("stop")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_folders_are_made_and_others_may_read(tmp_path):
    path = tmp_path / "deep" / "er" / "a.json"
    write_json(path, {"a": [1, "é"]})
    assert json.loads(path.read_text()) == {"a": [1, "é"]}
    assert stat.S_IMODE(path.stat().st_mode) & 0o600 == 0o600
    plain = tmp_path / "plain"
    plain.write_text("")
    assert path.stat().st_mode == plain.stat().st_mode  # as the umask says, not mkstemp's 0600


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert not (tmp_path / "a.json").exists()


def killed_while_writing(path):
    code = "import os; from pathlib import Path; from mapanything_opv2v.files import whole_file"
    code += f"; block = whole_file(Path({str(path)!r})); block.__enter__(); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL


def test_what_a_killed_process_left_is_removed_and_what_is_being_written_is_not(tmp_path):
    killed_while_writing(tmp_path / "a.bin")
    (tmp_path / ".mine.part").write_bytes(b"not ours")
    assert len(list(tmp_path.iterdir())) == 2
    with whole_file(tmp_path / "b.bin"):
        files._swept.clear()  # as in another process
        write_json(tmp_path / "a.json", {})
        assert remove_leftovers(tmp_path, "*.bin") == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.part", "a.json", "b.bin"]


@pytest.mark.parametrize("data", [b"{", b"\xff", b"9" * 5000, b"[" * 100_000])
def test_what_is_no_json_is_named(tmp_path, data):
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.json: damaged JSON: "):
        read_json(tmp_path / "x.json")
