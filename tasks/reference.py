"""Reference pages of the documentation, made from the code while MkDocs builds: commands from the parsers, Python from
the public names of each package. A hook of mkdocs.yml, not a command."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PACKAGES = [path.parent.name for path in sorted(ROOT.glob("packages/*/pyproject.toml"))]


def on_files(files: Files, config: Any) -> Files:
    """Add each package's pages of commands and of Python names."""
    os.environ["COLUMNS"] = "80"  # of help texts
    for name in PACKAGES:
        module = name.replace("-", "_")
        parser = importlib.import_module(f"{module}.cli").build_parser()
        files.append(File.generated(config, f"{name}/commands.md", content="\n".join(command_page(name, parser))))
        public = importlib.import_module(module).__all__
        files.append(File.generated(config, f"{name}/api.md", content="\n".join(api_page(name, module, public))))
    return files


def command_page(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the lines of a page with the help of every command."""
    yield f"# Commands of {name}\n"
    yield f"Made from the parser of `{name}`; `{name} COMMAND --help` prints the same. {parser.description or ''}\n"
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        seen: set[int] = set()
        for command, sub in action.choices.items():
            if id(sub) in seen:  # an alias
                continue
            seen.add(id(sub))
            yield f"## {command}\n\n```text\n{help_text(parser, command)}\n```\n"


def help_text(parser: argparse.ArgumentParser, command: str) -> str:
    """Return what `COMMAND --help` prints; commands may add their options only when they are used."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        parser.parse_args([command, "--help"])
    return printed.getvalue().rstrip()


def api_page(name: str, module: str, public: list[str]) -> Iterator[str]:
    """Yield the lines of a page with the docstring of every public name."""
    yield f"# Python interface of {name}\n"
    yield f"`import {module}` gives these names; they stay when files move.\n"
    for item in public:
        if not item.startswith("__"):
            yield f"::: {module}.{item}\n"
