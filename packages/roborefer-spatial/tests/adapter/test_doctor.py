import json

import pytest
from roborefer_spatial import __version__, cli, doctor
from roborefer_spatial.host import requirements
from roborefer_spatial.host.pin import load_pin
from roborefer_spatial.host.repairs import inspection
from roborefer_spatial.host.repairs.table import NAMES


@pytest.fixture
def environment(monkeypatch):
    """What counts as installed: everything, unless the test says otherwise."""
    missing = {"flash_attn", "s2wrapper"}
    for module in (inspection, requirements):
        monkeypatch.setattr(module, "installed", lambda package: package not in missing)
    refused = lambda: "flash_attn" in missing  # noqa: E731  an old DeepSpeed goes with the rest
    monkeypatch.setattr(inspection, "deepspeed_checkpoint_is_refused", refused)
    monkeypatch.setattr(requirements, "broken_packages", lambda host: {})
    return missing


def test_without_a_host_it_says_how_to_get_one(monkeypatch, capsys):
    monkeypatch.delenv("ROBOREFER_ROOT", raising=False)
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert f"roborefer-spatial {__version__}" in out
    assert "ROBOREFER_ROOT is not set" in out and f"git -C RoboRefer checkout {load_pin().commit}" in out


def test_every_defect_of_the_published_host_is_listed_with_its_remedy(checkout, environment, monkeypatch, capsys):
    monkeypatch.setenv("ROBOREFER_ROOT", str(checkout.root))
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert f"defects: {len(NAMES)};" in out
    assert all(f"  {name} (" in out for name in NAMES)
    assert "missing:" not in out


def test_a_repaired_host_needs_nothing(checkout, environment, make):
    environment.clear()
    make.correct_all(checkout)
    found = doctor.examine(checkout.root)
    assert found["ok"] and found["defects"] == []
    assert "defects: none; the launcher changes nothing" in "\n".join(doctor.report(found))


def test_a_missing_package_is_an_error_unless_a_repair_stands_in(checkout, environment):
    assert doctor.examine(checkout.root)["ok"]
    environment.add("hydra")
    found = doctor.examine(checkout.root)
    assert not found["ok"]
    assert found["missing"] == {"hydra": {"file": "llava/data/builder.py", "install": "hydra-core"}}
    assert "pip install hydra-core" in "\n".join(doctor.report(found))


def test_another_commit_is_said():
    found = {
        **doctor.examine(None),
        "host": "x",
        "origin": "y",
        "commit": "0" * 40,
        "pinned": load_pin().commit,
        "problem": None,
    }
    assert any("results may differ" in line for line in doctor.report(found))


def test_a_broken_checkout_is_a_problem(checkout, environment, capsys):
    checkout.file("llava/train/utils.py").unlink()
    assert cli.main(["doctor", "--host", str(checkout.root)]) == 1
    assert "problem: " in capsys.readouterr().out


def test_json(checkout, environment, capsys):
    assert cli.main(["doctor", "--json", "--host", str(checkout.root)]) == 0
    assert json.loads(capsys.readouterr().out)["host"] == str(checkout.root)


def test_an_installed_package_that_cannot_be_imported_is_an_error(checkout, environment, monkeypatch):
    found = {"torchvision": "RuntimeError: operator torchvision::nms does not exist"}
    monkeypatch.setattr(requirements, "broken_packages", lambda host: found)
    report = doctor.examine(checkout.root)
    assert not report["ok"] and report["broken"] == found
    assert "cannot be imported: torchvision (RuntimeError: operator" in "\n".join(doctor.report(report))
