"""Third-party packages that importing the host needs: read from its source, module by module."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator

from roborefer_spatial.host.locate import Host
from roborefer_spatial.host.repairs.inspection import MIXTURE, installed
from roborefer_spatial.host.repairs.on_import import renamed_source

TRAIN = "llava.train.train_mem"

PIP_NAMES = {
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "yaml": "PyYAML",
    "hydra": "hydra-core",
    "flash_attn": "flash-attn",
    "deepspeed": "deepspeed==0.15.4 (with --no-build-isolation)",
}
"""Import name -> what pip installs, where they differ."""


def needed_packages(host: Host, entry: str = TRAIN) -> dict[str, str]:
    """Return the third-party packages that importing a module of the host needs.

    Followed are imports that always run: at module level, and not under `if` or `try`.

    Returns
    -------
    dict
        Import name -> the host file that first imports it, in the order found.
    """
    needed: dict[str, str] = {}
    seen, queue = set(), [entry]
    while queue:
        module = queue.pop(0)
        relative = _file(host, module)
        if relative is None or relative in seen:
            continue
        seen.add(relative)
        for name in _imported(host, relative, module):
            top = name.split(".")[0]
            if top != "llava":
                needed.setdefault(top, relative)
                continue
            parts = name.split(".")
            queue += [".".join(parts[: end + 1]) for end in range(len(parts))]
    return {name: file for name, file in needed.items() if name not in sys.stdlib_module_names}


def missing_packages(host: Host, entry: str = TRAIN) -> dict[str, str]:
    """Return those of `needed_packages` that this Python does not have."""
    return {name: file for name, file in needed_packages(host, entry).items() if not installed(name)}


def _file(host: Host, module: str) -> str | None:
    path = module.replace(".", "/")
    for relative in (f"{path}.py", f"{path}/__init__.py"):
        if host.file(relative).is_file():
            return relative
    return None


def _imported(host: Host, relative: str, module: str) -> Iterator[str]:
    source = host.source(relative)
    tree = ast.parse(renamed_source(source) if relative == MIXTURE else source)
    package = module if relative.endswith("__init__.py") else module.rpartition(".")[0]
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            yield base
            if base.startswith("llava"):
                yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")
