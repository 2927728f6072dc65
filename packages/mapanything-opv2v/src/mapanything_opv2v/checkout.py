"""What runs here: the commit of a folder of source code, the versions of packages."""

from __future__ import annotations

import importlib.metadata
import subprocess
from collections.abc import Sequence
from pathlib import Path

UNKNOWN = "unknown (not a git checkout)"

PACKAGES = (
    "torch",
    "torchvision",
    "uniception",
    "hydra-core",
    "omegaconf",
    "numpy",
    "numba",
    "opencv-python-headless",
    "opencv-python",
    "Pillow",
    "PyYAML",
)
"""Packages whose versions may change a result: `doctor` prints them, a run's provenance keeps them."""


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit_of(folder: Path) -> str:
    """Return the commit that a folder is at, or `UNKNOWN`, also for an untracked copy within another repository."""
    tracked = _git(folder, "rev-parse", "--quiet", "--verify", "HEAD:./")
    return _git(folder, "rev-parse", "HEAD") if tracked else UNKNOWN


def describe(folder: Path) -> str:
    """Return the commit, followed by `+changes` where tracked files differ from it."""
    commit = commit_of(folder)
    changed = commit != UNKNOWN and _git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}+changes" if changed else commit


def is_below(path: Path, folder: Path) -> bool:
    """Tell whether a file lies in a folder, links followed."""
    return path.resolve().is_relative_to(folder.resolve())


def _git(folder: Path, *arguments: str) -> str:
    """Return what git prints; empty where git, the folder or the repository is missing."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
