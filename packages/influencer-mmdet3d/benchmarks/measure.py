"""Time and memory of one criterion's forward and backward pass, and of the least that any could do."""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from competitors import build
from mmengine.structures import InstanceData

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# The forward pass reads the logits, the backward pass reads them again and writes their gradient.
PASSES = 3


@dataclass(frozen=True)
class Size:
    """Layers L, batch B, queries Q of a group, points N, instances K, classes C, groups G."""

    layers: int
    batch: int
    queries: int
    points: int
    instances: int
    classes: int
    groups: int = 1

    @property
    def rows(self) -> int:
        """Queries of all groups."""
        return self.queries * self.groups

    def logits_bytes(self, dtype: torch.dtype) -> int:
        """Bytes of all mask logits."""
        return self.layers * self.batch * self.rows * self.points * dtype.itemsize


def inputs(size: Size, device: str, dtype: torch.dtype) -> tuple[dict[str, Any], list[Any], list[torch.Tensor]]:
    """Draw a batch in the host's format; returns (pred, insts, leaves)."""
    generator = torch.Generator(device).manual_seed(0)
    leaves: list[torch.Tensor] = []

    def leaf(*shape: int) -> torch.Tensor:
        value = (3 * torch.randn(*shape, generator=generator, device=device)).to(dtype).requires_grad_()
        leaves.append(value)
        return value

    def layer() -> dict[str, Any]:
        return {
            "cls_preds": [leaf(size.rows, size.classes + 1) for _ in range(size.batch)],
            "masks": [leaf(size.rows, size.points) for _ in range(size.batch)],
            "scores": [leaf(size.rows, 1) for _ in range(size.batch)],
        }

    aux = [layer() for _ in range(size.layers - 1)]
    pred = {**layer(), "aux_outputs": aux, "groups": size.groups}
    insts = []
    for _ in range(size.batch):
        segments = torch.randint(0, size.instances + 1, (size.points,), generator=generator, device=device)
        masks = torch.nn.functional.one_hot(segments, size.instances + 1)[:, :-1].t().bool().contiguous()
        labels = torch.randint(0, size.classes, (size.instances,), generator=generator, device=device)
        insts.append(InstanceData(sp_masks=masks, labels_3d=labels))
    return pred, insts, leaves


def floor_ms(size: Size, device: str, dtype: torch.dtype, repeats: int) -> float:
    """Return the time to read as many bytes as the logits have twice and to write them once, from timed copies."""
    source = torch.zeros(size.logits_bytes(dtype), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return _timed(lambda: target.copy_(source), device, repeats)[0] * PASSES / 2


def measure(name: str, size: Size, device: str, dtype: torch.dtype, repeats: int) -> dict[str, float]:
    """Time one competitor in this process.

    Returns
    -------
    dict
        `ms`: the least of the repeats on the CPU, the median on a GPU; `issue_ms`: the same of the time until the
        CPU is free again; `peak_mb`; `extra_mb`: the peak above inputs and their gradients.
    """
    criterion = build(name, size.classes)
    pred, insts, leaves = inputs(size, device, dtype)
    gradients = sum(leaf.numel() * leaf.element_size() for leaf in leaves) / 2**20

    def step() -> None:
        loss = criterion(pred, insts)["inst_loss"]
        torch.autograd.grad(loss, leaves, allow_unused=True)

    if device == "cuda":
        _warm_up(step)  # compiles kernels and fills the allocator's pools
        gc.collect()
        torch.cuda.reset_peak_memory_stats()
    base = _used_mb(device)
    step()
    peak = _peak_mb(device)
    run = _captured(step) if name.endswith("graph") else step
    run()
    ms, issue_ms = _timed(run, device, repeats)
    return {"ms": ms, "issue_ms": issue_ms, "peak_mb": peak, "extra_mb": max(peak - base - gradients, 0.0)}


def kernel_times(size: Size, device: str, dtype: torch.dtype, repeats: int) -> str:
    """Return the profiler's table of the fused kernels' times on the GPU."""
    criterion = build("influence triton", size.classes)
    pred, insts, leaves = inputs(size, device, dtype)

    def step() -> None:
        torch.autograd.grad(criterion(pred, insts)["inst_loss"], leaves)

    _warm_up(step)
    with torch.profiler.profile(activities=list(torch.profiler.supported_activities())) as profile:
        for _ in range(repeats):
            step()
        torch.cuda.synchronize()
    return str(profile.key_averages().table(sort_by="cuda_time_total", row_limit=16, max_name_column_width=40))


def _warm_up(step: Callable[[], None]) -> None:
    """Run on a side stream, as a capture asks for."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()


def _captured(step: Callable[[], None]) -> Callable[[], None]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def _timed(run: Callable[[], Any], device: str, repeats: int) -> tuple[float, float]:
    """Return the milliseconds that a call takes, and those until it returns."""
    times, issued = [], []
    for _ in range(repeats):
        if device == "cuda":
            torch.cuda.synchronize()
            start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin = time.perf_counter()
            start.record()
            run()
            stop.record()
            issued.append(1e3 * (time.perf_counter() - begin))
            torch.cuda.synchronize()
            times.append(start.elapsed_time(stop))
        else:
            begin = time.perf_counter()
            run()
            times.append(1e3 * (time.perf_counter() - begin))
            issued.append(times[-1])
    middle = repeats // 2 if device == "cuda" else 0
    return sorted(times)[middle], sorted(issued)[middle]


def _used_mb(device: str) -> float:
    return torch.cuda.memory_allocated() / 2**20 if device == "cuda" else _peak_mb(device)


def _peak_mb(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
