"""`roborefer-spatial doctor`: versions, where RoboRefer is, its defects, what is done about each."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from roborefer_spatial import __version__
from roborefer_spatial.host import requirements
from roborefer_spatial.host.locate import Host, find_host
from roborefer_spatial.host.pin import load_pin

_PACKAGES = ("torch", "transformers", "accelerate", "deepspeed", "flash-attn")

_EPILOG = """\
example:
  roborefer-spatial doctor
  roborefer-spatial doctor --json | python -m json.tool

Nothing is imported from the host and nothing is changed. exit status: 0 the launcher can start the host's
training,
1 it cannot, and why is said.
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
        `versions`, `host` (or None, with `problem`), `commit`, `pinned`, `missing` (import name -> {file,
        install}), `broken` (import name -> error),
        `defects` (a list of {name, where, defect, remedy}) and `ok`.
    """
    found: dict[str, Any] = {
        "versions": _versions(),
        "host": None,
        "problem": None,
        "missing": {},
        "broken": {},
        "defects": [],
    }
    try:
        host = find_host(root)
        found |= {
            "host": str(host.root),
            "origin": host.origin,
            "commit": host.commit(),
            "pinned": load_pin().commit,
        }
        found |= {"defects": _defects(host)}
        found |= {"missing": _missing(host, {defect["name"] for defect in found["defects"]})}
        found |= {"broken": requirements.broken_packages(host)}
    except (ValueError, FileNotFoundError, SyntaxError) as error:
        found["problem"] = str(error)
    found["ok"] = found["problem"] is None and not found["missing"] and not found["broken"]
    return found


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
    """Yield the lines of the text report."""
    yield ", ".join(f"{name} {version or 'not installed'}" for name, version in found["versions"].items())
    if found["host"] is None:
        yield f"RoboRefer: {found['problem']}"
        return
    yield f"RoboRefer: {found['host']} (from {found['origin']})"
    if found["commit"] is None:
        yield f"commit: unknown (no git checkout); made for {found['pinned']}"
    elif found["commit"] != found["pinned"]:
        yield f"commit: {found['commit']}; made for {found['pinned']}: results may differ"
    else:
        yield f"commit: {found['commit']}, the pinned one"
    if found["problem"] is not None:
        yield f"problem: {found['problem']}"
        return
    for name, package in found["missing"].items():
        yield f"missing: {name}, which {package['file']} imports: pip install {package['install']}"
    for name, error in found["broken"].items():
        yield f"cannot be imported: {name} ({error}): install the release that was built for this torch"
    if not found["defects"]:
        yield "defects: none; the launcher changes nothing"
        return
    count = len(found["defects"])
    yield f"defects: {count}; the launcher repairs them in memory (--x3_without NAME leaves one out)"
    for defect in found["defects"]:
        yield f"  {defect['name']} ({defect['where']})"
        yield f"    is:   {defect['defect']}"
        yield f"    done: {defect['remedy']}"


def run(args: argparse.Namespace) -> int:
    """Print the report; return 0 if training can start."""
    found = examine(args.host)
    print(json.dumps(found, indent=2) if args.json else "\n".join(report(found)))
    return 0 if found["ok"] else 1
