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
    monkeypatch.setattr(inspection, "torchvision_lacks_operators", refused)
    monkeypatch.setattr(doctor, "host_requirements", lambda: ())
    monkeypatch.setattr(doctor, "_broken_libraries", lambda: [])
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
    assert "problem:" not in out
    assert out.splitlines()[-1] == "ready: RoboRefer's training can start"


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
    *_, problem, verdict = doctor.report(found)
    assert problem.endswith("llava/data/builder.py imports it: pip install hydra-core")
    assert verdict == "not ready: 1 problem"


def test_another_commit_is_said():
    found = {
        **doctor.examine(None),
        "host": "x",
        "origin": "y",
        "commit": "0" * 40,
        "pinned": load_pin().commit,
    }
    assert any("results may differ" in line for line in doctor.report(found))


def test_a_broken_checkout_is_a_problem(checkout, environment, capsys):
    checkout.file("llava/train/utils.py").unlink()
    assert cli.main(["doctor", "--host", str(checkout.root)]) == 1
    assert "problem: " in capsys.readouterr().out


def test_json(checkout, environment, capsys):
    assert cli.main(["doctor", "--json", "--host", str(checkout.root)]) == 0
    assert json.loads(capsys.readouterr().out)["host"] == str(checkout.root)


@pytest.mark.parametrize(
    ("version", "within"),
    [
        ("4.49.0", True),
        ("4.52.4", True),
        ("4.48.9", False),
        ("4.53.0", False),
        ("5.24.0", False),
        ("4.50.0.dev1", True),
    ],
)
def test_versions_outside_the_hosts_range_are_a_problem(monkeypatch, version, within):
    wanted = "transformers>=4.49,<4.53"
    monkeypatch.setattr(doctor, "host_requirements", lambda: (wanted,))
    monkeypatch.setattr(doctor.importlib.metadata, "version", lambda name: version)
    expected = (
        f"transformers {version} is installed, RoboRefer needs >=4.49,<4.53: pip install 'transformers>=4.49,<4.53'"
    )
    assert list(doctor._wrong_versions()) == ([] if within else [expected])


def test_a_torchvision_that_cannot_be_imported_is_a_problem(monkeypatch):
    def broken():
        raise RuntimeError("undefined symbol")

    monkeypatch.setattr("roborefer_spatial.torchvision_cpu.lacks_operators", broken)
    (problem,) = doctor._broken_libraries()
    assert problem.startswith("torchvision is installed and cannot be imported (RuntimeError: undefined symbol)")
