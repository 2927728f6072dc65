"""Repairs made before `llava` is imported: files that cannot be compiled, packages that are not there."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from roborefer_spatial import torchvision_cpu
from roborefer_spatial.host.locate import Host
from roborefer_spatial.host.options import LaunchOptions
from roborefer_spatial.host.repairs.inspection import MIXTURE

MIXTURE_MODULE = "llava.data.datasets_mixture"
INTERN_MODULE = "llava.model.multimodal_encoder.intern.flash_attention"

# A word that starts with a digit, where the file has it: left of `= Dataset(`, and alone in
# `add_dataset(...)`.
_ASSIGNED = re.compile(r"^([ \t]*)(\d\w*)(?=[ \t]*=[ \t]*Dataset\()", re.MULTILINE)
_ADDED = re.compile(r"(?<=add_dataset\()([ \t]*)(\d\w*)(?=[ \t]*\))")


def renamed_source(source: str) -> str:
    """Return the mixture file's source with an underscore before names that start with a digit."""
    return _ADDED.sub(r"\1_\2", _ASSIGNED.sub(r"\1_\2", source))


class _Renaming(importlib.machinery.SourceFileLoader):
    """Compiles the file with valid names; neither the file nor a cached bytecode is written."""

    def get_code(self, fullname: str) -> types.CodeType:
        path = self.get_filename(fullname)
        source = renamed_source(self.get_data(path).decode("utf-8"))
        try:
            return compile(source, path, "exec", dont_inherit=True)
        except SyntaxError as error:
            raise ImportError(
                f"{path}, line {error.lineno}: still not valid Python after renaming variables that "
                "start with a "
                f"digit ({error.msg}); correct it by hand, or use the pinned commit"
            ) from error


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module by name with a loader of ours."""

    def __init__(self, name: str, spec: Callable[[], importlib.machinery.ModuleSpec | None]) -> None:
        self.name, self.spec = name, spec

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> Any:
        return self.spec() if fullname == self.name else None


class _StandIn(importlib.abc.Loader):
    """Makes a module from a dictionary."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        vars(module).update(self.content)


def _install(name: str, spec: Callable[[], importlib.machinery.ModuleSpec | None]) -> None:
    if name in sys.modules:
        raise RuntimeError(f"{name} is already imported: the launcher must come first")
    if not any(isinstance(finder, _Finder) and finder.name == name for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder(name, spec))


def _install_stand_in(name: str, content: dict[str, Any]) -> None:
    _install(name, lambda: importlib.util.spec_from_loader(name, _StandIn(content)))


def repair_torchvision(host: Host, options: LaunchOptions) -> None:
    """Let torchvision be imported without its compiled part."""
    torchvision_cpu.make_importable()


def repair_mixture(host: Host, options: LaunchOptions) -> None:
    """Compile `datasets_mixture.py` with valid variable names."""
    path = str(host.file(MIXTURE))
    _install(
        MIXTURE_MODULE,
        lambda: importlib.util.spec_from_file_location(MIXTURE_MODULE, path, loader=_Renaming(MIXTURE_MODULE, path)),
    )


def repair_intern_attention(host: Host, options: LaunchOptions) -> None:
    """Let the InternViT tower's code be imported without flash-attn; building that tower raises."""

    class FlashAttention:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise ImportError("the InternViT tower needs flash-attn: pip install flash-attn --no-build-isolation")

    _install_stand_in(INTERN_MODULE, {"FlashAttention": FlashAttention})


def repair_s2wrapper(host: Host, options: LaunchOptions) -> None:
    """Let the vision towers be imported without s2wrapper; an --s2 tower raises when it runs."""

    def forward(*args: Any, **kwargs: Any) -> NoReturn:
        raise ImportError("--s2 needs s2wrapper: pip install git+https://github.com/bfshi/scaling_on_scales")

    _install_stand_in("s2wrapper", {"forward": forward})
