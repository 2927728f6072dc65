import json
import signal
import stat
import subprocess
import sys

import msgspec
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


NUMBERED = msgspec.json.Decoder(tuple[int, str])


def rows_of(path):
    """Return (first, rows, texts) of every part of a file."""
    return [(part.first, list(part.rows), part.texts()) for part in files.read_rows(path, NUMBERED, "pairs")]


def test_rows_of_lines_by_hand(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'[1, "a"]\n[2, "b"]\n')
    assert rows_of(path) == [(1, [(1, "a"), (2, "b")], [b'[1, "a"]', b'[2, "b"]'])]
    path.write_bytes(b'[1, "a"]\n\n[2, 3]\n[4, "d"]')  # empty, of another type, without its line break
    assert rows_of(path) == [(1, [(1, "a"), None, None, (4, "d")], [b'[1, "a"]', b"", b"[2, 3]", b'[4, "d"]'])]
    path.write_bytes(b"")
    assert rows_of(path) == []


def test_lines_are_counted_from_part_to_part(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_CHUNK_BYTES", 12)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'[1, "a"]\n[2, "b"]\nbad\n[4, "d"]\n[5, "e"]')
    assert [(first, rows) for first, rows, _ in rows_of(path)] == [
        (1, [(1, "a"), (2, "b")]),
        (3, [None, (4, "d")]),
        (5, [(5, "e")]),
    ]


def test_rows_of_a_list_by_hand(tmp_path):
    path = tmp_path / "rows.json"
    path.write_bytes(b'[[1, "a"],\n {"b": 2}]')
    assert rows_of(path) == [(0, [(1, "a"), None], [b'[1, "a"]', b'{"b": 2}'])]
    path.write_bytes(b"[[NaN, 1]]")  # only Python's own decoder reads this
    assert rows_of(path) == [(0, [None], [b"[NaN, 1]"])]
    path.write_bytes(b"[]")
    assert rows_of(path) == [(0, [], [])]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"id": 1}', "rows.json: expected a JSON list of pairs, got {'id': 1}; JSONL files end in .jsonl"),
        (b"7", "rows.json: expected a JSON list of pairs, got 7; JSONL files end in .jsonl"),
        (b'[1, "a"]\n[2, "b"]\n', "rows.json: not valid JSON: "),
        (b"\xff", "rows.json: not valid JSON: "),
        (b"[" * 100_000 + b"]" * 100_000, "rows.json: not valid JSON: nested too deeply"),
    ],
)
def test_what_is_no_list_of_rows(tmp_path, content, message):
    path = tmp_path / "rows.json"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        rows_of(path)
    assert str(error.value).startswith(f"{path.parent}/{message}")


def test_a_line_of_lists_in_lists_is_a_wrong_row(tmp_path):
    path, deep = tmp_path / "rows.jsonl", b"[" * 100_000 + b"]" * 100_000
    path.write_bytes(b'[1, "a"]\n' + deep + b"\n")
    assert rows_of(path) == [(1, [(1, "a"), None], [b'[1, "a"]', deep])]
    with pytest.raises(ValueError, match="line 2: not valid JSON: nested too deeply"):
        files.decode_json(deep, f"{path}, line 2")


def test_a_file_that_is_still_written_loses_its_last_half_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'[1, "a"]\n[2, "b')
    parts = list(files.read_lines(path, NUMBERED, unfinished=True))
    assert [(part.first, list(part.rows), part.texts()) for part in parts] == [(1, [(1, "a")], [b'[1, "a"]'])]
    path.write_bytes(b'[1, "a')
    assert [row for part in files.read_lines(path, NUMBERED, unfinished=True) for row in part.rows] == []


def test_long_values_are_cut_in_messages():
    assert files.brief("x" * 118) == repr("x" * 118)
    assert files.brief("x" * 119) == "'" + "x" * 116 + "..."
