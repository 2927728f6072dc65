"""Value checks that the device makes during a step and that are read once it is done, without waiting for it.

Shape legend: L layers, B samples.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from influencer_mmdet3d.loss.wording import CLASSES, MASKS, PLAIN, SCORES, Wording

# What the bits of a check say; labels are a matter of the sample, not of the layer.
_HEADS = {2: CLASSES, 4: SCORES, 1: MASKS}  # in the plain path's order
_LABEL = 8


class _Pending(NamedTuple):
    done: torch.cuda.Event
    checks: Tensor
    labels: list[Tensor]
    num_classes: int
    groups: int


class DeferredChecks:
    """Checks of steps that a GPU may not have finished; an error is raised as soon as it is known.

    On the CPU that is at once. On a GPU it is one of the next steps, since nothing waits; until then the loss of the
    step is not a number. Steps of a captured CUDA graph are not checked: their loss alone tells. A copy of the
    object, or one that was pickled, starts without pending checks.

    Parameters
    ----------
    wording : Wording
        The words of messages.
    """

    def __init__(self, wording: Wording = PLAIN) -> None:
        self._pending: deque[_Pending] = deque()
        self._wording = wording

    def __reduce__(self) -> tuple[Any, ...]:
        return DeferredChecks, (self._wording,)

    def __del__(self) -> None:
        for pending in self._pending:  # the device may still write to memory that is about to be given back
            pending.done.synchronize()

    def buffer(self, batch: int, layers: int, device: torch.device) -> Tensor:
        """Return (B, L) int32 that kernels on `device` write a step's checks to."""
        if device.type == "cpu":
            return torch.empty(batch, layers, dtype=torch.int32)
        if torch.cuda.is_current_stream_capturing():
            return torch.empty(batch, layers, dtype=torch.int32, device=device)
        # page-locked, and so within a kernel's reach: no copy back to the CPU is needed
        return torch.empty(batch, layers, dtype=torch.int32, pin_memory=True)

    def add(
        self, checks: Tensor, labels: Sequence[Tensor], num_classes: int, device: torch.device, groups: int = 1
    ) -> None:
        """Take note of a step whose kernels have been launched; raises at once on the CPU.

        Parameters
        ----------
        checks : Tensor
            From `buffer`; for the meaning see `influencer_mmdet3d.loss.kernels.step.step_loss`.
        labels : sequence of Tensor
            (K,) of every scene, for the message; a check has G lines for each.
        num_classes : int
            Labels must be below.
        device : torch.device
            Where the kernels run.
        groups : int
            G.
        """
        if device.type == "cpu":
            self._raise_first(checks, labels, num_classes, groups)
        elif not torch.cuda.is_current_stream_capturing():
            done = torch.cuda.Event()
            done.record(torch.cuda.current_stream(device))
            self._pending.append(_Pending(done, checks, list(labels), num_classes, groups))

    def poll(self, wait: bool = False) -> None:
        """Raise what finished steps have found.

        Parameters
        ----------
        wait : bool
            Wait for the steps that are not finished.

        Raises
        ------
        ValueError
            For a label outside [0, num_classes), naming sample and instance.
        FloatingPointError
            For logits that are not finite, naming layer, sample and key.
        """
        while self._pending:
            done, checks, labels, num_classes, groups = self._pending[0]
            if wait:
                done.synchronize()
            elif torch.cuda.is_current_stream_capturing() or not done.query():
                return
            self._pending.popleft()
            self._raise_first(checks, labels, num_classes, groups)

    def _raise_first(self, checks: Tensor, labels: Sequence[Tensor], num_classes: int, groups: int) -> None:
        for sample, bits in enumerate(checks.tolist()):
            if any(bit & _LABEL for bit in bits):
                values = labels[sample // groups].tolist()
                wrong = next(i for i, label in enumerate(values) if not 0 <= label < num_classes)
                raise self._wording.label_error(sample // groups, wrong, values[wrong], num_classes)
            for layer, bit in enumerate(bits):
                for flag, head in _HEADS.items():
                    if bit & flag:
                        raise self._wording.finite_error(layer, len(bits), sample, head, groups)
