"""The package's own settings, the host's pin among them, and where the user's copy of the host is."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE = "influencer-mmdet3d"
HOST_FILES = ("tools/train.py", "tools/test.py", "oneformer3d/__init__.py")


@dataclass(frozen=True)
class HostPin:
    """The host that this package was tested with.

    Attributes
    ----------
    name, repository, commit : str
        Name, GitHub `owner/name` and full commit hash.
    root_env : str
        Environment variable that holds the absolute path of the user's checkout.
    """

    name: str
    repository: str
    commit: str
    root_env: str

    @property
    def how_to_get(self) -> str:
        """The shell command that makes a checkout at the pin."""
        folder = self.repository.split("/")[1]
        return (
            f"git clone https://github.com/{self.repository} && git -C {folder} checkout {self.commit} && "
            f"export {self.root_env}=$PWD/{folder}"
        )


@functools.cache
def settings() -> dict[str, Any]:
    """Return the package's table of its pyproject, which the wheel carries along."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "pyproject.toml"
    # a wheel has it in the package; an editable install or a source tree has it two folders above
    path = shipped if shipped.exists() else package.parents[1] / "pyproject.toml"
    assert path.exists(), f"{PACKAGE} is damaged: no pyproject.toml at {shipped}; install it again"
    table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))["tool"][PACKAGE]
    return table


def load_pin() -> HostPin:
    """Return the host's pin."""
    table = settings()["host"]
    return HostPin(table["name"], table["repository"], table["commit"], table["root-env"])


def host_root(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the user's checkout of the host.

    Raises
    ------
    ValueError
        If the variable is unset, or does not name a checkout of the host.
    """
    pin = load_pin()
    value = environ.get(pin.root_env)
    if not value:
        raise ValueError(f"{pin.root_env} is not set: it must name your checkout of {pin.name}. {pin.how_to_get}")
    root = Path(value).expanduser().resolve()
    if not root.is_dir():
        raise ValueError(f"{pin.root_env}={value} is not a folder. Correct it, or: {pin.how_to_get}")
    absent = [name for name in HOST_FILES if not (root / name).is_file()]
    if absent:
        raise ValueError(
            f"{pin.root_env}={value} is not a checkout of {pin.name}: it has no {', '.join(absent)}. "
            f"Correct it, or: {pin.how_to_get}"
        )
    return root
