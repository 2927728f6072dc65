"""Integers that reach the device as arguments of a kernel."""

# mypy: disallow-untyped-defs=False
# Arguments of kernels are what Triton makes of them; the functions that launch kernels are typed.
from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

_WORDS = 16
_NAMES = tuple(f"w{i}" for i in range(_WORDS))


@triton.jit(do_not_specialize=_NAMES)
def _write(out_ptr, w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15):
    tl.store(out_ptr + 0, w0)
    tl.store(out_ptr + 1, w1)
    tl.store(out_ptr + 2, w2)
    tl.store(out_ptr + 3, w3)
    tl.store(out_ptr + 4, w4)
    tl.store(out_ptr + 5, w5)
    tl.store(out_ptr + 6, w6)
    tl.store(out_ptr + 7, w7)
    tl.store(out_ptr + 8, w8)
    tl.store(out_ptr + 9, w9)
    tl.store(out_ptr + 10, w10)
    tl.store(out_ptr + 11, w11)
    tl.store(out_ptr + 12, w12)
    tl.store(out_ptr + 13, w13)
    tl.store(out_ptr + 14, w14)
    tl.store(out_ptr + 15, w15)


def write_words(values: Sequence[int], device: torch.device) -> Tensor:
    """Return the integers as an int64 tensor on `device`, by kernel launches alone."""
    # 32-bit halves, so that every argument is of one type and the kernel is compiled once
    halves = torch.tensor(values, dtype=torch.int64).view(torch.int32).tolist()
    halves += [0] * (-len(halves) % _WORDS)
    out = torch.empty(len(halves), dtype=torch.int32, device=device)
    for start in range(0, len(halves), _WORDS):
        _write[(1,)](out[start:], *halves[start : start + _WORDS])
    return out.view(torch.int64)[: len(values)]
