"""Launches of kernels that a step repeats, without what Triton finds out anew each time.

Triton's own launch binds arguments to names, looks at every tensor's type and alignment and asks the driver about
every address: ten to thirty microseconds, several times what the driver needs to launch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

_ALIGNMENT = 16  # bytes; Triton compiles a kernel anew for an address that is not a multiple


class Variant:
    """A kernel with compile-time arguments; keep it for as long as steps repeat.

    Parameters
    ----------
    kernel : triton.JITFunction
        Takes tensors, then numbers, then constants.
    constants : mapping
        The compile-time arguments, in the kernel's order.
    **options : int
        Triton's `num_warps` and `num_stages`.
    """

    def __init__(self, kernel: Any, constants: Mapping[str, Any], **options: int) -> None:
        assert tuple(kernel.arg_names[len(kernel.arg_names) - len(constants) :]) == tuple(constants), kernel
        self.kernel = kernel
        self.named = {**constants, **options}
        self.constants = tuple(constants.values())
        self.compiled: dict[int, Any] = {}  # by number of the device

    def launch(self, grid: tuple[int, ...], tensors: Sequence[Tensor], numbers: Sequence[float]) -> None:
        """Launch the kernel, compiled in the first of all launches on a device.

        Parameters
        ----------
        grid : tuple of int
            Up to three sizes.
        tensors : sequence of Tensor
            Of the same types in every launch; memory of a GPU, or page-locked. The first one tells the device.
        numbers : sequence of float or int
            Of the same types in every launch; integers are named in the kernel's `do_not_specialize`.
        """
        addresses = [x.data_ptr() for x in tensors]
        together = 0
        for address in addresses:
            together |= address
        if together % _ALIGNMENT:
            self.kernel[grid](*tensors, *numbers, **self.named)
            return
        device = tensors[0].get_device()
        compiled = self.compiled.get(device)
        if compiled is None:
            compiled = self.kernel[grid](*tensors, *numbers, **self.named)
            if compiled is not None:  # the interpreter compiles nothing
                self.compiled[device] = compiled
            return
        # the address of page-locked memory is the driver's to translate
        pointers = [address if x.is_cuda else x for address, x in zip(addresses, tensors)]
        compiled[(*grid, 1, 1)[:3]](*pointers, *numbers, *self.constants)
