"""The two passes over the logits: sums over the points of each instance, and the gradient of those sums.

Shape legend: L layers, B samples, Q queries, N points, K instances, R rows (see `layout`), P partial sums of rows.

Forward, for each row x (one query in one layer of one sample), with k(n) the instance of point n and p = sigmoid(x):

    softplus = sum_n log(1 + exp(x_n)) = sum_n max(x_n, 0) - log(max(p_n, 1 - p_n))
    logit[k] = sum of x_n over the points of instance k
    prob[k]  = sum of p_n over the points of instance k

Backward, with the slopes d of the loss by these sums:

    d x_n = (d_softplus + d_prob[k(n)] (1 - p_n)) p_n + d_logit[k(n)]

Forward, a program sums a chunk of points for a block of rows. Sums by instance are matrix products with the instances'
indicator, in bfloat16 pieces whose sum carries a float32 logit exactly and a probability to 2^-16, accumulated in
float32. Nothing is added atomically and partial sums are added in a fixed order later, so that results repeat bit by
bit. Backward, a program reads a tile of logits again and picks each point's slopes from its rows' lines.
"""

# mypy: disallow-untyped-defs=False
# Arguments of kernels are what Triton makes of them; the functions that launch kernels are typed.
from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from influencer_mmdet3d.loss.kernels.choose import interpreted
from influencer_mmdet3d.loss.kernels.launcher import Variant
from influencer_mmdet3d.loss.kernels.layout import (
    ALIGNMENT,
    CHUNK,
    COUNT_CHUNK,
    ENTRY_FIELDS,
    FIELDS,
    SAMPLE_FIELDS,
    Layout,
    carve,
)
from influencer_mmdet3d.loss.kernels.ops import LOG_2, leading, log2, sigmoid
from influencer_mmdet3d.loss.kernels.upload import upload

SAMPLE = tl.constexpr(SAMPLE_FIELDS)
ENTRY = tl.constexpr(ENTRY_FIELDS)
GRADIENT = tl.constexpr(ENTRY_FIELDS - 1)
QUERIES, POINTS, INSTANCES, ROWS, SEGMENTS, PARTS, COUNTS, MASKS, LABELS, QUERY_MASKS = (
    tl.constexpr(FIELDS.index(name)) for name in FIELDS
)
# Below every logit's effect: sigmoid 0, no part in any sum, and finite in float16.
_NOTHING = tl.constexpr(-6e4)
_PIECES = {torch.float32: 3, torch.float16: 2, torch.bfloat16: 1}
ELEMENTS = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
_INSTANCE_BLOCK = 32
# Bytes of gradients up to which they share an allocation: the time of larger ones is the device's, and apart they are
# given back one by one.
_TOGETHER = 1 << 28
_ROW_BLOCK, _COLUMN_BLOCK = 64, 64
_BN = 32
_BACKWARD_TILE = 32, 128  # rows, points
_TILES = 8
# Products of CHUNK / BN numbers in [0.5, 1] start here, so that none leaves float32's normal range: 2^64 to 2^-64.
_START_LOG2 = tl.constexpr(CHUNK // _BN // 2)
assert CHUNK // _BN <= 128


@triton.jit
def _segments(
    samples_ptr,  # (B, SAMPLE) int64, a line for each sample, see `layout`
    segments_ptr,  # out: (points of all samples,) int32
    counts_ptr,  # out: (partial counts, COLUMNS) int32
    COLUMNS: tl.constexpr,  # of the small matrices: a power of two above the largest K
    BK: tl.constexpr,  # instances that are looked at together
    BN: tl.constexpr,  # points of a program
):
    """The instance of each point (K for none), and the number of points of each instance in this chunk."""
    sample_ptr = samples_ptr + tl.program_id(1) * SAMPLE
    points = tl.load(sample_ptr + POINTS).to(tl.int32)
    instances = tl.load(sample_ptr + INSTANCES).to(tl.int32)
    if (tl.program_id(0) > 0) & (tl.program_id(0) * BN >= points):
        return
    masks_ptr = tl.load(sample_ptr + MASKS).to(tl.pointer_type(tl.int8))
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    segment = tl.zeros((BN,), tl.int32) + instances
    for first in range(0, instances, BK):
        k = first + tl.arange(0, BK)
        inside = (k < instances)[:, None] & (n < points)[None, :]
        held = tl.load(masks_ptr + k.to(tl.int64)[:, None] * points + n[None, :], mask=inside, other=0)
        segment = tl.minimum(segment, tl.min(tl.where(held != 0, k[:, None], instances), 0))
    tl.store(segments_ptr + tl.load(sample_ptr + SEGMENTS) + n, segment, mask=n < points)
    segment = tl.where(n < points, segment, -1)
    line_ptr = counts_ptr + (tl.load(sample_ptr + COUNTS) + tl.program_id(0)) * COLUMNS
    for first in range(0, COLUMNS, BK):
        k = first + tl.arange(0, BK)
        tl.store(line_ptr + k, tl.sum((segment[None, :] == k[:, None]).to(tl.int32), 1), mask=k < COLUMNS)


@triton.jit
def _rows(
    samples_ptr,  # (B, SAMPLE) int64, a line for each sample, see `layout`
    entries_ptr,  # (B, L, ENTRY) int64, addresses of each layer's tensors
    LAYERS,  # L
    ELEMENT: tl.constexpr,  # type of the mask logits
    BQ: tl.constexpr,  # rows of a program
    VEC: tl.constexpr,  # elements that every row's length and start are a multiple of
):
    """This program's rows: numbers within the sample, which exist, offsets, logits, and lines of the table."""
    sample_ptr = samples_ptr + tl.program_id(2) * SAMPLE
    queries = tl.load(sample_ptr + QUERIES).to(tl.int32)
    points = tl.load(sample_ptr + POINTS).to(tl.int32)
    if VEC > 1:
        points = tl.multiple_of(points, VEC)
    row = tl.program_id(1) * BQ + tl.arange(0, BQ)
    keep = row < queries * LAYERS
    row = tl.minimum(row, queries * LAYERS - 1)  # rows past the end repeat the last one and are not stored
    layer = row // queries
    line_ptr = entries_ptr + (tl.program_id(2) * LAYERS + layer) * ENTRY
    offset = (row - layer * queries).to(tl.int64) * points
    logits_ptr = tl.load(line_ptr).to(tl.pointer_type(ELEMENT)) + offset
    return row, keep, line_ptr, offset, tl.multiple_of(logits_ptr, 16) if VEC > 1 else logits_ptr  # pointers: bytes


@triton.jit
def _add_tile(
    x,  # (BQ, BN) float32 logits
    segment,  # (BN,) instance of each point
    logit,  # (BQ, COLUMNS) sums so far, of logits
    prob,  # (BQ, COLUMNS) of probabilities
    positive,  # (BQ, BN) sums of max(x, 0)
    product,  # (BQ, BN) products of max(p, 1 - p)
    FAST: tl.constexpr,  # False in Triton's interpreter
    PIECES: tl.constexpr,  # bfloat16 pieces that carry a logit
    COLUMNS: tl.constexpr,  # instances of this program
    first,  # the first of these
):
    """Add one tile of logits to the sums."""
    DOT: tl.constexpr = tl.bfloat16 if FAST else tl.float32
    p = sigmoid(x, FAST)
    # log(1 + exp(x)) = max(x, 0) - log(max(p, 1 - p)); the product of up to CHUNK / BN such numbers takes one logarithm
    product *= tl.abs(p - 0.5) + 0.5
    positive += tl.maximum(x, 0.0)
    indicator = tl.where(segment[:, None] == (first + tl.arange(0, COLUMNS))[None, :], 1.0, 0.0).to(DOT)
    for piece in tl.static_range(PIECES):
        part = leading(x, FAST) if piece + 1 < PIECES else x
        logit = tl.dot(part.to(DOT), indicator, logit, input_precision="ieee")
        x = x - part
    part = leading(p, FAST)
    prob = tl.dot(part.to(DOT), indicator, prob, input_precision="ieee")
    prob = tl.dot((p - part).to(DOT), indicator, prob, input_precision="ieee")
    return logit, prob, positive, product


@triton.jit(do_not_specialize=["LAYERS"])
def _forward(
    samples_ptr,  # (B, SAMPLE) int64, a line for each sample, see `layout`
    entries_ptr,  # (B, L, ENTRY) int64, addresses of each layer's tensors
    segments_ptr,  # (points of all samples,) int32
    part_softplus_ptr,  # out: (P,) float32
    part_logit_ptr,  # out: (P, COLUMNS) float32
    part_prob_ptr,  # out: (P, COLUMNS) float32
    LAYERS,  # L
    ELEMENT: tl.constexpr,  # type of the mask logits
    PIECES: tl.constexpr,  # bfloat16 pieces that carry a logit
    COLUMNS: tl.constexpr,  # of the small matrices: a power of two above the largest K
    BC: tl.constexpr,  # instances of a program
    BQ: tl.constexpr,  # rows of a program
    BN: tl.constexpr,  # points of a tile
    CHUNK: tl.constexpr,  # points of a program
    VEC: tl.constexpr,  # elements that every row's length and start are a multiple of
    FAST: tl.constexpr,  # False in Triton's interpreter
):
    """Sums of one chunk of points, for a block of rows and a block of instances."""
    sample_ptr = samples_ptr + tl.program_id(2) * SAMPLE
    points = tl.load(sample_ptr + POINTS).to(tl.int32)
    rows = tl.load(sample_ptr + QUERIES).to(tl.int32) * LAYERS
    column_blocks: tl.constexpr = COLUMNS // BC
    chunk = tl.program_id(0) // column_blocks
    column = tl.program_id(0) % column_blocks * BC
    begin = chunk * CHUNK
    if ((begin > 0) & (begin >= points)) | (tl.program_id(1) * BQ >= rows):
        return
    row, keep, _, _, logits_ptr = _rows(samples_ptr, entries_ptr, LAYERS, ELEMENT, BQ, VEC)
    segments_ptr += tl.load(sample_ptr + SEGMENTS)
    logit = tl.zeros((BQ, BC), tl.float32)
    prob = tl.zeros((BQ, BC), tl.float32)
    positive = tl.zeros((BQ, BN), tl.float32)
    product = tl.full((BQ, BN), 2.0**_START_LOG2, tl.float32)
    end = tl.minimum(begin + CHUNK, points)
    whole = begin + (end - begin) // BN * BN
    for start in range(begin, whole, BN):
        n = start + tl.arange(0, BN)
        segment = tl.load(segments_ptr + n)
        x = tl.load(logits_ptr[:, None] + n[None, :]).to(tl.float32)
        logit, prob, positive, product = _add_tile(
            x, segment, logit, prob, positive, product, FAST, PIECES, BC, column
        )  # fmt: skip
    if whole < end:
        n = whole + tl.arange(0, BN)
        segment = tl.load(segments_ptr + n, mask=n < points, other=-1)
        x = tl.load(logits_ptr[:, None] + n[None, :], mask=(n < points)[None, :], other=_NOTHING).to(tl.float32)
        logit, prob, positive, product = _add_tile(
            x, segment, logit, prob, positive, product, FAST, PIECES, BC, column
        )  # fmt: skip
    part = tl.load(sample_ptr + PARTS) + chunk.to(tl.int64) * rows + row
    cell = part[:, None] * COLUMNS + column + tl.arange(0, BC)[None, :]
    tl.store(part_logit_ptr + cell, logit, mask=keep[:, None])
    tl.store(part_prob_ptr + cell, prob, mask=keep[:, None])
    if column == 0:
        tl.store(part_softplus_ptr + part, tl.sum(positive + LOG_2 * (_START_LOG2 - log2(product, FAST)), 1), mask=keep)


@triton.jit(do_not_specialize=["LAYERS"])
def _backward(
    samples_ptr,  # (B, SAMPLE) int64, a line for each sample, see `layout`
    entries_ptr,  # (B, L, ENTRY) int64, addresses of each layer's tensors
    segments_ptr,  # (points of all samples,) int32
    d_softplus_ptr,  # (R,) float32, slopes of the loss by the sums
    d_logit_ptr,  # (R, COLUMNS) float32
    d_prob_ptr,  # (R, COLUMNS) float32
    scale_ptr,  # (1,) float32, a factor of all slopes
    gradients_ptr,  # out: gradients of the mask logits, see ENTRY's last field
    LAYERS,  # L
    ELEMENT: tl.constexpr,  # type of the mask logits
    COLUMNS: tl.constexpr,  # of the small matrices: a power of two above the largest K
    BQ: tl.constexpr,  # rows of a program
    BN: tl.constexpr,  # points of a tile
    TILES: tl.constexpr,  # tiles of a program
    VEC: tl.constexpr,  # elements that every row's length and start are a multiple of
    FAST: tl.constexpr,  # False in Triton's interpreter
):
    """The gradient of some tiles of logits, side by side in a block of rows."""
    sample_ptr = samples_ptr + tl.program_id(2) * SAMPLE
    points = tl.load(sample_ptr + POINTS).to(tl.int32)
    rows = tl.load(sample_ptr + QUERIES).to(tl.int32) * LAYERS
    begin = tl.program_id(0) * (BN * TILES)
    if (begin >= points) | (tl.program_id(1) * BQ >= rows):
        return
    row, _keep, line_ptr, offset, logits_ptr = _rows(samples_ptr, entries_ptr, LAYERS, ELEMENT, BQ, VEC)
    gradient_ptr = gradients_ptr + tl.load(line_ptr + GRADIENT) + offset
    segments_ptr += tl.load(sample_ptr + SEGMENTS)
    # The rows' slopes are read once and looked up in registers: from memory, they took four times as long as logits.
    row += tl.load(sample_ptr + ROWS).to(tl.int32)
    cell = (row * COLUMNS)[:, None] + tl.arange(0, COLUMNS)[None, :]
    factor = tl.load(scale_ptr)
    softplus = (tl.load(d_softplus_ptr + row) * factor)[:, None]
    prob = tl.load(d_prob_ptr + cell) * factor
    logit = tl.load(d_logit_ptr + cell) * factor
    for start in range(begin, tl.minimum(begin + BN * TILES, points), BN):
        n = start + tl.arange(0, BN)
        # Past the ends, the last row and the last point are done again: the same values go to the same places.
        if VEC > 1:
            gradient_ptr = tl.multiple_of(gradient_ptr, 16)
            inside = (n < tl.multiple_of(points, VEC))[None, :]
            segment = tl.load(segments_ptr + n, mask=n < points, other=0)
            x = tl.load(logits_ptr[:, None] + n[None, :], mask=inside, other=0.0, eviction_policy="evict_first")
        else:
            n = tl.minimum(n, points - 1)
            segment = tl.load(segments_ptr + n)
            x = tl.load(logits_ptr[:, None] + n[None, :], eviction_policy="evict_first")
        p = sigmoid(x.to(tl.float32), FAST)
        where = tl.broadcast_to(segment[None, :], (BQ, BN))
        slope = tl.gather(prob, where, 1)
        slope = (slope - slope * p + softplus) * p + tl.gather(logit, where, 1)
        if VEC > 1:
            tl.store(gradient_ptr[:, None] + n[None, :], slope.to(ELEMENT), mask=inside, eviction_policy="evict_first")
        else:
            tl.store(gradient_ptr[:, None] + n[None, :], slope.to(ELEMENT), eviction_policy="evict_first")


def find_segments(layout: Layout) -> tuple[Tensor, Tensor]:
    """Return the instance of each point and the partial sizes.

    Returns
    -------
    segments : Tensor
        (points of all samples) int32 in [0, K].
    counts : Tensor
        (partial counts, columns) int32, points of each instance; column K counts the points of none.
    """
    device = layout.samples.device
    segments = torch.empty(max(layout.segments, 1), dtype=torch.int32, device=device)
    counts = torch.empty(layout.counts, layout.columns, dtype=torch.int32, device=device)
    grid = (max(-(-layout.points // COUNT_CHUNK), 1), layout.batch)
    _segments_variant(layout.columns).launch(grid, (layout.samples, segments, counts), ())
    return segments, counts


@functools.cache
def _segments_variant(columns: int) -> Variant:
    constants = dict(COLUMNS=columns, BK=min(_INSTANCE_BLOCK, columns), BN=COUNT_CHUNK)
    return Variant(_segments, constants, num_warps=8)


def sum_points(layout: Layout, segments: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return partial sums of softplus (P,), logits and probabilities (P x columns,), float32, and unused memory.

    A sample's lines are ordered by chunk, then row. Columns past its K are zero.
    """
    lines = layout.parts
    softplus, logit, prob = carve(segments.device, lines, lines * layout.columns, lines * layout.columns)
    grid = (
        max(-(-layout.points // CHUNK), 1) * (layout.columns // min(_COLUMN_BLOCK, layout.columns)),
        -(-layout.queries * layout.layers // _ROW_BLOCK),
        layout.batch,
    )
    if layout.rows:
        tensors = (layout.samples, layout.entries, segments, softplus, logit, prob)
        _forward_variant(dtype, layout.columns, layout.aligned).launch(grid, tensors, (layout.layers,))
    return softplus, logit, prob


@functools.cache
def _forward_variant(dtype: torch.dtype, columns: int, aligned: bool) -> Variant:
    constants = dict(
        ELEMENT=ELEMENTS[dtype], PIECES=_PIECES[dtype], COLUMNS=columns, BC=min(_COLUMN_BLOCK, columns), BQ=_ROW_BLOCK,
        BN=_BN, CHUNK=CHUNK, VEC=ALIGNMENT if aligned else 1, FAST=not interpreted(),
    )  # fmt: skip
    return Variant(_forward, constants, num_warps=4, num_stages=3 if aligned else 1)


def spread_slopes(
    layout: Layout, segments: Tensor, slopes: Sequence[Tensor], scale: Tensor, logits: Sequence[Tensor],
    groups: int = 1,
) -> list[Tensor]:  # fmt: skip
    """Return the gradient of every mask logit.

    Parameters
    ----------
    layout, segments
        As in the forward pass.
    slopes : sequence of Tensor
        Gradients of the sums of softplus (R,), logits (R, columns) and probabilities (R, columns), float32.
    scale : Tensor
        (1,) float32, a factor of all slopes.
    logits : sequence of Tensor
        B x L mask logits, contiguous. They may lie elsewhere than in the forward pass: hooks on saved tensors
        (offloading, say) move them.
    groups : int
        G: of each of the B x L tensors, G parts of its rows are samples of the layout.

    Returns
    -------
    list of Tensor
        Like the logits. Small ones share one allocation: there, a step's time is that of the CPU's calls.
    """
    first, entries, layers = logits[0], layout.entries, layout.layers
    addresses = _addresses(logits, layers, groups)
    shapes = [(layers, *x.shape) for x in logits[::layers]]
    sizes = [math.prod(shape) for shape in shapes]
    together = sum(sizes) * first.element_size() <= _TOGETHER
    if together:
        pieces = torch.empty(sum(sizes), dtype=first.dtype, device=first.device).split_with_sizes(sizes)
        gradients = [x for piece, shape in zip(pieces, shapes) for x in piece.view(shape).unbind()]
    else:
        gradients = [torch.empty_like(x) for x in logits]
    if groups > 1 or not together or addresses != layout.addresses:
        begin, size = gradients[0].data_ptr(), first.element_size()
        offsets = [(address - begin) // size for address in _addresses(gradients, layers, groups)]
        lines = [value for address, offset in zip(addresses, offsets) for value in (address, 0, 0, offset)]
        entries = upload(lines, segments.device)
    aligned = layout.aligned and not any(address % 16 for address in addresses)
    rows, points = _BACKWARD_TILE
    grid = (-(-layout.points // (points * _TILES)), -(-layout.queries * layout.layers // rows), layout.batch)
    if layout.rows and layout.points:
        tensors = (layout.samples, entries, segments, *slopes, scale, gradients[0])
        _backward_variant(first.dtype, layout.columns, aligned).launch(grid, tensors, (layout.layers,))
    return gradients


def _addresses(tensors: Sequence[Tensor], layers: int, groups: int) -> list[int]:
    """Return where the rows of every sample, group and layer begin, in the order of a layout."""
    if groups == 1:
        return [x.data_ptr() for x in tensors]
    samples = [tensors[begin : begin + layers] for begin in range(0, len(tensors), layers)]
    return [
        x.data_ptr() + group * (x.numel() // groups) * x.element_size()
        for sample in samples for group in range(groups) for x in sample
    ]  # fmt: skip


@functools.cache
def _backward_variant(dtype: torch.dtype, columns: int, aligned: bool) -> Variant:
    rows, points = _BACKWARD_TILE
    constants = dict(
        ELEMENT=ELEMENTS[dtype], COLUMNS=columns, BQ=rows, BN=points, TILES=_TILES, VEC=ALIGNMENT if aligned else 1,
        FAST=not interpreted(),
    )  # fmt: skip
    return Variant(_backward, constants, num_warps=4)
