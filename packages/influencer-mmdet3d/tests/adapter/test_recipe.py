"""The host's stack: versions from pyproject alone, an order that installs, everything missing at once."""

import importlib.util
import shlex

import pytest
from influencer_mmdet3d.host import recipe
from influencer_mmdet3d.host.pin import settings
from packaging.requirements import Requirement


@pytest.mark.parametrize(
    "cuda, wheel",
    [
        (None, "spconv"),
        ("10.2", "spconv-cu102"),
        ("11.3", "spconv-cu113"),
        ("11.5", "spconv-cu114"),
        ("11.6", "spconv-cu116"),
        ("11.8", "spconv-cu118"),
        ("12.1", "spconv-cu121"),
        ("12.4", "spconv-cu124"),
        ("12.8", "spconv-cu126"),
        ("13.0", None),
        ("9.2", None),
    ],
)
def test_wheel_for_cuda(cuda, wheel):
    assert recipe.fitting_spconv(cuda) == wheel


def listed() -> set[str]:
    environment = settings()["environment"]
    return {Requirement(text).name for text in [*environment["requires"], *environment["requires-no-deps"]]}


def test_every_module_has_a_distribution_that_the_environment_lists():
    built = {"torch-scatter", "MinkowskiEngine"}  # no wheel for a CPU
    assert set(recipe.MODULES.values()) - built <= {"mmcv" if name == "mmcv-lite" else name for name in listed()}


def test_what_only_tests_need_is_listed():
    assert set(settings()["environment"]["tests"]) <= listed()


def test_pinned_versions_are_in_the_ranges():
    for name, versions in recipe.version_ranges().items():
        (one,) = Requirement(recipe.pinned("mmcv-lite" if name == "mmcv" else name)).specifier
        assert one.version in versions, name
    assert recipe.pinned("no-such-package") == "no-such-package"


@pytest.mark.parametrize("cuda", [None, "11.6", "12.8"])
def test_order_and_content(cuda):
    lines = recipe.install_steps(cuda)
    installed = [word for line in lines if line.startswith("python -m pip install ") for word in shlex.split(line)[4:]]
    names = [Requirement(word).name for word in installed if not word.startswith("-")]
    order = ["torch", "setuptools", "mmcv", "mmdet3d", recipe.fitting_spconv(cuda), "torch-scatter"]
    assert sorted(order, key=names.index) == order
    assert set(recipe.MODULES.values()) - {"MinkowskiEngine", "spconv"} <= set(names)
    assert len(names) == len(set(names)) + 1 and names.count("numpy") == 2, "numpy's pin holds in each step"
    assert "pytest" not in names and "mmcv-lite" not in names
    assert ("--cpu_only" in "".join(lines)) is (cuda is None)


def test_no_wheel_is_said():
    lines = recipe.install_steps("13.0")
    assert "# 5. spconv has no wheel for CUDA 13.0: build it from source" in lines
    assert not [line for line in lines if "install spconv" in line]


def test_lines_name_no_server():
    assert "://" not in "".join(line for line in recipe.install_steps("12.6") if "github.com" not in line)


def test_missing_modules(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(recipe.importlib.util, "find_spec", lambda n: None if n in ("numba", "cv2") else find("sys"))
    assert recipe.missing_modules() == ["cv2", "numba"]


def test_advice_on_import_errors():
    assert "Dockerfile" in recipe.import_advice("No module named 'MinkowskiEngine'")
    assert "`influencer-mmdet3d doctor` lists" in recipe.import_advice("No module named 'mmdet3d'")
