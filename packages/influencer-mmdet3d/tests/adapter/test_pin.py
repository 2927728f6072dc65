import re
from pathlib import Path

import pytest
from fake_host import write_host
from influencer_mmdet3d.host.pin import host_root, load_pin, tomllib

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_pin_is_the_one_of_pyproject():
    table = tomllib.loads(PYPROJECT.read_text())["tool"]["influencer-mmdet3d"]["host"]
    pin = load_pin()
    assert (pin.name, pin.repository, pin.commit) == (table["name"], table["repository"], table["commit"])
    assert re.fullmatch(r"[0-9a-f]{40}", pin.commit)
    assert pin.commit in pin.how_to_get and "git clone" in pin.how_to_get


def test_root_is_absolute(tmp_path, monkeypatch):
    write_host(tmp_path / "host")
    monkeypatch.chdir(tmp_path)
    assert host_root({"ONEFORMER3D_ROOT": "host"}) == (tmp_path / "host").resolve()


@pytest.mark.parametrize("value, message", [(None, "is not set"), ("", "is not set"), ("absent", "is not a folder")])
def test_missing_root(value, message, tmp_path):
    environ = {} if value is None else {"ONEFORMER3D_ROOT": str(tmp_path / value) if value else ""}
    with pytest.raises(ValueError, match=f"ONEFORMER3D_ROOT.*{message}.*git clone"):
        host_root(environ)


def test_other_folder_names_what_it_lacks(tmp_path):
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "train.py").write_text("")
    with pytest.raises(ValueError, match=r"not a checkout of OneFormer3D: it has no tools/test\.py, oneformer3d"):
        host_root({"ONEFORMER3D_ROOT": str(tmp_path)})
