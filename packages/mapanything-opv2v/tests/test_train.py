"""The launcher's command line, and which MapAnything it takes."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys

import pytest
import training_double
from mapanything_opv2v import cli, train


@pytest.fixture
def host_train(double_host, monkeypatch):
    """`mapanything_opv2v.host.training.launcher`, with no host on the path yet."""
    monkeypatch.delitem(sys.modules, "mapanything")
    monkeypatch.delenv("MAPANYTHING_ROOT", raising=False)
    return importlib.import_module("mapanything_opv2v.host.training.launcher")


def test_the_host_is_where_it_is_imported_from(host_train, monkeypatch, tmp_path):
    root = training_double.write_host(tmp_path / "host")
    monkeypatch.syspath_prepend(root)
    assert host_train.find_host() == root
    monkeypatch.setenv("MAPANYTHING_ROOT", str(root))
    assert host_train.find_host() == root
    monkeypatch.setenv("MAPANYTHING_ROOT", str(tmp_path / "other"))
    with pytest.raises(ImportError, match=f"{root}/mapanything, not from MAPANYTHING_ROOT={tmp_path}/other: another"):
        host_train.find_host()


def test_the_first_of_two_checkouts_is_named(host_train, monkeypatch, tmp_path):
    mine, other = (training_double.write_host(tmp_path / name) for name in ("mine", "other"))
    monkeypatch.syspath_prepend(mine)
    monkeypatch.syspath_prepend(other)
    monkeypatch.setenv("MAPANYTHING_ROOT", str(mine))
    with pytest.raises(ImportError, match=r"other/mapanything, not from .*Put yours first with PYTHONPATH="):
        host_train.find_host()


def test_an_installed_copy_has_no_scripts(host_train, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(training_double.write_host(tmp_path / "site-packages", scripts=False))
    with pytest.raises(ImportError, match=r"which has no scripts/train\.py and configs beside it: an installed copy"):
        host_train.find_host()


def test_no_host_is_an_error_with_its_cure(host_train, monkeypatch, capsys):
    monkeypatch.setattr(host_train.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"no package mapanything; export MAPANYTHING_ROOT=your checkout"):
        host_train.find_host()
    assert train.main(["+experiment=opv2v_stage1"]) == 2
    assert "mapanything_opv2v.train: Python finds no package mapanything" in capsys.readouterr().err


def test_a_torchvision_of_another_torch_is_an_error_with_its_cure(host_train, monkeypatch, capsys, tmp_path):
    def without_operators(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(host_train, "find_host", lambda: tmp_path)
    monkeypatch.setattr(
        importlib.import_module("mapanything_opv2v.host.register").importlib, "import_module", without_operators
    )
    assert train.launch(train.build_parser().parse_args([]), []) == 2
    assert "The installed torchvision was built for another torch than the installed one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "variables", "problem"),
    [
        (["--without", "atomic"], {}, "--without: no deviation atomic; there are"),
        ([], {"TORCH_DIST_TIMEOUT": "soon"}, "TORCH_DIST_TIMEOUT='soon': expected a positive number"),
    ],
)
def test_options_that_cannot_act_end_it(host_train, monkeypatch, capsys, argv, variables, problem):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert train.main(argv) == 2
    assert problem in capsys.readouterr().err


def test_options_reach_the_task_and_the_rest_reaches_hydra(host_train, monkeypatch):
    given = {}
    monkeypatch.setattr(host_train, "find_host", lambda: None)
    monkeypatch.setattr(host_train.HostTraining, "_prepare", lambda self: None)
    monkeypatch.setattr(host_train, "run", lambda task: given.update(task=task, argv=sys.argv))
    monkeypatch.setattr(sys, "argv", ["train"])
    words = ["--accept-changes", "a=1", "--without", "lr_log,provenance", "-m", "+b=2", "--cfg", "job"]
    assert train.main(words) == 0
    assert given["argv"] == ["train", "a=1", "-m", "+b=2", "--cfg", "job"]
    assert given["task"].options == host_train.LaunchOptions(frozenset({"lr_log", "provenance"}), True)


def test_the_verb_does_the_same(host_train, monkeypatch):
    given = {}
    monkeypatch.setattr(host_train, "find_host", lambda: None)
    monkeypatch.setattr(host_train.HostTraining, "_prepare", lambda self: None)
    monkeypatch.setattr(host_train, "run", lambda task: given.update(task=task, argv=sys.argv))
    monkeypatch.setattr(sys, "argv", ["mapanything-opv2v"])
    assert cli.main(["train", "--without", "lr_log", "+experiment=opv2v_stage1", "a=1", "--", "--cfg", "job"]) == 0
    assert given["argv"] == ["mapanything-opv2v", "+experiment=opv2v_stage1", "a=1", "--cfg", "job"]
    assert given["task"].options == host_train.LaunchOptions(frozenset({"lr_log"}), False)


def test_a_job_that_unpickles_the_task_finds_the_host_itself(host_train, monkeypatch):
    prepared = []
    monkeypatch.setattr(host_train, "find_host", lambda: "here")
    monkeypatch.setattr(host_train.HostTraining, "_prepare", lambda self: prepared.append(self))
    task = host_train.HostTraining(host_train.LaunchOptions(accept_changes=True))
    copy = pickle.loads(pickle.dumps(task))
    assert copy.options == task.options and copy.host_root == "here" and prepared == [task, copy]


def test_help_needs_no_host():
    done = subprocess.run([sys.executable, "-m", "mapanything_opv2v.train", "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: python -m mapanything_opv2v.train" in done.stdout and "--accept-changes" in done.stdout
