import shutil
from pathlib import Path

import roborefer_spatial
import tomllib
from roborefer_spatial.host.pin import load_pin

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"


def test_the_pin_is_pyprojects():
    host = tomllib.loads(PYPROJECT.read_text())["tool"]["roborefer-spatial"]["host"]
    pin = load_pin()
    assert [pin.name, pin.repository, pin.commit, pin.root_env] == [
        host[key] for key in ("name", "repository", "commit", "root-env")
    ]


def test_the_copy_in_a_wheel_goes_first(tmp_path, monkeypatch):
    shutil.copy(PYPROJECT, tmp_path / "pyproject.toml")
    changed = (tmp_path / "pyproject.toml").read_text().replace(load_pin().commit, "0" * 40)
    (tmp_path / "pyproject.toml").write_text(changed)
    monkeypatch.setattr(roborefer_spatial, "__file__", str(tmp_path / "__init__.py"))
    load_pin.cache_clear()
    assert load_pin().commit == "0" * 40
    load_pin.cache_clear()


def test_the_hint_clones_the_pin():
    assert load_pin().clone_hint == (
        "git clone https://github.com/Zhoues/RoboRefer && git -C RoboRefer checkout "
        f"{load_pin().commit} && export ROBOREFER_ROOT=$PWD/RoboRefer"
    )
