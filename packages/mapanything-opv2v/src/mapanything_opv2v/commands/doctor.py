"""`doctor`: is the host there, at its pin, importable, and do our names reach it?"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mapanything_opv2v.checkout import commit_of, is_below, versions
from mapanything_opv2v.commands import options
from mapanything_opv2v.terminal import DONE, FAILED

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PACKAGE = "mapanything-opv2v"
_PLUGIN = "hydra_plugins.mapanything_opv2v_search_path.search_path"


@dataclass(frozen=True)
class Finding:
    """One line of the report; `ok` is None for a plain statement."""

    topic: str
    text: str
    ok: bool | None = None

    def __str__(self) -> str:
        """Return the line as printed."""
        mark = {True: "ok", False: "PROBLEM", None: ""}[self.ok]
        return f"{self.topic:<18} {mark:<8} {self.text}"


def pin() -> dict[str, Any]:
    """Return the host's pin from pyproject.toml: `name`, `root-env`, `repository`, `commit`, `imports`."""
    here = Path(__file__).parents[1]
    for path in (here / "pyproject.toml", here.parents[1] / "pyproject.toml"):  # in a wheel; in a checkout
        if path.is_file():
            return tomllib.loads(path.read_text(encoding="utf-8"))["tool"][_PACKAGE]["host"]
    raise FileNotFoundError(f"{_PACKAGE} was installed without its pyproject.toml; install it again")


def add(commands: options.Commands) -> None:
    """Add the command."""
    parser = options.add_command(
        commands,
        "doctor",
        "say whether MapAnything is there, at its pin, importable, and knows our datasets",
        "MAPANYTHING_ROOT=~/map-anything PYTHONPATH=~/map-anything mapanything-opv2v doctor",
        run,
    )
    parser.add_argument(
        "--verbose", action="store_true", help="explain each deviation of the launcher from MapAnything's training"
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print what is found and a verdict; return whether a training could start with it."""
    found = [*findings(), *_deviations(args.verbose)]
    problems = sum(finding.ok is False for finding in found)
    as_json = {"findings": [asdict(finding) for finding in found], "problems": problems, "ready": not problems}
    if not options.put_json(args, as_json):
        for finding in found:
            print(finding)
        print(verdict(problems))
    return FAILED if problems else DONE


def verdict(problems: int) -> str:
    """Return the last line."""
    if problems:
        return f"not ready: {problems} problem{'s' * (problems > 1)}"
    return "ready: a training can start"


def findings() -> Iterator[Finding]:
    """Look at package, host, plugin, registration and data, in the order in which they build on another."""
    host = pin()
    yield Finding("package", f"{_PACKAGE} {importlib.metadata.version(_PACKAGE)}")
    yield Finding("python", f"{platform.python_version()} ({sys.executable})")
    yield Finding("versions", ", ".join(f"{name} {number}" for name, number in versions().items()))
    yield from _checkout(host)
    yield from _imports(host)
    yield from _registration(host)
    yield from _plugin()
    yield from _data()


def _deviations(verbose: bool) -> Iterator[Finding]:
    """Say how the launcher's training differs from the host's own."""
    try:
        from mapanything_opv2v.host.training.deviations import DEVIATIONS, NAMES
    except ImportError:  # said above, with what to install
        return
    if not verbose:
        text = f"{len(NAMES)} ways, each switchable (--verbose explains): {', '.join(NAMES)}"
        yield Finding("launcher deviates", text)
        return
    yield Finding("scripts/train.py", "no deviation: names and configs are added, nothing of the host is replaced")
    for deviation in DEVIATIONS:
        text = f"{deviation.name} ({deviation.where}). Host: {deviation.host}. Here: {deviation.ours}"
        yield Finding("launcher deviates", text)


def _checkout(host: dict[str, Any]) -> Iterator[Finding]:
    """Compare the checkout's commit with the pin."""
    name, variable = host["name"], host["root-env"]
    root = os.environ.get(variable)
    if not root:
        folder = host["repository"].split("/")[1]
        get = f"git clone https://github.com/{host['repository']} && git -C {folder} checkout {host['commit']}"
        yield Finding("host checkout", f"{variable} is not set; point it at your {name} checkout ({get})", False)
        return
    if not Path(root).is_dir():
        yield Finding("host checkout", f"{variable}={root} is not a folder", False)
        return
    commit = commit_of(Path(root))
    if commit == host["commit"]:
        yield Finding("host checkout", f"{root} at the pin {commit}", True)
    else:
        yield Finding("host checkout", f"{root} is at {commit}, the pin is {host['commit']}: results may differ")


def _imports(host: dict[str, Any]) -> Iterator[Finding]:
    """Name all packages that the host imports and that are missing, at once."""
    missing = {name: package for name, package in host["imports"].items() if importlib.util.find_spec(name) is None}
    if missing:
        text = f"missing: {', '.join(missing)}; pip install {' '.join(missing.values())}"
        yield Finding("host's imports", text, False)
    else:
        yield Finding(
            "host's imports", f"all {len(host['imports'])} packages that {host['name']} needs are there", True
        )


def _registration(host: dict[str, Any]) -> Iterator[Finding]:
    """Find the `mapanything` that Python would import, and register our names in it."""
    spec = importlib.util.find_spec("mapanything")
    if spec is None:
        hint = f"install it, or export PYTHONPATH=${host['root-env']}"
        yield Finding("host import", f"Python finds no module mapanything; {hint}", False)
        return
    where = Path(spec.origin or next(iter(spec.submodule_search_locations or ["?"])))
    root = os.environ.get(host["root-env"])
    if root and not is_below(where, Path(root)):
        yield Finding("host import", f"mapanything comes from {where}, not from {host['root-env']}={root}", False)
    else:
        yield Finding("host import", f"mapanything comes from {where}", True)
    from mapanything_opv2v.host.register import register

    try:
        registered = register()
    except (ImportError, ValueError, RuntimeError) as error:  # RuntimeError: torchvision beside another torch
        yield Finding("registration", f"{type(error).__name__}: {error}", False)
        return
    for place, names in registered.items():
        yield Finding("registration", f"{len(names)} names in {place}: {', '.join(names)}", True)


def _plugin() -> Iterator[Finding]:
    """Say whether Hydra will find the configs."""
    try:
        found = importlib.util.find_spec(_PLUGIN) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        yield Finding("hydra plugin", f"Python finds no {_PLUGIN}; install {_PACKAGE} again", False)
    elif importlib.util.find_spec("hydra") is None:
        yield Finding("hydra plugin", f"Hydra is not installed; pip install '{_PACKAGE}[host]'", False)
    else:
        yield Finding("hydra plugin", "appends pkg://mapanything_opv2v.configs where mapanything is imported", True)


def _data() -> Iterator[Finding]:
    """Say where `machine=opv2v` will look for data; a missing tree is no fault of the installation."""
    for variable, link in (("OPV2V_ROOT", "data/opv2v"), ("OPV2V_DEPTH_ROOT", "data/opv2v_depth")):
        path = os.environ.get(variable)
        if path is None:
            yield Finding(variable, f"not set: machine=opv2v uses {link} below the folder it is started from")
        else:
            there = Path(path).is_dir()
            yield Finding(variable, path if there else f"{path} is not a folder", there)
