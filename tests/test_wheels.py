"""What a wheel holds: the package, its configs and py.typed; nothing of tests, data or hosts."""

import subprocess
import sys
import zipfile

import pytest
from repo import PACKAGES

DATA = {".bin", ".pkl", ".pcd", ".npy", ".npz", ".pth", ".pt", ".ply", ".safetensors"}
HOSTS = ("oneformer3d/", "mapanything/", "llava/", "tests/", "benchmarks/")


@pytest.fixture(scope="module", params=PACKAGES, ids=repr)
def wheel(request, tmp_path_factory):
    package, out = request.param, tmp_path_factory.mktemp(request.param.name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(out)]
    subprocess.run([*command, str(package.folder)], check=True)
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return package, archive.namelist(), sum(info.file_size for info in archive.infolist())


def test_holds_every_source_file(wheel):
    package, names, _ = wheel
    assert f"{package.module}/py.typed" in names
    source = package.folder / "src"
    for path in source.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts and not path.parent.name.endswith(".egg-info"):
            assert str(path.relative_to(source)) in names


def test_holds_nothing_else(wheel):
    package, names, size = wheel
    allowed = {package.module, "hydra_plugins", f"{package.module}-{package.version}.dist-info"}
    assert {name.split("/")[0] for name in names} <= allowed
    assert not [name for name in names if name.startswith(HOSTS) or any(name.endswith(end) for end in DATA)]
    assert not [name for name in names if "/tests/" in name or "/benchmarks/" in name]
    assert size < 2_000_000


def test_has_license_and_console_script(wheel):
    _, names, _ = wheel
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("entry_points.txt") for name in names)
