"""A short list of integers on the device, without waiting for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def upload(values: Sequence[int], device: torch.device) -> Tensor:
    """Return the integers as an int64 tensor on `device`.

    The copy is asynchronous, from page-locked memory. While a CUDA graph is captured the values travel as arguments
    of kernels instead: a graph keeps those, and would read page-locked memory again at every replay.
    """
    if device.type == "cpu":
        return torch.tensor(values, dtype=torch.int64)
    if torch.cuda.is_current_stream_capturing():
        from influencer_mmdet3d.kernels.words import write_words

        return write_words(values, device)
    return torch.tensor(values, dtype=torch.int64, pin_memory=True).to(device, non_blocking=True)
