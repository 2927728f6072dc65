"""Which implementation serves a call, and why."""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

IMPLEMENTATIONS = ("auto", "plain", "triton")
# One tile holds all instances of a scene.
MAX_INSTANCES = 255
_OLDEST_TRITON = (3, 4)
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_log = logging.getLogger(__name__)


def check_impl(impl: str) -> None:
    """Raise ValueError unless `impl` names an implementation."""
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f"impl must be one of {IMPLEMENTATIONS}, got {impl!r}")


def use_triton(
    impl: str, heads: Sequence[Sequence[Tensor]], instances: int, say: Callable[[str], object] = _log.info
) -> bool:
    """Decide between the fused kernels and the plain path.

    Parameters
    ----------
    impl : {'auto', 'plain', 'triton'}
        'auto' takes the kernels where they can run and agree with plain torch, which it tries once for a GPU and
        versions (`influencer_mmdet3d.loss.kernels.trial`); it says its choice and the reason once.
    heads : sequence of sequence of Tensor
        The tensors that the kernels would read, one list for each head; those of one head must be of one type.
    instances : int
        Largest number of instances of a scene.
    say : callable
        Takes what 'auto' has to say.

    Raises
    ------
    ValueError
        If `impl` is 'triton' and the kernels cannot run; the message says why and what to do.
    """
    if impl == "plain":
        return False
    device = heads[0][0].device
    obstacle = _machine_obstacle(device, impl == "triton") or _input_obstacle(heads, instances)
    if impl == "auto" and not obstacle:
        obstacle = _doubt(device, say)
    if impl == "triton" and obstacle:
        raise ValueError(f"impl='triton' is not possible here: {obstacle}. Use impl='auto' or impl='plain'")
    if impl == "auto":
        _say_once(
            f"impl='auto' takes 'plain': {obstacle}" if obstacle else f"impl='auto' takes 'triton' on {device}", say
        )
    return not obstacle


@functools.cache
def _say_once(message: str, say: Callable[[str], object] = _log.info) -> None:
    say(message)


@functools.cache
def interpreted() -> bool:
    """Whether Triton runs its kernels in its interpreter (TRITON_INTERPRET=1 before it was imported)."""
    import triton

    from influencer_mmdet3d.loss.kernels import ops

    return not isinstance(ops.reciprocal, triton.JITFunction)


def on_device(device: torch.device) -> AbstractContextManager[Any]:
    """Return the context in which Triton launches on this device; it takes the current one."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@functools.cache
def _machine_obstacle(device: torch.device, interpreter: bool) -> str | None:
    """Say what about this machine rules the kernels out; the interpreter, for tests, must be asked for."""
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    import triton

    if tuple(int(part) for part in triton.__version__.split(".")[:2]) < _OLDEST_TRITON:
        return f"triton {triton.__version__} is older than {'.'.join(map(str, _OLDEST_TRITON))}"
    if device.type == "cpu" and interpreter and interpreted():
        return None
    if device.type != "cuda" or torch.version.cuda is None:
        return f"the tensors are on {device.type}, the kernels need an NVIDIA GPU"
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        return f"{torch.cuda.get_device_name(device)} has compute capability {major}.{minor}, the kernels need 8.0"
    return None


_trusted: dict[torch.device, str | None] = {}
"""Devices whose kernels have been tried in this process, and what speaks against them."""


def _doubt(device: torch.device, say: Callable[[str], object]) -> str | None:
    """Say why 'auto' leaves kernels alone that could run."""
    if device in _trusted:
        return _trusted[device]
    from influencer_mmdet3d.loss.kernels import trial

    found = trial.recall(device)
    if found is None:
        if torch.cuda.is_current_stream_capturing():
            return "the kernels have not been tried on this GPU, and a captured graph cannot: take a step before"
        name = torch.cuda.get_device_name(device)
        _say_once(f"impl='auto' tries the kernels against plain torch on {name}, once: about a minute", say)
        found = trial.verdict(device)
    advice = "`influencer-mmdet3d doctor` tries again, impl='triton' takes them all the same"
    _trusted[device] = None if found.passed else f"on this GPU the kernels {found.reason}; {advice}"
    return _trusted[device]


def _input_obstacle(heads: Sequence[Sequence[Tensor]], instances: int) -> str | None:
    """Say what about these tensors rules the kernels out."""
    for head in heads:
        dtypes = {value.dtype for value in head}
        if len(dtypes) > 1 or not dtypes <= set(_DTYPES):
            return f"a head is of type {sorted(map(str, dtypes))}, the kernels read one of {list(map(str, _DTYPES))}"
    if instances > MAX_INSTANCES:
        return f"a scene has {instances} instances, the kernels hold {MAX_INSTANCES}"
    return None
