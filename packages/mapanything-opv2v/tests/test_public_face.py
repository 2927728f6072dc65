"""What `import mapanything_opv2v` offers."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import mapanything_opv2v
import pytest

SOURCE = ast.parse(Path(mapanything_opv2v.__file__).read_text())


def test_every_name_has_one_home():
    homes = [name for names in mapanything_opv2v._HOMES.values() for name in names]
    assert sorted([*homes, "__version__"]) == sorted(mapanything_opv2v.__all__) and len(set(homes)) == len(homes)


def test_type_checkers_see_the_same_homes():
    imports = [node for node in ast.walk(SOURCE) if isinstance(node, ast.ImportFrom) and node.level == 0]
    seen = {
        (node.module.partition(".")[2], alias.name)
        for node in imports
        if node.module.startswith("mapanything_opv2v.")
        for alias in node.names
    }
    assert seen == {(home, name) for home, names in mapanything_opv2v._HOMES.items() for name in names}


@pytest.mark.parametrize("home", [home for home in mapanything_opv2v._HOMES if not home.startswith("host.")])
def test_names_are_there(home):
    for name in mapanything_opv2v._HOMES[home]:
        assert getattr(mapanything_opv2v, name).__name__ == name
        assert name in dir(mapanything_opv2v)


def test_names_that_need_the_host_are_its_own(double_host):
    assert mapanything_opv2v.OPV2VDataset is double_host.OPV2VDataset
    assert mapanything_opv2v.register.__module__ == "mapanything_opv2v.host.register"


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="module 'mapanything_opv2v' has no attribute 'nothing'"):
        _ = mapanything_opv2v.nothing


def test_importing_it_imports_nothing_heavy():
    code = "import sys, mapanything_opv2v; sys.exit(bool({'numpy', 'torch', 'numba', 'cv2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
