"""Checkpoints of the host: read without running code, and check and repair the layout of sparse-conv weights.

mmdet3d permutes the kernels of spconv layers when it loads them, unless the checkpoint's metadata gives the layer
version 2. Whether the result fits depends on both, and mmengine only warns when it does not: the backbone then
silently stays at random weights. That is the case for a checkpoint which new versions wrote and the host's
`tools/fix_spconv_checkpoint.py` then permuted, as the host's README tells to do.

Layouts of a kernel, k in each spatial direction: (O, k, k, k, I) is spconv 2's own, (k, k, k, I, O) the permuted one.
"""

from __future__ import annotations

import argparse
import io
import pickle
import types
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from influencer_mmdet3d.files import foreign_content, write_whole
from influencer_mmdet3d.host.layouts import foreign_layout, to_mmengine
from influencer_mmdet3d.terminal import DONE

OWN_VERSION = 2  # what mmdet3d sets on spconv's layers
BACKBONE = ("unet.", "input_conv.")
_STATISTICS = ("min", "max", "current", "mean")
_ALLOWED = {
    "collections": {"OrderedDict", "defaultdict", "deque"},
    "builtins": {"set", "frozenset", "slice", "complex", "bytearray", "dict", "list", "int", "float"},
    "_codecs": {"encode"},
    "torch": {"Size", "device", "Tensor"},
    "torch._utils": {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"},
    "torch.nn.parameter": {"Parameter"},
    "torch.storage": {"TypedStorage", "UntypedStorage"},
    "numpy": {"ndarray", "dtype"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "mmengine.logging.history_buffer": {"HistoryBuffer"},
    "mmengine.config.config": {"ConfigDict"},  # label2cat in the metainfo of a ScanNet dataset
}


class _Forbidden(pickle.UnpicklingError):
    """The file asks for something that is not needed for weights."""


def _statistic(holder: Any, name: Any) -> Any:
    """Stand for `getattr`, which mmengine's log buffers need for their own four methods."""
    if holder is not HistoryBuffer or name not in _STATISTICS:
        raise _Forbidden(f"getattr({holder!r}, {name!r})")
    return getattr(HistoryBuffer, name)


def _is_plain_state(dtype: np.dtype[Any], state: Any) -> bool:
    """Tell whether a state is that of a number's type, apart from the order of its bytes."""
    usual = (3, "<", None, None, None, -1, -1, 0)
    plain = isinstance(state, tuple) and len(state) == len(usual) and dtype.kind in "biufc"
    return plain and state[1] in ("<", ">", "|", "=") and (state[0], *state[2:]) == (usual[0], *usual[2:])


_InPython: Any = pickle._Unpickler
"""The unpickler that is written in Python, which can be told what not to build."""


class _Unpickler(_InPython):
    dispatch = dict(_InPython.dispatch)

    def load_build(self) -> None:
        """Give an object its state, but numpy's types only a plain one: numpy crashes on others."""
        state, made = self.stack[-1], self.stack[-2]
        if isinstance(made, np.dtype) and not _is_plain_state(made, state):
            raise pickle.UnpicklingError(f"{made!r} with the state {state!r}")
        super().load_build()

    dispatch[pickle.BUILD[0]] = load_build

    def find_class(self, module: str, name: str) -> Any:
        module = "builtins" if module == "__builtin__" else module  # protocol 2 writes Python 2's name
        if (module, name) == ("builtins", "getattr"):
            return _statistic
        if name in _ALLOWED.get(module, ()):
            return super().find_class(module, name)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        raise _Forbidden(f"{module}.{name}")


_pickle = types.ModuleType("influencer_mmdet3d.host.checkpoint.pickle")
_pickle.__dict__.update(Unpickler=_Unpickler, load=lambda file, **kwargs: _Unpickler(file, **kwargs).load())


def read_checkpoint(path: Path, *, trust: bool = False) -> dict[str, Any]:
    """Load a checkpoint onto the CPU, allowing only tensors, numpy arrays, and mmengine's log buffers and config dicts.

    Parameters
    ----------
    path : Path
        File written by `torch.save`.
    trust : bool
        Allow anything that a pickle can do, which is to run any code.

    Raises
    ------
    ValueError
        If the file is absent, cut short, no checkpoint at all (a web page, a Git-LFS pointer), holds something else
        than a dict, or asks for more than is allowed.
    """
    if not path.is_file():
        raise ValueError(f"checkpoint {path} does not exist")
    module = pickle if trust else _pickle
    try:
        checkpoint = torch.load(path, map_location="cpu", pickle_module=module, weights_only=False)
    except _Forbidden as error:
        raise ValueError(
            f"checkpoint {path} asks for {error}, which is not needed for weights and could run "
            "code. If you know where it comes from, add --trust-checkpoint"
        ) from error
    except OSError as error:
        raise ValueError(f"checkpoint {path} cannot be read: {error}") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(f"checkpoint {path} {_why_unreadable(path)} ({type(error).__name__}: {error})") from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f"checkpoint {path} holds a {type(checkpoint).__name__}, expected a dict")
    state = checkpoint.get("state_dict", checkpoint)
    metadata = getattr(state, "_metadata", {})
    whole = isinstance(state, Mapping) and isinstance(metadata, Mapping)
    if not whole or not all(isinstance(value, Mapping) for value in metadata.values()):
        raise ValueError(
            f"checkpoint {path}: its state_dict is no dict of weights with torch's metadata; it is damaged"
        )
    return checkpoint


def _why_unreadable(path: Path) -> str:
    """Say what a file is that torch cannot load."""
    foreign = foreign_content(path)
    if foreign is not None:
        return f"is {foreign}"
    if path.stat().st_size == 0:
        return "is empty: its writing or its download was cut short"
    with path.open("rb") as file:
        head = file.read(4)
    if head[:2] in (b"PK", b"\x80\x02"):  # what torch.save has written first, now and before torch 1.6
        return "cannot be read, its writing or its download may have been cut short"
    return "is no checkpoint: expected a file that torch.save wrote"


def kernels_fit(checkpoint: Mapping[str, Any], path: Path) -> bool:
    """Tell whether the sparse-conv kernels have their right shapes after mmdet3d has loaded them.

    Parameters
    ----------
    checkpoint : mapping
        As read; the weights are its `state_dict`, or itself.
    path : Path
        For messages.

    Returns
    -------
    bool
        True also when there are no such kernels.

    Raises
    ------
    ValueError
        If some kernels would fit and others would not.
    """
    state = checkpoint.get("state_dict", checkpoint)
    try:
        layouts = {key: _is_own_layout(weight) for key, weight in _kernels(state).items()}
    except ValueError as error:
        raise ValueError(f"checkpoint {path}: {error}") from error
    fits = {key: own == (_version(state, key) == OWN_VERSION) for key, own in layouts.items() if own is not None}
    if len(set(fits.values())) == 2:
        good, bad = (next(key for key, fit in fits.items() if fit is wanted) for wanted in (True, False))
        raise ValueError(f"checkpoint {path}: kernels in different layouts, e.g. {good} and {bad}; it is damaged")
    return all(fits.values())


def repair(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checkpoint with all kernels in spconv's own layout and marked as such."""
    source = checkpoint.get("state_dict", checkpoint)
    state: Any = OrderedDict(source)
    state._metadata = {key: dict(value) for key, value in getattr(source, "_metadata", {}).items()}
    kernels = _kernels(state)
    # ambiguous kernels (all four first sides equal) follow the others
    own = next((own for own in map(_is_own_layout, kernels.values()) if own is not None), True)
    for key, weight in kernels.items():
        if not own:
            state[key] = weight.permute(4, 0, 1, 2, 3).contiguous()
        state._metadata.setdefault(_module(key), {})["version"] = OWN_VERSION
    return {**checkpoint, "state_dict": state} if "state_dict" in checkpoint else {"state_dict": state}


def loaded_shapes(checkpoint: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight as mmdet3d loads it: without `module.`, spconv's kernels in its own layout."""
    state = checkpoint.get("state_dict", checkpoint)
    kernels = _kernels(state)
    shapes = {}
    for key, value in state.items():
        if isinstance(value, torch.Tensor):
            permuted = key in kernels and _version(state, key) != OWN_VERSION
            shapes[key.removeprefix("module.")] = tuple((value.permute(4, 0, 1, 2, 3) if permuted else value).shape)
    return shapes


def save(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a whole file or none."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    write_whole(path, buffer.getvalue())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fix-checkpoint`."""
    parser.add_argument("source", type=Path, help="checkpoint to repair, or one of another trainer")
    parser.add_argument("target", type=Path, help="file to write")
    parser.add_argument("--key", help="key of the weights in the file, where it holds several sets")
    parser.add_argument("--trust-checkpoint", action="store_true", help="load it even if it can run code")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write a checkpoint whose kernels fit."""
    if args.target.exists():
        raise ValueError(f"{args.target} exists already; choose another file")
    checkpoint = read_checkpoint(args.source, trust=args.trust_checkpoint)
    done: list[str] = []
    if args.key is not None or foreign_layout(checkpoint) is not None:
        try:
            checkpoint, done = to_mmengine(checkpoint, args.key)
        except ValueError as error:
            raise ValueError(f"checkpoint {args.source}: {error}") from error
    if not kernels_fit(checkpoint, args.source):
        checkpoint = repair(checkpoint)
        done.append(f"{len(_kernels(checkpoint['state_dict']))} kernels in spconv's own layout")
    if not done:
        raise ValueError(f"the kernels in {args.source} fit as they are, nothing to repair: use it itself")
    save(checkpoint, args.target)
    print(f"wrote {args.target}: {'; '.join(done)}")
    return DONE


def _kernels(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {
        key: value
        for key, value in state.items()
        if isinstance(value, torch.Tensor)
        and isinstance(key, str)
        and value.ndim == 5
        and key.removeprefix("module.").startswith(BACKBONE)
        and key.endswith(".weight")
    }


def _is_own_layout(weight: torch.Tensor) -> bool | None:
    """True for (O, k, k, k, I), False for (k, k, k, I, O), None if the shape allows both."""
    a, b, c, d = weight.shape[:4]
    own, permuted = b == c == d, a == b == c
    if own and permuted:
        return None
    if not own and not permuted:
        raise ValueError(f"sparse-conv kernel of shape {tuple(weight.shape)} is neither (O, k, k, k, I) nor permuted")
    return own


def _version(state: Mapping[str, Any], key: str) -> int | None:
    return getattr(state, "_metadata", {}).get(_module(key), {}).get("version")


def _module(key: str) -> str:
    return key.rsplit(".", 1)[0]
