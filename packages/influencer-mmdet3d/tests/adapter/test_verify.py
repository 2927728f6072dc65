"""Every reason of `verify`, in a small world of doubles: mmdet3d's registry and the host's package."""

import json
import sys
from pathlib import Path

import pytest
from fake_host import write_host
from influencer_mmdet3d import cli
from influencer_mmdet3d.host import verify
from influencer_mmdet3d.host.criterion import InfluencerCriterion
from influencer_mmdet3d.host.trial import TrialError
from influencer_mmdet3d.host.verify import REASONS
from mmengine.registry import MODELS

CHILD = """
from mmengine.registry import MODELS as PARENT, Registry
MODELS = Registry('model', parent=PARENT, scope='mmdet3d', locations=['mmdet3d.models'])
"""
IMPORTS = "custom_imports = dict(imports=['oneformer3d', 'influencer_mmdet3d'], allow_failed_imports=False)\n"
CRITERION = "model = dict(criterion=dict(inst_criterion=dict({})))\n"
FULL = "_delete_=True, type='InfluencerCriterion', num_classes=13"
BASE = "_base_ = ['{{$ONEFORMER3D_ROOT:}}/configs/oneformer3d_1xb2_s3dis-area-5.py']\n"


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Doubles of mmdet3d and the host in front of what is installed, and nothing of either imported."""
    site = tmp_path / "site"
    (site / "mmdet3d" / "models").mkdir(parents=True)
    (site / "mmdet3d" / "__init__.py").write_text("")
    (site / "mmdet3d" / "models" / "__init__.py").write_text("")
    (site / "mmdet3d" / "registry.py").write_text(CHILD)
    host = write_host(tmp_path / "host")
    monkeypatch.setenv("ONEFORMER3D_ROOT", str(host))
    ours = ("mmdet3d", "oneformer3d", "rival")
    for name in [name for name in sys.modules if name.split(".")[0] in ours]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(verify, "try_scene", lambda cfg: ["a scene went through"])  # needs the real host
    monkeypatch.setattr(MODELS, "_children", {})
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.syspath_prepend(str(host))
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] in ours]:
        del sys.modules[name]  # before monkeypatch puts back what was there


@pytest.fixture
def outcome(world, capsys):
    """Run `verify` on a config's text; return reason and message, after checking the exit status."""

    def run(text: str | None = None) -> tuple[str, str]:
        path = world / "my_config.py"
        if text is not None:
            path.write_text(text)
        code = cli.main(["verify", str(path)])
        out = capsys.readouterr().out
        line = next(line for line in out.splitlines() if line.startswith(("PASS", "FAIL")))
        reason = line.split("[")[1].split("]")[0] if line.startswith("FAIL") else "PASS"
        assert code == (reason != "PASS") and reason in ("PASS", *REASONS)
        return reason, out

    return run


def test_pass(outcome):
    reason, out = outcome(BASE + IMPORTS + CRITERION.format(FULL))
    assert reason == "PASS" and "num_classes=13" in out and "note" not in out and "a scene went through" in out


def test_what_does_not_run(outcome, monkeypatch):
    def fail(cfg):
        raise TrialError("the evaluator fails")

    monkeypatch.setattr(verify, "try_scene", fail)
    reason, out = outcome(BASE + IMPORTS + CRITERION.format(FULL))
    assert reason == "does-not-run" and "my_config.py: the evaluator fails" in out


def test_shipped_config_is_the_default(world, capsys):
    assert cli.main(["verify"]) == 0
    assert "s3dis_area5_influencer.py" in capsys.readouterr().out


def test_as_json(world, capsys):
    assert cli.main(["verify", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed"] and report["reason"] is None and report["lines"][1].startswith("host ")
    assert cli.main(["verify", "absent.py", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["passed"] and report["reason"] == "config-unreadable" and "absent.py" in report["lines"][0]


def test_mmengine_says_nothing_in_front(world, capfd):
    assert cli.main(["verify"]) == 0
    out = capfd.readouterr()
    assert out.out.startswith("PASS") and "INFO" not in out.out + out.err


def test_pass_with_a_note_on_failed_imports(outcome):
    text = BASE + IMPORTS.replace("False", "True") + CRITERION.format(FULL)
    reason, out = outcome(text)
    assert reason == "PASS" and "note: allow_failed_imports=True" in out


@pytest.mark.parametrize("name", ["mmdet3d", "mmcv", "mmdet"])
def test_mmdet3d_missing(outcome, world, name):
    source = f"raise ModuleNotFoundError(\"No module named '{name}'\", name='{name}')"
    (world / "site" / "mmdet3d" / "__init__.py").write_text(source)
    reason, out = outcome("")
    assert reason == "mmdet3d-missing" and f"cannot import {name}" in out and "`influencer-mmdet3d doctor` lists" in out


def test_wrong_mmcv_is_an_assertion_in_mmdet3d(outcome, world):
    source = "assert False, 'MMCV==2.2.0 is used but incompatible.'"
    (world / "site" / "mmdet3d" / "__init__.py").write_text(source)
    reason, out = outcome("")
    assert reason == "wrong-version" and "MMCV==2.2.0 is used but incompatible" in out and "mmengine" in out


def test_other_import_of_mmdet3d(outcome, world):
    (world / "site" / "mmdet3d" / "__init__.py").write_text("import module_that_is_absent")
    reason, out = outcome("")
    assert reason == "import-failed" and "module_that_is_absent" in out


def test_root_unset(outcome, monkeypatch):
    monkeypatch.delenv("ONEFORMER3D_ROOT")
    reason, out = outcome("")
    assert reason == "host-root" and "git clone" in out


def test_host_not_on_path(outcome, world, monkeypatch):
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(world / "host")])
    reason, out = outcome("")
    assert reason == "host-not-on-path" and f"export PYTHONPATH={world / 'host'}" in out


def test_another_host_on_path(outcome, world, monkeypatch):
    monkeypatch.setenv("ONEFORMER3D_ROOT", str(write_host(world / "other")))
    reason, out = outcome("")
    assert reason == "host-not-on-path" and f"in {world / 'host'}, but ONEFORMER3D_ROOT is {world / 'other'}" in out


@pytest.mark.parametrize(
    "text", [None, "a = (", "_base_ = ['{{$UNSET_VARIABLE:}}/a.py']\n", "_base_ = ['absent.py']\n"]
)
def test_config_unreadable(outcome, text):
    reason, out = outcome(text)
    assert reason == "config-unreadable" and "my_config.py" in out


def test_a_missing_colon_has_the_reason_of_the_troubleshooting_table(outcome):
    reason, out = outcome(BASE.replace(":}}", "}}") + IMPORTS)
    assert reason == "host-root" and "{{$ONEFORMER3D_ROOT}} lacks its colon: write {{$ONEFORMER3D_ROOT:}}" in out


@pytest.mark.parametrize(
    "imports, missing",
    [
        ("", "influencer_mmdet3d missing"),
        ("custom_imports = dict(imports=['influencer_mmdet3d'])\n", "oneformer3d missing"),
        ("custom_imports = dict(imports='numpy')\n", "oneformer3d and influencer_mmdet3d missing"),
    ],
)
def test_custom_imports(outcome, imports, missing):
    reason, out = outcome(BASE + imports + CRITERION.format(FULL))
    assert reason == "custom-imports" and missing in out


@pytest.mark.parametrize(
    "name, hint", [("MinkowskiEngine", "Dockerfile"), ("mmcv._ext", "mmcv-lite"), ("spconv.pytorch", "doctor")]
)
def test_import_failed_names_what_to_do(outcome, world, name, hint):
    source = f"raise ModuleNotFoundError(\"No module named '{name}'\", name='{name}')"
    (world / "host" / "oneformer3d" / "__init__.py").write_text(source)
    reason, out = outcome(BASE + IMPORTS + CRITERION.format(FULL))
    assert reason == "import-failed" and f"oneformer3d: No module named '{name}'" in out and hint in out


def test_models_of_mmdet3d_cannot_be_imported(outcome, world):
    source = "raise ModuleNotFoundError(\"No module named 'mmcv._ext'\", name='mmcv._ext')"
    (world / "site" / "mmdet3d" / "models" / "__init__.py").write_text(source)
    reason, out = outcome(BASE + IMPORTS + CRITERION.format(FULL))
    assert reason == "import-failed" and "mmcv-lite has no compiled ops" in out


def test_name_taken_in_the_child(outcome, world):
    """Registered with mmdet3d, it would win over ours without a word."""
    rival = "from mmdet3d.registry import MODELS\n\n\n@MODELS.register_module()\nclass InfluencerCriterion:\n    pass\n"
    (world / "site" / "rival.py").write_text(rival)
    reason, out = outcome(BASE + IMPORTS.replace("]", ", 'rival']") + CRITERION.format(FULL))
    assert reason == "name-taken" and "mmdet3d.model is a class of rival" in out


def test_name_wanted_twice_in_the_root(outcome, world):
    rival = (
        "from mmengine.registry import MODELS\n\n\n@MODELS.register_module()\nclass InfluencerCriterion:\n    pass\n"
    )
    (world / "site" / "rival.py").write_text(rival)
    reason, out = outcome(BASE + IMPORTS.replace("]", ", 'rival']") + CRITERION.format(FULL))
    assert reason == "name-taken" and "rival" in out


def test_name_overwritten_in_the_root(outcome, world, monkeypatch):
    rival = type("InfluencerCriterion", (), {"__module__": "rival"})
    monkeypatch.setitem(MODELS.module_dict, "InfluencerCriterion", rival)
    reason, out = outcome(BASE + IMPORTS + CRITERION.format(FULL))
    assert reason == "name-taken" and "a class of rival" in out


def test_baseline_is_not_ours(outcome):
    reason, out = outcome(BASE + IMPORTS)
    assert reason == "not-in-config" and "'InstanceCriterion'" in out


def test_matcher_leaks_without_delete(outcome):
    reason, out = outcome(BASE + IMPORTS + CRITERION.format("type='InfluencerCriterion'"))
    assert reason == "does-not-build" and "matcher" in out and "_delete_=True" in out


def test_classes_of_the_decoder(outcome):
    reason, out = outcome(BASE + IMPORTS + CRITERION.format(FULL.replace("13", "18")))
    assert reason == "class-count" and "num_classes=18" in out and "num_instance_classes=13" in out


def test_criterion_without_wrapper(world):
    """`InstanceOnlyOneFormer3D` has the criterion directly."""
    verify.check_mmdet3d()
    path = world / "direct.py"
    path.write_text(IMPORTS + "model = dict(criterion=dict(type='InfluencerCriterion', num_classes=3))\n")
    assert isinstance(verify.check_criterion(verify.load_config(path), Path(path)), InfluencerCriterion)
