"""Imports go one way: core <- adapter <- what a person runs; and no package imports another."""

import ast

import pytest
from repo import PACKAGES


def imported(path, module):
    """Absolute names that a file imports, wherever in the file; relative imports are resolved."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*module.split(".")[: -node.level], *filter(None, [node.module])])
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return names


def modules(package):
    """Dotted name (relative to the package) and path of each module."""
    for path in sorted(package.source.rglob("*.py")):
        if "configs" in path.parts:
            continue
        yield ".".join(path.relative_to(package.source).with_suffix("").parts), path


def is_adapter(package, name):
    return any(name == entry or name.startswith(f"{entry}.") for entry in package.settings["layers"]["adapter"])


@pytest.mark.parametrize("package", PACKAGES, ids=repr)
def test_core_imports_neither_host_nor_adapter(package):
    hosts = set(package.settings["layers"]["host-imports"])
    wrong = []
    for name, path in modules(package):
        if is_adapter(package, name):
            continue
        for target in imported(path, f"{package.module}.{name}"):
            inner = target.removeprefix(f"{package.module}.")
            if target.split(".")[0] in hosts or (inner != target and is_adapter(package, inner)):
                wrong.append(f"{name} imports {target}")
    assert not wrong, "core must not know hosts or adapters: " + "; ".join(wrong)


@pytest.mark.parametrize("package", PACKAGES, ids=repr)
def test_adapters_exist(package):
    names = {name for name, _ in modules(package)}
    for entry in package.settings["layers"]["adapter"]:
        assert any(name == entry or name.startswith(f"{entry}.") for name in names), f"{entry} is no module"


@pytest.mark.parametrize("package", PACKAGES, ids=repr)
def test_no_package_imports_another(package):
    others = {other.module for other in PACKAGES} - {package.module}
    for path in [*package.folder.rglob("*.py")]:
        roots = {name.split(".")[0] for name in imported(path, package.module)}
        assert not roots & others, f"{path} imports {roots & others}"


def test_there_are_three():
    assert [package.name for package in PACKAGES] == ["influencer-mmdet3d", "mapanything-opv2v", "roborefer-spatial"]
