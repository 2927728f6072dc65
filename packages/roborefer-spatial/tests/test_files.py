import json
import stat

import pytest
from roborefer_spatial.files import atomic_open, write_bytes, write_json


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
