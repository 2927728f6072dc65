"""Imports go one way: core <- adapter <- what a person runs; no circles; and no package imports another."""

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


def graph(package):
    """Module -> modules of the same package that it imports, wherever in the file."""
    names = {f"{package.module}.{name}".removesuffix(".__init__") for name, _ in modules(package)}
    edges = {}
    for name, path in modules(package):
        whole = f"{package.module}.{name}"
        found = imported(path, whole) & names - {whole.removesuffix(".__init__")}
        # `from package.folder import module` names the folder, too; only the module is meant
        edges[whole.removesuffix(".__init__")] = {
            one for one in found if not any(other.startswith(f"{one}.") for other in found)
        }
    return edges


def circle(edges):
    """The first circle of a directed graph, or an empty list."""
    done, path = set(), []

    def visit(node):
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        path.append(node)
        for target in sorted(edges[node]):
            if found := visit(target):
                return found
        done.add(path.pop())
        return []

    for node in sorted(edges):
        if found := visit(node):
            return found
    return []


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize("package", PACKAGES, ids=repr)
def test_no_import_circles(package):
    assert not (found := circle(graph(package))), " -> ".join(found)


@pytest.mark.parametrize("package", PACKAGES, ids=repr)
def test_top_shelf_is_short(package):
    """What a newcomer reads first: at most 16 modules beside the folders."""
    names = sorted(path.name for path in package.source.glob("*.py"))
    assert len(names) <= 16, f"{len(names)} modules: {', '.join(names)}"


@pytest.mark.parametrize("package", PACKAGES, ids=repr)
def test_adapters_are_few_names(package):
    assert len(package.settings["layers"]["adapter"]) <= 8


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
