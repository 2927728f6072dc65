"""Where the tensors of a batch lie, as one table of integers that the kernels read.

Shape legend: L layers, B samples, Q queries, N points, K instances, R rows; everything but L may differ by sample.

The kernels treat all layers and samples of a step in one launch. They find each tensor by its address, so nothing
is copied or padded. A row is one query in one layer of one sample; rows are numbered by sample, then layer, then
query, and every small matrix of a step is (R, columns).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from influencer_mmdet3d.loss.kernels.upload import upload
from influencer_mmdet3d.loss.sample import Sample

# Fields of a sample's line of the table. `COUNTS` and `PARTS` are where its partial sums begin.
FIELDS = (
    "QUERIES", "POINTS", "INSTANCES", "ROWS", "SEGMENTS", "PARTS", "COUNTS", "MASKS", "LABELS", "QUERY_MASKS",
)  # fmt: skip
SAMPLE_FIELDS = len(FIELDS)
# Addresses of mask logits, class logits and scores, 0 without; then the element at which the gradient of the mask
# logits begins, where one array holds all gradients.
ENTRY_FIELDS = 4
CHUNK = 4096  # points that one program sums; a sample has one partial sum for each
COUNT_CHUNK = 1024  # points of which one program finds the instances
ALIGNMENT = 8  # elements, at least 16 bytes; rows that start at multiples of it are read in wide pieces
_LINE = 64  # elements; arrays that share an allocation begin at multiples of it


@dataclass(frozen=True)
class Layout:
    """A batch's table on the device, and the sizes that launches need.

    Attributes
    ----------
    samples, entries : Tensor
        (B, SAMPLE_FIELDS) and (B, L, ENTRY_FIELDS) int64 on the device.
    layers : int
        L.
    queries, points : int
        The largest of the batch.
    rows, parts, counts, segments : int
        Lines of all samples together: rows, partial sums of rows, partial counts, points.
    columns : int
        Columns of the small matrices: a power of two over the largest K, at least 16.
    aligned : bool
        Whether every row of logits starts at a multiple of 16 bytes, and has a multiple of 8 elements.
    addresses : list of int
        B x L, of the mask logits in the table.
    """

    samples: Tensor
    entries: Tensor
    layers: int
    queries: int
    points: int
    rows: int
    parts: int
    counts: int
    segments: int
    columns: int
    aligned: bool
    addresses: list[int]

    @property
    def batch(self) -> int:
        """B."""
        return self.samples.shape[0]


def lay_out(batch: Sequence[Sample]) -> Layout:
    """Describe a batch; nothing but the table is sent to the device.

    Parameters
    ----------
    batch : sequence of Sample
        B samples of contiguous tensors, with the same number of layers.

    Raises
    ------
    ValueError
        If the tensors are on several devices.
    """
    layers, device = len(batch[0].masks), batch[0].masks[0].device
    samples: list[int] = []
    entries: list[int] = []
    every: list[int] = []
    rows = parts = counts = segments = gradient = most_queries = most_points = most_instances = 0
    aligned = True
    none = [0] * layers
    for sample in batch:
        queries, (instances, points) = sample.masks[0].shape[0], sample.targets.shape
        samples += [queries, points, instances, rows, segments, parts, counts]
        _same_device(sample, device)
        for value in (sample.targets, sample.labels, sample.query_masks):
            samples.append(0 if value is None else value.data_ptr())
        masks = [x.data_ptr() for x in sample.masks]
        classes = [x.data_ptr() for x in sample.classes] or none
        scores = [x.data_ptr() for x in sample.scores] or none
        size = queries * points
        gradients = range(gradient, gradient + layers * size, size) if size else none
        entries += [value for line in zip(masks, classes, scores, gradients) for value in line]
        every += masks
        gradient += layers * size
        most_queries, most_points = max(most_queries, queries), max(most_points, points)
        most_instances = max(most_instances, instances)
        aligned = aligned and points % ALIGNMENT == 0 and not any(address % 16 for address in masks)
        rows += layers * queries
        parts += layers * queries * max(chunks(points), 1)
        counts += max(-(-points // COUNT_CHUNK), 1)
        segments += -(-points // ALIGNMENT) * ALIGNMENT
    table = upload([*samples, *entries], device)
    return Layout(
        samples=table[: len(samples)].view(-1, SAMPLE_FIELDS),
        entries=table[len(samples) :].view(-1, layers, ENTRY_FIELDS),
        layers=layers,
        queries=most_queries,
        points=most_points,
        rows=rows,
        parts=parts,
        counts=counts,
        segments=segments,
        columns=max(16, 1 << most_instances.bit_length()),
        aligned=aligned,
        addresses=every,
    )


def _same_device(sample: Sample, device: torch.device) -> None:
    """Raise unless all tensors of a sample are on the device."""
    tensors = [*sample.masks, sample.targets, sample.labels, *sample.classes, *sample.scores]
    if sample.query_masks is not None:
        tensors.append(sample.query_masks)
    if len(set(map(Tensor.get_device, tensors))) > 1 or sample.targets.device != device:
        other = next(x.device for x in tensors if x.device != device)
        raise ValueError(f"a tensor of the batch is on {other}, the first mask logits are on {device}")


def chunks(points: int) -> int:
    """Return the number of partial sums over this many points."""
    return -(-points // CHUNK)


def rounded(size: int) -> int:
    """Return the next multiple of what arrays that share an allocation begin at."""
    return -(-size // _LINE) * _LINE


def carve(device: torch.device, *sizes: int) -> tuple[Tensor, ...]:
    """Return float32 arrays (rounded(size),) from one allocation: each of its own costs the CPU as much as all."""
    widths = [rounded(size) for size in sizes]
    return torch.empty(sum(widths), device=device).split_with_sizes(widths)
