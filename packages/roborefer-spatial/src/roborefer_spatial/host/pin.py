"""What this package says about RoboRefer in its pyproject: the commit, and versions of libraries."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import roborefer_spatial

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = "roborefer-spatial"


@dataclass(frozen=True)
class Pin:
    """The host that this package was tested with.

    Attributes
    ----------
    name, repository, commit : str
        Name, GitHub `owner/name` and full commit hash.
    root_env : str
        Environment variable that holds the path of the user's checkout.
    """

    name: str
    repository: str
    commit: str
    root_env: str

    @property
    def clone_hint(self) -> str:
        """The shell command that makes a checkout at the pin."""
        folder = self.repository.split("/")[1]
        return (
            f"git clone https://github.com/{self.repository} && git -C {folder} checkout {self.commit} "
            f"&& export {self.root_env}=$PWD/{folder}"
        )


@cache
def load_pin() -> Pin:
    """Read `[tool.roborefer-spatial.host]` of pyproject.toml."""
    table = _pyproject()["tool"][PROJECT]["host"]
    return Pin(table["name"], table["repository"], table["commit"], table["root-env"])


@cache
def host_requirements() -> tuple[str, ...]:
    """Return the extra `host`: libraries with the ranges that RoboRefer runs with, such as `x>=1.2,<3`."""
    return tuple(_pyproject()["project"]["optional-dependencies"]["host"])


def _pyproject() -> dict[str, Any]:
    """Read pyproject.toml, which the wheel carries along."""
    package = Path(roborefer_spatial.__file__).resolve().parent
    shipped = package / "pyproject.toml"
    # a wheel has it beside the code; an editable install or a source tree has it two folders above
    path = shipped if shipped.exists() else package.parents[1] / "pyproject.toml"
    assert path.exists(), f"{PROJECT} is damaged: no pyproject.toml at {shipped}; install it again"
    return tomllib.loads(path.read_text(encoding="utf-8"))
