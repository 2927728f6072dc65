from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mapanything_opv2v import cli
from mapanything_opv2v.commands import doctor
from mapanything_opv2v.host.training.deviations import DEVIATIONS

HOST_FILES = {
    "mapanything/__init__.py": "",
    "mapanything/datasets/__init__.py": "",
    "mapanything/datasets/base/__init__.py": "",
    "mapanything/datasets/base/base_dataset.py": "class BaseDataset:\n    pass\n",
    "mapanything/datasets/base/easy_dataset.py": """
class EasyDataset: ...
class MulDataset(EasyDataset): ...
class ResizedDataset(EasyDataset): ...
""",
    "mapanything/train/__init__.py": "",
    "mapanything/train/training.py": "",
    "mapanything/train/losses.py": """
class MultiLoss: ...
class FactoredGeometryScaleRegr3DPlusNormalGMLoss: ...
""",
    "mapanything/models/__init__.py": "MODEL_CONFIGS = {}\nclass MapAnything: ...\n",
}


@pytest.fixture
def checkout(tmp_path):
    """A folder with just enough of the host to import, under git."""
    for name, text in HOST_FILES.items():
        path = tmp_path / "host" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git = ["git", "-C", str(tmp_path / "host"), "-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "x"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return tmp_path / "host", head.stdout.strip()


def run(env, *words, commit=None):
    """Run the doctor in a process of its own, as if the pin were `commit`."""
    code = (
        "import sys\nfrom mapanything_opv2v import cli\nfrom mapanything_opv2v.commands import doctor\n"
        f"commit = {commit!r}\npin = doctor.pin()\n"
        "doctor.pin = lambda: {**pin, 'commit': commit or pin['commit']}\n"
        f"sys.exit(cli.main(['doctor', *{words!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    return done.returncode, done.stdout + done.stderr


def test_all_is_well(checkout, tmp_path):
    root, head = checkout
    env = {
        "MAPANYTHING_ROOT": str(root),
        "PYTHONPATH": str(root),
        "OPV2V_ROOT": str(tmp_path),
        "PATH": "/usr/bin:/bin",
    }
    status, text = run(env, commit=head)
    assert status == 0, text
    assert f"{root} at the pin {head}" in text
    assert "26 names in mapanything.datasets: OPV2VDataset, OPV2VCoopDataset" in text
    assert "7 names in mapanything.train.training: OPV2VNonAmbiguousMaskLoss, " in text
    assert "2 names in mapanything.models.MODEL_CONFIGS: opv2v_mapanything, opv2v_start" in text
    assert "appends pkg://mapanything_opv2v.configs" in text
    assert "host's imports     ok       all 20 packages that MapAnything needs are there" in text
    assert text.count("launcher deviates") == 1
    assert f"{len(DEVIATIONS)} ways, each switchable (--verbose explains): {DEVIATIONS[0].name}, " in text
    assert text.endswith("\nready: a training can start\n")
    assert f"OPV2V_ROOT         ok       {tmp_path}" in text
    assert "OPV2V_DEPTH_ROOT            not set" in text


def test_verbose_explains_every_deviation(checkout):
    root, head = checkout
    env = {"MAPANYTHING_ROOT": str(root), "PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"}
    status, text = run(env, "--verbose", commit=head)
    assert status == 0 and "no deviation: names and configs are added" in text
    for deviation in DEVIATIONS:
        assert f"{deviation.name} ({deviation.where}). Host: {deviation.host}. Here: {deviation.ours}" in text
    assert text.endswith("\nready: a training can start\n")


def test_missing_imports_are_named_at_once(checkout, monkeypatch, capsys):
    root, head = checkout
    monkeypatch.setenv("MAPANYTHING_ROOT", str(root))
    host = {**doctor.pin(), "commit": head, "imports": {"numpy": "numpy", "no_one": "no-one", "nor_two": "nor-two"}}
    monkeypatch.setattr(doctor, "pin", lambda: host)
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "host's imports     PROBLEM  missing: no_one, nor_two; pip install no-one nor-two\n" in out
    assert out.splitlines()[-1].startswith("not ready: ")


def test_json_holds_the_findings(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("MAPANYTHING_ROOT", str(tmp_path / "no"))
    assert cli.main(["doctor", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    problems = [finding for finding in report["findings"] if finding["ok"] is False]
    assert report["problems"] == len(problems) > 0 and report["ready"] is False
    assert problems[0]["text"] == f"MAPANYTHING_ROOT={tmp_path / 'no'} is not a folder"
    assert set(problems[0]) == {"topic", "text", "ok"}


def test_verdict():
    assert doctor.verdict(0) == "ready: a training can start"
    assert doctor.verdict(1) == "not ready: 1 problem" and doctor.verdict(2) == "not ready: 2 problems"


def test_another_commit_is_said_with_both_hashes(checkout):
    root, head = checkout
    env = {"MAPANYTHING_ROOT": str(root), "PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"}
    status, text = run(env)
    assert status == 0 and f"is at {head}, the pin is {doctor.pin()['commit']}" in text


def test_a_wrong_checkout_on_the_path_is_a_problem(checkout, tmp_path):
    root, _ = checkout
    other = tmp_path / "other"
    other.mkdir()
    env = {"MAPANYTHING_ROOT": str(other), "PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"}
    status, text = run(env)
    assert status == 1 and f"not from MAPANYTHING_ROOT={other}" in text


def test_a_name_that_is_taken_is_a_problem(checkout):
    root, _ = checkout
    (root / "mapanything/datasets/__init__.py").write_text("class OPV2VDataset: ...\n")
    env = {"MAPANYTHING_ROOT": str(root), "PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"}
    status, text = run(env)
    assert status == 1 and "does not overwrite it" in text


def test_a_host_that_cannot_be_imported_is_a_problem(checkout):
    root, _ = checkout
    (root / "mapanything/datasets/__init__.py").write_text("import a_module_that_is_not_there\n")
    env = {"MAPANYTHING_ROOT": str(root), "PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"}
    status, text = run(env)
    assert status == 1 and "registration       PROBLEM  ImportError: cannot import mapanything.datasets: " in text
    assert "a_module_that_is_not_there" in text


def test_nothing_there(tmp_path):
    status, text = run({"OPV2V_ROOT": str(tmp_path / "no"), "PATH": "/usr/bin:/bin"})
    assert status == 1
    assert "MAPANYTHING_ROOT is not set; point it at your MapAnything checkout" in text
    assert "Python finds no module mapanything; install it, or export PYTHONPATH=$MAPANYTHING_ROOT" in text
    assert f"{tmp_path / 'no'} is not a folder" in text
    status, text = run({"MAPANYTHING_ROOT": str(tmp_path / "no"), "PATH": "/usr/bin:/bin"})
    assert f"MAPANYTHING_ROOT={tmp_path / 'no'} is not a folder" in text


def test_the_pin_is_the_pyprojects():
    import tomllib

    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert doctor.pin() == tomllib.loads(text)["tool"]["mapanything-opv2v"]["host"]
    assert len(doctor.pin()["commit"]) == 40


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit):
        cli.build_parser().parse_args(["doctor", "--help"])
    assert "example:" in capsys.readouterr().out
