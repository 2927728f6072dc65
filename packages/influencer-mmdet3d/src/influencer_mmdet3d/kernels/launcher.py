"""Launches of kernels that a step repeats, without what Triton finds out anew each time.

Triton's own launch binds arguments to names, looks at every tensor's type and alignment and asks the driver about
every address: ten to thirty microseconds, several times what the driver needs to launch.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

_ALIGNMENT = 16  # bytes; Triton compiles a kernel anew for an address that is not a multiple
_compiled: dict[tuple[Any, ...], Any] = {}


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    tensors: Sequence[Tensor],
    numbers: Sequence[float],
    constants: Mapping[str, Any],
    **options: int,
) -> None:
    """Launch a kernel, compiled in the first of all launches with these constants.

    Parameters
    ----------
    kernel : triton.JITFunction
        Takes tensors, then numbers, then constants.
    grid : tuple of int
        Up to three sizes.
    tensors : sequence of Tensor
        Of the same types in every launch of the kernel; memory of a GPU, or page-locked.
    numbers : sequence of float or int
        Of the same types in every launch; integers are named in the kernel's `do_not_specialize`.
    constants : mapping
        The compile-time arguments, in the kernel's order.
    **options : int
        Triton's `num_warps` and `num_stages`.
    """
    addresses = [x.data_ptr() for x in tensors]
    if functools.reduce(operator.or_, addresses) % _ALIGNMENT:
        kernel[grid](*tensors, *numbers, **constants, **options)
        return
    key = (kernel, tensors[0].device, *constants.values(), *options.values())
    compiled = _compiled.get(key)
    if compiled is None:
        assert tuple(kernel.arg_names[len(tensors) + len(numbers) :]) == tuple(constants), kernel
        compiled = kernel[grid](*tensors, *numbers, **constants, **options)
        if compiled is not None:  # the interpreter compiles nothing
            _compiled[key] = compiled
        return
    # the address of page-locked memory is the driver's to translate
    pointers = [address if x.is_cuda else x for address, x in zip(addresses, tensors)]
    compiled[(*grid, 1, 1)[:3]](*pointers, *numbers, *constants.values())
