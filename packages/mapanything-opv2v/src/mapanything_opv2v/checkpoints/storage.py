"""Checkpoints on disk: whole or not at all, and read without running their code."""

from __future__ import annotations

import importlib.util
import os
import pickle
import pickletools
import typing
import zipfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mapanything_opv2v.checkpoints.signals import held
from mapanything_opv2v.files import remove_leftovers, whole_file

MAX_NAME = 1000
"""Longest name of a class, for words to refuse one take torch a time that grows with its square."""

PATTERN = "checkpoint-*.pth"
"""Names of MapAnything's checkpoints in a run's folder."""

# omegaconf's classes in the `args` of checkpoints that MapAnything's own script wrote. Loading them runs no code
# but theirs, which copies attributes.
_OMEGACONF = (
    ("omegaconf.dictconfig", "DictConfig"),
    ("omegaconf.listconfig", "ListConfig"),
    ("omegaconf.base", "ContainerMetadata"),
    ("omegaconf.base", "Metadata"),
    ("omegaconf.nodes", "AnyNode"),
)


def write(path: Path, value: Any) -> None:
    """Save `value` with torch, whole or not at all: a kill at any moment leaves what was at `path` before.

    Signals that the program handles (Ctrl-C, the end of a job's time) wait until it is written.
    """
    with held(), whole_file(path) as stream:
        torch.save(value, stream)
    folder = os.open(path.parent, os.O_RDONLY)  # so that the new name outlives a power cut
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def clean(folder: Path) -> list[str]:
    """Remove what killed runs left half written; return the names."""
    return remove_leftovers(folder, PATTERN)


def load(path: str | Path, **options: Any) -> Any:
    """Load a checkpoint from an untrusted source: tensors and plain values only, no code.

    Parameters
    ----------
    path : str or Path
        The file.
    **options
        Of `torch.load`, such as `map_location` and `mmap`.

    Raises
    ------
    ValueError
        If the file is damaged, or asks for anything else than tensors and plain values.
    """
    return load_with(torch.load, path, **options)


def load_with(torch_load: Callable[..., Any], path: Any, *arguments: Any, **options: Any) -> Any:
    """Do what `load` does by the given `torch.load`, with its own arguments."""
    if isinstance(path, str | Path) and (length := _longest_name(Path(path))) > MAX_NAME:
        raise ValueError(f"{path}: not loaded, it asks for a class whose name has {length} characters; it is damaged")
    with _allowed():
        try:
            return torch_load(path, *arguments, **{**options, "weights_only": True})
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"{path}: not loaded, because it asks for more than tensors and plain values, or is no checkpoint: "
                f"{str(error).splitlines()[0]}. Loading it could run code; if you trust its source, a training takes "
                "it with --without safe_loading"
            ) from error
        except FileNotFoundError:
            raise
        except Exception as error:  # a damaged file can raise nearly anything
            reason = str(error).partition("\n")[0] or (
                "the file is empty" if isinstance(error, EOFError) else repr(error)
            )
            raise ValueError(f"{path}: cannot be read, it may be damaged: {reason}") from error


def _longest_name(path: Path) -> int:
    """Return the length of the longest class name that a checkpoint asks for, as far as it can be read."""
    longest = 0
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            for operation, argument, _ in pickletools.genops(archive.read(name)):
                if operation.name == "GLOBAL":
                    longest = max(longest, len(str(argument)))
    except Exception:  # what is damaged, or of torch's old format, is torch's to refuse
        return longest
    return longest


def _no_default(factory: object = None) -> dict[Any, Any]:
    """Stand in for the defaultdict in which omegaconf remembers what resolvers gave: torch fills plain dicts only."""
    return {}


@contextmanager
def _allowed() -> Iterator[None]:
    """Allow numpy's float scalars (MapAnything's `best_so_far`), omegaconf's containers and Namespace (`args`)."""
    names: list[Any] = [Namespace, dict, list, int, float, str, bool, typing.Any, np.dtype]
    names.append((_no_default, "collections.defaultdict"))
    names += [type(np.dtype(kind)) for kind in (np.float32, np.float64)]
    scalar = np.float64(0).__reduce__()[0]
    names += [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    if importlib.util.find_spec("omegaconf") is not None:
        names += [getattr(importlib.import_module(module), name) for module, name in _OMEGACONF]
    with torch.serialization.safe_globals(names):
        yield
