"""Every task of this repository; `nox -l` lists them. Packages are found, not listed: packages/*/pyproject.toml."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).parent
PACKAGES = {path.parent.name: nox.project.load_toml(path) for path in sorted(ROOT.glob("packages/*/pyproject.toml"))}
HOSTS = {name: meta["tool"][name]["host"] for name, meta in PACKAGES.items()}
KINDS = {"pins": (), "pins-no-deps": ("--no-deps",), "pins-no-build-isolation": ("--no-build-isolation",)}

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["lint", *(f"test-{name}" for name in PACKAGES)]
nox.options.default_venv_backend = "none"  # one virtual environment per package, shared by its sessions


def run(session: nox.Session, *command: object, env: dict[str, str] | None = None) -> None:
    """Run a command that is not part of a nox environment."""
    session.run(*map(str, command), env=env or {}, external=True)


def environment(session: nox.Session, name: str, pins: dict[str, list[str]]) -> Path:
    """Return the Python of .nox/env-NAME, made anew when its pins change."""
    folder = ROOT / ".nox" / f"env-{name}"
    python, stamp = folder / "bin" / "python", folder / "pins.sha256"
    digest = hashlib.sha256((repr(pins) + sys.version).encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        run(session, sys.executable, "-m", "venv", "--clear", folder)
        for kind, options in KINDS.items():
            if pins.get(kind):
                run(session, python, "-m", "pip", "install", "-q", *options, *pins[kind])
        stamp.write_text(digest)
    return python


def installed(session: nox.Session, name: str) -> Path:
    """Return the package's Python, with the wheel of the present source installed in it."""
    python = environment(session, name, PACKAGES[name]["tool"][name]["pins"])
    wheels = ROOT / ".nox" / "wheels" / name
    run(session, python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", wheels, ROOT / "packages" / name)
    wheel = max(wheels.glob("*.whl"), key=lambda path: path.stat().st_mtime)
    run(session, python, "-m", "pip", "install", "-q", "--force-reinstall", "--no-deps", wheel)
    return python


def host_env(session: nox.Session, name: str) -> dict[str, str]:
    """Return what puts the user's own host checkout on the path; empty without one."""
    host = HOSTS[name]
    root = os.environ.get(host["root-env"])
    if not root:
        return {}
    if not Path(root).is_dir():
        session.error(f"{host['root-env']}={root} is not a folder; {clone_hint(name)}")
    git = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True)
    commit = git.stdout.strip() or "unknown (not a git checkout)"
    if commit != host["commit"]:
        session.warn(f"{host['name']} is at {commit}, the pin is {host['commit']}: results may differ")
    path = [str(Path(root).resolve()), os.environ.get("PYTHONPATH", "")]
    return {host["root-env"]: path[0], "PYTHONPATH": os.pathsep.join(filter(None, path))}


def clone_hint(name: str) -> str:
    """Say how a user gets the host at its pin."""
    host, folder = HOSTS[name], HOSTS[name]["repository"].split("/")[1]
    return (
        f"get {host['name']} with: git clone https://github.com/{host['repository']} && "
        f"git -C {folder} checkout {host['commit']} && export {host['root-env']}=$PWD/{folder}"
    )


def pytest(session: nox.Session, python: Path, tests: str, *options: str, env: dict[str, str] | None = None) -> None:
    """Run a folder of tests against the installed wheel; its own helper modules are importable."""
    path = f"pythonpath={tests} {tests}/standins"
    run(session, python, "-m", "pytest", "-o", path, tests, *options, *session.posargs, env=env)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff, mypy, and what concerns the repository: boundaries, wheels, docs, launchers."""
    python = environment(session, "lint", nox.project.load_toml(ROOT / "pyproject.toml")["tool"]["lint"])
    run(session, python, "-m", "ruff", "check", ".")
    run(session, python, "-m", "ruff", "format", "--check", ".")
    for name in PACKAGES:
        run(session, python, "-m", "mypy", f"packages/{name}/src")
    run(session, python, "-m", "pip", "install", "-q", "--no-deps", *(f"-epackages/{name}" for name in PACKAGES))
    pytest(session, python, "tests")


@nox.session
def build(session: nox.Session) -> None:
    """Build every wheel into dist/."""
    for name in PACKAGES:
        run(session, sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", "dist", f"packages/{name}")


@nox.session
def demo(session: nox.Session) -> None:
    """Run every package's main job and write demo_out/index.html."""
    for name in PACKAGES:
        run_demo(session, name)
    run(session, sys.executable, "tools/demo_index.py", ROOT / "demo_out")


def run_demo(session: nox.Session, name: str) -> None:
    """Run the main job of one package into demo_out/NAME."""
    command = installed(session, name).with_name(name)
    run(session, command, "demo", "--out", ROOT / "demo_out" / name, *session.posargs, env=host_env(session, name))


def add_sessions(name: str) -> None:
    """Define test-, host-, demo- and bench- of one package."""
    tests = f"packages/{name}/tests"

    @nox.session(name=f"test-{name}")
    def test(session: nox.Session) -> None:
        python, env = installed(session, name), host_env(session, name)
        pytest(session, python, tests, f"--ignore={tests}/host")
        if env:
            pytest(session, python, f"{tests}/host", env=env)
        ran = "and the real-host tests" if env else f"but not the real-host tests; {clone_hint(name)}"
        session.log(f"{name}: ran its own tests {ran}")

    @nox.session(name=f"host-{name}")
    def host(session: nox.Session) -> None:
        env = host_env(session, name)
        if not env:
            session.error(f"{HOSTS[name]['root-env']} is not set; {clone_hint(name)}")
        pytest(session, installed(session, name), f"{tests}/host", env=env)

    @nox.session(name=f"demo-{name}")
    def demo_one(session: nox.Session) -> None:
        run_demo(session, name)

    @nox.session(name=f"bench-{name}")
    def bench(session: nox.Session) -> None:
        python, env = installed(session, name), host_env(session, name)
        for script in sorted(ROOT.glob(f"packages/{name}/benchmarks/bench_*.py")):
            run(session, python, script, *session.posargs, env=env)


for _name in PACKAGES:
    add_sessions(_name)
