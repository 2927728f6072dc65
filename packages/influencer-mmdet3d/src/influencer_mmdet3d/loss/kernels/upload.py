"""A short list of integers on the device, without waiting for it."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor


def upload(values: Sequence[int], device: torch.device) -> Tensor:
    """Return the integers as an int64 tensor on `device`.

    The copy is asynchronous, from page-locked memory. While a CUDA graph is captured the values travel as arguments
    of kernels instead: a graph keeps those, and would read page-locked memory again at every replay.
    """
    if device.type == "cpu":
        return _filled(values, pinned=False)
    if torch.cuda.is_current_stream_capturing():
        return _as_arguments(values, device)
    _load(device)
    return _filled(values, pinned=True).to(device, non_blocking=True)


def _filled(values: Sequence[int], *, pinned: bool) -> Tensor:
    out = torch.empty(len(values), dtype=torch.int64, pin_memory=pinned)
    out.numpy()[:] = values  # several times faster than torch.tensor(values)
    return out


def _as_arguments(values: Sequence[int], device: torch.device) -> Tensor:
    from influencer_mmdet3d.loss.kernels.words import write_words  # needs Triton, and the criterion imports this module

    return write_words(values, device)


@functools.cache
def _load(device: torch.device) -> None:
    """Compile and load the kernel that `_as_arguments` launches, once: a capture does not allow that."""
    _as_arguments([0], device)
