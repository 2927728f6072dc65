"""Every task of this repository; `nox -l` lists them. Packages are found, not listed: packages/*/pyproject.toml."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).parent
OUT = ROOT / "demo_out"
PACKAGES = {path.parent.name: nox.project.load_toml(path) for path in sorted(ROOT.glob("packages/*/pyproject.toml"))}
HOSTS = {name: meta["tool"][name]["host"] for name, meta in PACKAGES.items()}

DEMOS = [name for name, meta in PACKAGES.items() if meta["tool"][name].get("demo", True)]

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["lint", *(f"test-{name}" for name in PACKAGES)]
nox.options.default_venv_backend = "none"  # one virtual environment per package, shared by its sessions


def environment(session: nox.Session, name: str, pins: dict[str, list[str]]) -> str:
    """Return the Python of .nox/env-NAME, made anew when its pins change."""
    folder = ROOT / ".nox" / f"env-{name}"
    python, stamp = str(folder / "bin" / "python"), folder / "pins.sha256"
    digest = hashlib.sha256((repr(pins) + sys.version).encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        session.run(sys.executable, "-m", "venv", "--clear", str(folder), external=True)
        for options, key in (
            ((), "pins"),
            (("--no-deps",), "pins-no-deps"),
            (("--no-build-isolation",), "pins-no-build-isolation"),
        ):
            if pins.get(key):
                session.run(python, "-m", "pip", "install", "-q", *options, *pins[key], external=True)
        stamp.write_text(digest)
    return python


def installed(session: nox.Session, name: str) -> str:
    """Return the package's Python, with the wheel of the present source installed in it."""
    python = environment(session, name, PACKAGES[name]["tool"][name]["pins"])
    wheels = Path(session.create_tmp()) / name
    pip = (python, "-m", "pip", "-q")
    session.run(*pip, "wheel", "--no-deps", "-w", str(wheels), str(ROOT / "packages" / name), external=True)
    wheel = max(wheels.glob("*.whl"), key=lambda path: path.stat().st_mtime)
    session.run(*pip, "install", "--force-reinstall", "--no-deps", str(wheel), external=True)
    return python


def host_env(session: nox.Session, name: str) -> dict[str, str] | None:
    """Return the environment that puts the user's own host checkout on the path, or None without one."""
    host = HOSTS[name]
    root = os.environ.get(host["root-env"])
    if not root:
        return None
    if not Path(root).is_dir():
        session.error(f"{host['root-env']}={root} is not a folder; {clone_hint(name)}")
    git = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True)
    commit = git.stdout.strip() or "unknown (not a git checkout)"
    if commit != host["commit"]:
        session.warn(f"{host['name']} is at {commit}, the pin is {host['commit']}: results may differ")
    root = str(Path(root).resolve())
    return {
        host["root-env"]: root,
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
    }


def clone_hint(name: str) -> str:
    """Say how a user gets the host at its pin."""
    host, folder = HOSTS[name], HOSTS[name]["repository"].split("/")[1]
    return (
        f"get {host['name']} with: git clone https://github.com/{host['repository']} && "
        f"git -C {folder} checkout {host['commit']} && export {host['root-env']}=$PWD/{folder}"
    )


def pytest(session: nox.Session, python: str, tests: str, *options: str, env: dict[str, str] | None = None) -> None:
    """Run a folder of tests against the installed wheel; its own helper modules are importable."""
    command = (python, "-m", "pytest", "-o", f"pythonpath={tests}", tests, *options, *session.posargs)
    session.run(*command, env=env or {}, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff, mypy, and what concerns the repository: boundaries, wheels, docs, launchers."""
    python = environment(session, "lint", nox.project.load_toml(ROOT / "pyproject.toml")["tool"]["lint"])
    session.run(python, "-m", "ruff", "check", ".", external=True)
    session.run(python, "-m", "ruff", "format", "--check", ".", external=True)
    for name in PACKAGES:
        session.run(python, "-m", "mypy", f"packages/{name}/src", external=True)
    pytest(session, python, "tests")


@nox.session
def build(session: nox.Session) -> None:
    """Build every wheel into dist/."""
    for name in PACKAGES:
        session.run(
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "-w",
            "dist",
            f"packages/{name}",
            external=True,
        )


@nox.session
def demo(session: nox.Session) -> None:
    """Run every package's main job and write demo_out/index.html."""
    for name in DEMOS:
        run_demo(session, name)
    session.run(sys.executable, "tools/demo_index.py", str(OUT), external=True)


def run_demo(session: nox.Session, name: str) -> None:
    """Run the main job of one package into demo_out/NAME."""
    env = host_env(session, name) or {}
    command = Path(installed(session, name)).with_name(name)
    session.run(str(command), "demo", "--out", str(OUT / name), *session.posargs, env=env, external=True)


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
        if env is None:
            session.error(f"{HOSTS[name]['root-env']} is not set; {clone_hint(name)}")
        pytest(session, installed(session, name), f"{tests}/host", env=env)

    @nox.session(name=f"demo-{name}")
    def demo_one(session: nox.Session) -> None:
        run_demo(session, name)

    @nox.session(name=f"bench-{name}")
    def bench(session: nox.Session) -> None:
        python, env = installed(session, name), host_env(session, name) or {}
        for script in sorted(ROOT.glob(f"packages/{name}/benchmarks/bench_*.py")):
            session.run(python, str(script), *session.posargs, env=env, external=True)


for _name in PACKAGES:
    add_sessions(_name)
