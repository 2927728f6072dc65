"""Memory for large results on the CPU."""

from __future__ import annotations

import contextlib
import math
import mmap

import torch
from torch import Tensor

_HUGE = 1 << 21  # bytes of a huge page on x86-64 and, with pages of 4 KiB, on Arm


def empty_large_like(x: Tensor) -> Tensor:
    """Return an uninitialised contiguous tensor of x's shape, type and device; on a CPU with Linux, of huge pages.

    The C library gives large blocks back to the kernel as soon as they are free, so that a gradient written in every
    step costs a page fault for every 4 KiB: more time than computing it. Transparent huge pages, where the kernel
    offers them, make that one for every 2 MiB.
    """
    size = x.numel() * x.element_size()
    if x.device.type != "cpu" or size < _HUGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(x.shape, dtype=x.dtype, device=x.device)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=x.dtype, count=math.prod(x.shape)).view(x.shape)
