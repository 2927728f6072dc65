"""Every task of this repository; `nox -l` lists them. Packages are found, not listed: packages/*/pyproject.toml."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import nox

ROOT = Path(__file__).parent
env = SimpleNamespace(**runpy.run_path(str(ROOT / "tasks" / "environments.py")))

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["lint", *(f"test-{name}" for name in env.PACKAGES)]
nox.options.default_venv_backend = "none"  # one virtual environment per package, shared by its sessions


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff, mypy, and what concerns the repository: boundaries, wheels, docs, launchers."""
    python = env.editable(session)
    env.run(session, python, "-m", "ruff", "check", ".")
    env.run(session, python, "-m", "ruff", "format", "--check", ".")
    for name in env.PACKAGES:
        env.run(session, python, "-m", "mypy", f"packages/{name}/src")
    env.pytest(session, python, "tests")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation site into site/; a broken link is an error."""
    env.run(session, env.editable(session), "-m", "mkdocs", "build", "--strict", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build every wheel into dist/."""
    folders = [f"packages/{name}" for name in env.PACKAGES]
    env.run(session, sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", "dist", *folders)


@nox.session
def lock(session: nox.Session) -> None:
    """Renew constraints.txt of every environment (or of those named after --): all versions, also the indirect ones."""
    for name in session.posargs or env.LOCKS:
        python = env.environment(session, name, "lock")
        frozen = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout
        lines = [f"# Made by `nox -s lock` with Python 3.{sys.version_info[1]}"]
        lines += [line.split("+")[0] for line in frozen.splitlines() if "==" in line]  # no local builds (+cpu)
        env.LOCKS[name].write_text("\n".join(lines) + "\n")


@nox.session
def demo(session: nox.Session) -> None:
    """Run every package's main job, side by side where there are cores, and write demo_out/index.html."""

    def one(name: str) -> int:
        command = [sys.executable, "-m", "nox", "-s", f"demo-{name}", "--", *session.posargs]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as job:
            for line in job.stdout or ():
                print(f"{name:18} | {line.rstrip()}", flush=True)
        return job.returncode

    with ThreadPoolExecutor(max(1, min(len(env.PACKAGES), os.cpu_count() or 1))) as pool:
        failed = [name for name, status in zip(env.PACKAGES, pool.map(one, env.PACKAGES)) if status]
    if failed:
        session.error(f"the demo failed for {', '.join(failed)}")
    env.run(session, sys.executable, "tasks/demo_index.py", ROOT / "demo_out")


def run_demo(session: nox.Session, name: str, python: Path, out: Path) -> None:
    """Run the main job of one package."""
    env.run(session, python.with_name(name), "demo", "--out", out, *session.posargs, env=env.host_env(session, name))


@nox.session
def extras(session: nox.Session) -> None:
    """Install every extra in clean environments of Python 3.10 and 3.12 (or of those named after --)."""
    for version in session.posargs or ("3.10", "3.12"):
        for name, meta in env.PACKAGES.items():
            for extra in meta["project"]["optional-dependencies"]:
                with tempfile.TemporaryDirectory(prefix="extras-") as folder:
                    env.run(session, f"python{version}", "-m", "venv", folder)
                    pip = [f"{folder}/bin/python", "-m", "pip", "install", "-q", "--no-compile"]
                    env.run(session, *pip, f"./packages/{name}[{extra}]")
                    env.run(session, f"{folder}/bin/{name}", "--help")


def add_sessions(name: str) -> None:
    """Define the sessions of one package."""
    folder, tests = f"packages/{name}", f"packages/{name}/tests"

    @nox.session(name=f"env-{name}")
    def env_one(session: nox.Session) -> None:
        """Make the package's environment with its host's CPU recipe and say how to use it."""
        python = env.installed(session, name)
        host = env.host_env(session, name)
        session.log(f"source {python.with_name('activate').relative_to(ROOT)}")
        session.log(f"export PYTHONPATH={host['PYTHONPATH']}" if host else env.clone_hint(name))

    @nox.session(name=f"test-{name}")
    def test(session: nox.Session) -> None:
        """Run the package's tests; with a host also those against it."""
        python, host = env.installed(session, name), env.host_env(session, name)
        env.pytest(session, python, tests, f"--ignore={tests}/host")
        if host:
            env.pytest(session, python, f"{tests}/host", env=host)
        ran = "and the real-host tests" if host else f"but not the real-host tests; {env.clone_hint(name)}"
        session.log(f"{name}: ran its own tests {ran}")

    @nox.session(name=f"latest-{name}")
    def latest(session: nox.Session) -> None:
        """Run the package's tests and its demo with the newest versions that pyproject allows."""
        python = env.installed(session, name, "latest")
        env.pytest(session, python, tests, f"--ignore={tests}/host")
        run_demo(session, name, python, ROOT / ".nox" / "latest-demo" / name)

    @nox.session(name=f"host-{name}")
    def host(session: nox.Session) -> None:
        """Run the tests against the real host; without one, fail and say how to get it."""
        there = env.host_env(session, name)
        if not there:
            session.error(f"{env.HOSTS[name]['root-env']} is not set; {env.clone_hint(name)}")
        env.pytest(session, env.installed(session, name), f"{tests}/host", env=there)

    @nox.session(name=f"demo-{name}")
    def demo_one(session: nox.Session) -> None:
        """Run the package's main job into demo_out/NAME."""
        run_demo(session, name, env.installed(session, name), ROOT / "demo_out" / name)

    def scripts(session: nox.Session, pattern: str) -> None:
        python, there = env.installed(session, name), env.host_env(session, name)
        for script in sorted(ROOT.glob(f"{folder}/{pattern}")):
            env.run(session, python, script, *session.posargs, env=there)

    @nox.session(name=f"bench-{name}")
    def bench(session: nox.Session) -> None:
        """Measure speed against the named peers."""
        scripts(session, "benchmarks/bench_*.py")

    @nox.session(name=f"stress-{name}")
    def stress(session: nox.Session) -> None:
        """Kill long jobs and feed readers broken files at random: -- --minutes M --seed S."""
        scripts(session, "stress/run.py")

    @nox.session(name=f"mutants-{name}")
    def mutants(session: nox.Session) -> None:
        """Put small faults into the package's own modules and list those that its tests do not see."""
        env.run(session, env.installed(session, name), "tasks/mutants.py", name, *session.posargs)


for _name in env.PACKAGES:
    add_sessions(_name)
