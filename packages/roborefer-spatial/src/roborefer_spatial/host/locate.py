"""Where the user's RoboRefer is, and which commit; nothing of the host is imported here."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from roborefer_spatial.host.pin import load_pin

_DATASET_FILE = Path("llava/data/dataset.py")
_DATASET_CLASS = "class LazySupervisedSpatialDataset"


@dataclass(frozen=True)
class Host:
    """A RoboRefer checkout.

    Attributes
    ----------
    root : Path
        Folder that holds the package `llava`.
    origin : str
        How it was found: the environment variable, or the Python path.
    """

    root: Path
    origin: str

    def file(self, relative: str) -> Path:
        """Return a file of the host by its path inside the checkout."""
        return self.root / relative

    def source(self, relative: str) -> str:
        """Return the text of a host file; FileNotFoundError names the checkout."""
        path = self.file(relative)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: {self.root} ({self.origin}) is not a whole RoboRefer checkout")
        return path.read_text(encoding="utf-8")

    def commit(self) -> str | None:
        """Return the checkout's commit, or None where git cannot say."""
        git = ["git", "-C", str(self.root), "rev-parse", "HEAD"]
        try:
            answer = subprocess.run(git, capture_output=True, text=True, check=False, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.stdout.strip() or None


def find_host(root: str | os.PathLike[str] | None = None) -> Host:
    """Find RoboRefer: the given folder, else `ROBOREFER_ROOT`, else an installed `llava`.

    Raises
    ------
    ValueError
        If none is found, or what is found is another project's `llava`.
    """
    if root is not None:
        return _checked(Host(Path(root).resolve(), "given folder"))
    pin = load_pin()
    if value := os.environ.get(pin.root_env):
        return _checked(Host(Path(value).resolve(), pin.root_env))
    spec = importlib.util.find_spec("llava")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"RoboRefer is not here: {pin.root_env} is not set and no package llava is installed; {pin.clone_hint}"
        )
    return _checked(Host(Path(next(iter(spec.submodule_search_locations))).resolve().parent, "Python path"))


def _checked(host: Host) -> Host:
    pin, path = load_pin(), host.file(str(_DATASET_FILE))
    if not path.is_file():
        raise ValueError(
            f"{host.root} ({host.origin}) holds no {_DATASET_FILE}: not a RoboRefer checkout; {pin.clone_hint}"
        )
    if _DATASET_CLASS not in path.read_text(encoding="utf-8"):
        raise ValueError(
            f"{host.root} ({host.origin}) is another project's llava ({_DATASET_FILE} has no "
            f"LazySupervisedSpatialDataset): point {pin.root_env} at RoboRefer; {pin.clone_hint}"
        )
    return host


def put_on_path(host: Host) -> None:
    """Make `import llava` mean this checkout, in this process.

    Raises
    ------
    ValueError
        If another `llava` has been imported already.
    """
    loaded = sys.modules.get("llava")
    if loaded is not None and getattr(loaded, "__file__", None):
        found = Path(str(loaded.__file__)).resolve().parent.parent
        if found != host.root:
            raise ValueError(f"llava is already imported from {found}, wanted {host.root}: start a fresh process")
        return
    if str(host.root) not in sys.path:
        sys.path.insert(0, str(host.root))
