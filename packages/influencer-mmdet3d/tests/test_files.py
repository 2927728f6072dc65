"""Files appear whole or not at all."""

import pytest
from influencer_mmdet3d import files
from influencer_mmdet3d.files import foreign_content, write_whole


def test_bytes_and_text_arrive_and_folders_are_made(tmp_path):
    write_whole(tmp_path / "new" / "text.txt", "früh")
    write_whole(tmp_path / "new" / "raw.bin", b"\x00\xff")
    assert (tmp_path / "new" / "text.txt").read_bytes() == "früh".encode()
    assert (tmp_path / "new" / "raw.bin").read_bytes() == b"\x00\xff"
    assert len(list((tmp_path / "new").iterdir())) == 2


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
