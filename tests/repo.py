"""What the repository consists of, read from its pyproject files."""

from __future__ import annotations

from pathlib import Path

import tomllib

ROOT = Path(__file__).parents[1]


class Package:
    """One installable package."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, folder.name
        self.module = folder.name.replace("-", "_")
        self.source = folder / "src" / self.module
        meta = tomllib.loads((folder / "pyproject.toml").read_text())
        self.settings, self.version = meta["tool"][self.name], meta["project"]["version"]

    def __repr__(self) -> str:
        return self.name


PACKAGES = [Package(path.parent) for path in sorted(ROOT.glob("packages/*/pyproject.toml"))]
