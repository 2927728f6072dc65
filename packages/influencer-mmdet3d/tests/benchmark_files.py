"""Import files of benchmarks/, which is no installed package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).parents[1] / "benchmarks"


def load(name: str, path: Path | None = None, **options: Any) -> ModuleType:
    """Import a file of the benchmarks under its own name; it stays importable by that name."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path or FOLDER / f"{name}.py", **options)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]
