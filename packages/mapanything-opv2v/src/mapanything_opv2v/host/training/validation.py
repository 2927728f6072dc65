"""Deviation that concerns validation: with several processes, its figures are of the whole set."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mapanything_opv2v.host.training.patching import TOOLS, TRAINING, Patches, deviation
from mapanything_opv2v.host.training.run_state import RunState


@deviation(
    where=f"{TRAINING}:test_one_epoch",
    host="chooses the best checkpoint by the part of the validation set that the first process has seen",
    ours="with several processes, the figures are means and medians over the batches of all of them",
)
def whole_validation(state: RunState, patches: Patches) -> None:
    """Pool the batches of all processes before the best checkpoint is chosen; one process is left as it is."""

    def make(host: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(host)
        def test_one_epoch(*arguments: Any, **options: Any) -> dict[str, float]:
            import torch

            if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
                return host(*arguments, **options)
            call = inspect.signature(host).bind(*arguments, **options)
            call.apply_defaults()
            writer, call.arguments["log_writer"] = call.arguments["log_writer"], None
            parts: list[Any] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(parts, _batches(host, call))
            results = pooled(parts)
            if writer is not None:  # as the host does with the figures of its own process
                for name, value in results.items():
                    writer.add_scalar(f"{call.arguments['prefix']}_{name}", value, 1000 * call.arguments["epoch"])
            return results

        return test_one_epoch

    patches.wrap(TRAINING, "test_one_epoch", make)


def _batches(host: Callable[..., Any], call: inspect.BoundArguments) -> dict[str, list[float]]:
    """Return the figures of every batch of this process by name; the host keeps them in its MetricLogger."""
    loggers: list[Any] = []

    def kept(cls: Callable[..., Any]) -> Callable[..., Any]:
        def make_logger(*arguments: Any, **options: Any) -> Any:
            loggers.append(cls(*arguments, **options))
            return loggers[-1]

        return make_logger

    inner = Patches()
    inner.wrap(TOOLS, "MetricLogger", kept)
    try:
        host(*call.args, **call.kwargs)
    finally:
        inner.undo()
    (logger,) = loggers
    return {name: list(meter.deque) for name, meter in logger.meters.items()}


def pooled(parts: Iterable[Mapping[str, list[float]]]) -> dict[str, float]:
    """Return mean and median over the batches of all processes, under the host's names `..._avg` and `..._med`.

    Of an even number the median is the lower of the two middle values, as the host's.
    """
    values: dict[str, list[float]] = {}
    for part in parts:
        for name, batches in part.items():
            values.setdefault(name, []).extend(batches)
    results = {}
    for name, batches in values.items():
        results[f"{name}_avg"] = sum(batches) / len(batches)
        results[f"{name}_med"] = sorted(batches)[(len(batches) - 1) // 2]
    return results
