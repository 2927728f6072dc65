"""`roborefer-spatial doctor`: versions, where RoboRefer is, its defects, what is done about each."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from roborefer_spatial import __version__, terminal, torchvision_cpu
from roborefer_spatial.host.locate import Host, find_host
from roborefer_spatial.host.pin import host_requirements, load_pin

_PACKAGES = ("torch", "transformers", "accelerate", "deepspeed", "flash-attn")

_EPILOG = """\
example:
  roborefer-spatial doctor
  roborefer-spatial doctor --json | python -m json.tool

Nothing is imported from the host and nothing is changed. Exit status: 0 the launcher can start the host's
training, 1 it cannot, and every reason is said. To score answers or to ask other models no RoboRefer is needed.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--host", type=Path, metavar="DIR", help="RoboRefer checkout (default: $ROBOREFER_ROOT)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def examine(root: Path | None = None) -> dict[str, Any]:
    """Examine this environment and the host.

    Returns
    -------
    dict
        `versions`, `host`, `origin`, `commit` (None where unknown), `pinned`, `missing` (import name -> {file,
        install}), `defects` (a list of {name, where, defect, remedy}, which the launcher repairs), `problems`
        (a list of sentences) and `ok`.
    """
    found: dict[str, Any] = {
        "versions": _versions(), "host": None, "origin": None, "commit": None, "pinned": load_pin().commit,
        "missing": {}, "defects": [], "problems": [*_wrong_versions(), *_broken_libraries()],
    }  # fmt: skip
    try:
        host = find_host(root)
        found |= {"host": str(host.root), "origin": host.origin, "commit": host.commit()}
        found["defects"] = _defects(host)
        found["missing"] = _missing(host, {defect["name"] for defect in found["defects"]})
    except (ValueError, FileNotFoundError, SyntaxError) as error:
        found["problems"].append(str(error))
    found["problems"] += [
        f"{name} is not installed, and {package['file']} imports it: pip install {package['install']}"
        for name, package in found["missing"].items()
    ]
    found["ok"] = not found["problems"]
    return found


def _wrong_versions() -> Iterator[str]:
    """Yield what is installed outside the range that the host runs with."""
    for requirement in host_requirements():
        name, wanted = re.fullmatch(r"([\w-]+)(.*)", requirement).groups()  # type: ignore[union-attr]
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # said with everything else that is missing
        if not _within(version, wanted):
            yield f"{name} {version} is installed, RoboRefer needs {wanted}: pip install '{requirement}'"


def _within(version: str, wanted: str) -> bool:
    """Say whether a version fits a range such as `>=4.49,<4.53`; only these two signs are known."""
    numbers = _numbers(version)
    bounds = re.findall(r"(>=|<)([\d.]+)", wanted)
    return all((numbers >= _numbers(bound)) == (sign == ">=") for sign, bound in bounds)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.match(r"\d+(?:\.\d+)*", version)[0].split("."))  # type: ignore[index]


def _broken_libraries() -> Iterator[str]:
    """Yield libraries that are installed and cannot be imported, although the launcher repairs what it can."""
    try:
        torchvision_cpu.lacks_operators()
    except Exception as error:  # whatever an extension module raises
        yield (
            f"torchvision is installed and cannot be imported ({type(error).__name__}: {error}): install the release"
            " that belongs to this torch"
        )


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"roborefer-spatial": __version__, "Python": sys.version.split()[0]}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _defects(host: Host) -> list[dict[str, str]]:
    from roborefer_spatial.host.repairs.table import REPAIRS

    return [
        {"name": repair.name, "where": repair.where, "defect": repair.defect, "remedy": repair.remedy}
        for repair in REPAIRS
        if repair.present(host)
    ]


def _missing(host: Host, repaired: set[str]) -> dict[str, dict[str, str]]:
    from roborefer_spatial.host.requirements import PIP_NAMES, missing_packages

    stood_in = {"s2wrapper": "s2wrapper", "flash_attn": "intern-flash-attn"}
    return {
        name: {"file": file, "install": PIP_NAMES.get(name, name)}
        for name, file in missing_packages(host).items()
        if stood_in.get(name) not in repaired
    }


def report(found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the text report; the last one is the verdict."""
    yield ", ".join(f"{name} {version or 'not installed'}" for name, version in found["versions"].items())
    if found["host"] is not None:
        yield f"RoboRefer: {found['host']} (from {found['origin']})"
        if found["commit"] is None:
            yield f"commit: unknown (no git checkout); made for {found['pinned']}"
        elif found["commit"] != found["pinned"]:
            yield f"commit: {found['commit']}; made for {found['pinned']}: results may differ"
        else:
            yield f"commit: {found['commit']}, the pinned one"
        if found["defects"]:
            count = len(found["defects"])
            yield f"defects: {count}; the launcher repairs them in memory (--x3-without NAME leaves one out)"
        else:
            yield "defects: none; the launcher changes nothing"
    for defect in found["defects"]:
        yield f"  {defect['name']} ({defect['where']})"
        yield f"    is:   {defect['defect']}"
        yield f"    done: {defect['remedy']}"
    for problem in found["problems"]:
        yield f"problem: {problem}"
    if found["ok"]:
        yield "ready: RoboRefer's training can start"
    else:
        count = len(found["problems"])
        yield f"not ready: {count} problem{'s' if count > 1 else ''}"


def run(args: argparse.Namespace) -> int:
    """Print the report; return 0 if training can start."""
    found = examine(args.host)
    print(json.dumps(found, indent=2) if args.json else "\n".join(report(found)))
    return terminal.DONE if found["ok"] else terminal.FAILED
