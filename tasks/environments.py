"""Virtual environments of the noxfile's tasks: what they hold, from which pins, with which host."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nox

ROOT = Path(__file__).parents[1]
PACKAGES = {path.parent.name: nox.project.load_toml(path) for path in sorted(ROOT.glob("packages/*/pyproject.toml"))}
HOSTS = {name: meta["tool"][name]["host"] for name, meta in PACKAGES.items()}
SETUPS: dict[str, Any] = {name: meta["tool"][name]["environment"] for name, meta in PACKAGES.items()}
SETUPS["lint"] = nox.project.load_toml(ROOT / "pyproject.toml")["tool"]["lint"]["environment"]
LOCKS = {name: ROOT / "packages" / name / "constraints.txt" for name in PACKAGES} | {"lint": ROOT / "constraints.txt"}
STEPS = {"requires": (), "requires-no-deps": ("--no-deps",), "requires-no-build-isolation": ("--no-build-isolation",)}
"""Steps of an installation, in order, with pip's options; each is a list in pyproject."""
NAME = re.compile(r"[\w.-]+(\[[\w,-]+\])?")


def run(session: nox.Session, *command: object, env: dict[str, str] | None = None) -> None:
    """Run a command that is not part of a nox environment."""
    session.run(*map(str, command), env=env or {}, external=True)


def environment(session: nox.Session, name: str, kind: str = "env") -> Path:
    """Return the Python of .nox/KIND-NAME, made anew when what it holds changes.

    Kinds: `env` has the versions of constraints.txt, `lock` what pyproject asks for, and `latest` the newest version of
    everything but what pyproject lists under `hold`.
    """
    setup, lock, folder = SETUPS[name], LOCKS[name], ROOT / ".nox" / f"{kind}-{name}"
    steps = {step: list(setup.get(step, [])) for step in STEPS}
    if kind == "latest":
        held = setup.get("hold", [])
        bare = {wanted: NAME.match(wanted).group() for step in steps.values() for wanted in step}
        steps = {step: [w if bare[w] in held else bare[w] for w in wanted] for step, wanted in steps.items()}
    fixed = ["-c", str(lock)] if kind == "env" else []
    python, stamp = folder / "bin" / "python", folder / "setup.sha256"
    digest = hashlib.sha256(repr((steps, fixed and lock.read_text(), sys.version)).encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        run(session, sys.executable, "-m", "venv", "--clear", folder)
        for step, options in STEPS.items():
            if steps[step]:  # not compiled ahead: most modules are never imported
                run(session, python, "-m", "pip", "install", "-q", "--no-compile", *options, *fixed, *steps[step])
        stamp.write_text(digest)
    return python


def installed(session: nox.Session, name: str, kind: str = "env") -> Path:
    """Return the package's Python, with the wheel of the present source installed in it."""
    python = environment(session, name, kind)
    wheels = ROOT / ".nox" / "wheels" / name
    run(session, python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", wheels, ROOT / "packages" / name)
    wheel = max(wheels.glob("*.whl"), key=lambda path: path.stat().st_mtime)
    pip = (python, "-m", "pip", "install", "-q")
    run(session, *pip, "--no-deps", "--force-reinstall", wheel)
    fixed = ["-c", LOCKS[name]] if kind == "env" else []
    run(session, *pip, *fixed, wheel)  # fails where the ranges in pyproject do not allow what the environment holds
    return python


def editable(session: nox.Session) -> Path:
    """Return the Python of the checks, with the sources of all packages and without what they depend on."""
    python = environment(session, "lint")
    run(session, python, "-m", "pip", "install", "-q", "--no-deps", *(f"-epackages/{name}" for name in PACKAGES))
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
    """Run a folder of tests against the installed wheel; its own helper modules are importable.

    Host tests start hundreds of processes that import the host's frameworks: what Python compiles is kept, in .nox, so
    that nothing is written into the user's checkout of the host.
    """
    path = f"pythonpath={tests} {tests}/standins {tests.removesuffix('/host')}"
    compiled = {"PYTHONPYCACHEPREFIX": str(ROOT / ".nox" / "compiled"), "PYTHONDONTWRITEBYTECODE": ""}
    run(session, python, "-m", "pytest", "-o", path, tests, *options, *session.posargs, env={**compiled, **(env or {})})
