"""Registration and the Hydra plugin, against the double of the host."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from pathlib import Path

import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra_plugins.mapanything_opv2v_search_path import search_path as plugin_module
from mapanything_opv2v.host.config_text import python_literal
from omegaconf import OmegaConf

CONFIGS = "pkg://mapanything_opv2v.configs"


class Path_:
    """Records what is appended."""

    def __init__(self):
        self.paths = []

    def append(self, provider, path):
        self.paths.append((provider, path))


def test_hydra_discovers_the_plugin():
    names = [plugin.__name__ for plugin in Plugins.instance().discover(SearchPathPlugin)]
    assert "MapAnythingOPV2VSearchPath" in names


def test_the_plugin_imports_nothing_but_hydra_at_its_top():
    tree = ast.parse(Path(plugin_module.__file__).read_text())
    roots = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add(node.module.split(".")[0])
    assert roots == {"__future__", "sys", "hydra", "omegaconf"}
    assert not (Path(plugin_module.__file__).parents[1] / "__init__.py").exists()  # a namespace package


@pytest.mark.parametrize(
    "value",
    [None, True, 3, 2.5, float("inf"), [0, -1], "a+b", "it's \\+ here", "train", {"a": [float("-inf"), {"b": None}]}],
)
def test_values_survive_the_hosts_eval(value):
    text = python_literal(value)
    assert "+" not in text and eval(text) == value


def test_a_config_node_becomes_plain_python():
    node = OmegaConf.create({"a": [1, "${b}"], "b": "x", "c": {"d": float("inf")}})
    assert eval(python_literal(node)) == {"a": [1, "x"], "b": "x", "c": {"d": float("inf")}}


def test_other_hydra_applications_are_left_alone(monkeypatch):
    monkeypatch.delitem(sys.modules, "mapanything", raising=False)
    paths = Path_()
    plugin_module.MapAnythingOPV2VSearchPath().manipulate_search_path(paths)
    assert paths.paths == []


def test_the_plugin_registers_and_appends(double_host):
    paths = Path_()
    plugin_module.MapAnythingOPV2VSearchPath().manipulate_search_path(paths)
    assert paths.paths == [("mapanything-opv2v", CONFIGS)]
    namespace = sys.modules["mapanything.datasets"]
    assert namespace.OPV2VCoopCylindricalDataset is double_host.OPV2VCoopCylindricalDataset


def names_at(place):
    """Return the host's own dict of names at a place of `register`."""
    if place.endswith("MODEL_CONFIGS"):
        return sys.modules["mapanything.models"].MODEL_CONFIGS
    return vars(sys.modules[place])


def test_register_twice_changes_nothing(double_host):
    register = importlib.import_module("mapanything_opv2v.host.register").register
    first = register()
    assert register() == first
    assert {place: len(classes) for place, classes in first.items()} == {
        "mapanything.datasets": 26,
        "mapanything.train.training": 7,
        "mapanything.models.MODEL_CONFIGS": 2,
    }
    for place, classes in first.items():
        models = place.endswith("MODEL_CONFIGS")
        expected = {name: {"class": cls} if models else cls for name, cls in classes.items()}
        assert {name: names_at(place)[name] for name in classes} == expected


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("mapanything.datasets", "OPV2VDataset"),
        ("mapanything.train.training", "OPV2VMaskedDepthLoss"),
        ("mapanything.models.MODEL_CONFIGS", "opv2v_mapanything"),
    ],
)
def test_another_class_of_the_same_name_stays(double_host, monkeypatch, place, name):
    register = importlib.import_module("mapanything_opv2v.host.register").register
    monkeypatch.setitem(names_at(place), name, dict)
    message = rf"{re.escape(place)}\.{name} is already <class 'dict'>.*does not overwrite"
    with pytest.raises(ValueError, match=message):
        register()
    assert names_at(place)[name] is dict


def test_the_hosts_own_mask_loss_stays(double_host):
    """MapAnything has a NonAmbiguousMaskLoss; ours has another name."""
    register = importlib.import_module("mapanything_opv2v.host.register").register
    names = [name for classes in register().values() for name in classes]
    assert all(name.startswith(("OPV2V", "opv2v_", "FixedSteps")) for name in names)


def test_a_missing_host_is_named(monkeypatch):
    for name in [n for n in sys.modules if n == "mapanything" or n.startswith("mapanything.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Nowhere(), *sys.meta_path])
    register = importlib.import_module("mapanything_opv2v.host.register").register
    with pytest.raises(ImportError, match=r"cannot import mapanything\.datasets: no mapanything here.*PYTHONPATH"):
        register()


class _Nowhere:
    """An import hook for which there is no host."""

    def find_spec(self, name, path=None, target=None):
        if name == "mapanything":
            raise ModuleNotFoundError("no mapanything here")
