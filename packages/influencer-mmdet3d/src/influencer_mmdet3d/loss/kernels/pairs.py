"""From the sums over points to costs, influences and own queries, for all layers and samples of a step at once.

Shape legend: as in `layout`; every matrix of a step is (R, columns), column k speaks of instance k, column K of the
points of none. A program holds whole rows, or loops over all queries of one layer and sample.

The formulas are those of `influencer_mmdet3d.loss.assignment`.
"""

# mypy: disallow-untyped-defs=False
# Arguments of kernels are what Triton makes of them; the functions that launch kernels are typed.
from __future__ import annotations

import triton
import triton.language as tl

from influencer_mmdet3d.loss.kernels.sums import (
    COUNTS,
    ENTRY,
    INSTANCES,
    LABELS,
    PARTS,
    POINTS,
    QUERIES,
    QUERY_MASKS,
    ROWS,
    SAMPLE,
)

TINY = tl.constexpr(1.1754943508222875e-38)
INFINITY = tl.constexpr(float("inf"))
_NO_QUERY = tl.constexpr(2147483647)


@triton.jit
def sample_of(samples, entry, LAYERS):
    """The line of the table, and the sizes, that an entry (sample, then layer) belongs to."""
    sample = samples + entry // LAYERS * SAMPLE
    queries = tl.load(sample + QUERIES).to(tl.int32)
    instances = tl.load(sample + INSTANCES).to(tl.int32)
    row = tl.load(sample + ROWS).to(tl.int32) + entry % LAYERS * queries
    return sample, queries, instances, row


@triton.jit
def class_logits(
    entries, entry, q, queries, labels, ELEMENT: tl.constexpr, CLASSES: tl.constexpr, WIDTH: tl.constexpr,
    LOG_ODDS: tl.constexpr,
):  # fmt: skip
    """Class logits (rows, WIDTH) of some queries, their logsumexp, and their belief in each instance's class."""
    head = tl.load(entries + entry * ENTRY + 1).to(tl.pointer_type(ELEMENT))
    c = tl.arange(0, WIDTH)
    cell = q[:, None] * (CLASSES + 1)
    inside = (q < queries)[:, None]
    logits = tl.load(head + cell + c[None, :], mask=inside & (c <= CLASSES)[None, :], other=float("-inf"))
    logits = tl.where(inside, logits.to(tl.float32), 0.0)
    largest = tl.max(logits, 1)
    logsum = largest + tl.log(tl.sum(tl.exp(logits - largest[:, None]), 1))
    wanted = tl.load(head + cell + labels[None, :], mask=inside, other=0.0).to(tl.float32)
    if LOG_ODDS:
        belief = wanted - tl.sum(tl.where((c == CLASSES)[None, :], logits, 0.0), 1)[:, None]
    else:
        belief = tl.exp(wanted - logsum[:, None])
    return logits, logsum, belief


@triton.jit
def instance_labels(sample, k, instances, CLASSES: tl.constexpr):
    """Labels of instances, 0 past the last and clamped to the classes that there are; and whether one is wrong."""
    labels = tl.load(sample + LABELS).to(tl.pointer_type(tl.int64))
    label = tl.load(labels + k, mask=k < instances, other=0)
    wrong = tl.max(((label < 0) | (label >= CLASSES)).to(tl.int32), 0)
    return tl.minimum(tl.maximum(label, 0), CLASSES - 1).to(tl.int32), wrong


@triton.jit(do_not_specialize=["LAYERS", "BLOCKS"])
def costs(
    samples, entries, counts, part_softplus, part_logit, part_prob, sizes, prob, cost, bad, LAYERS, BLOCKS,
    bce_weight, dice_weight, class_price, CLASSES: tl.constexpr, WIDTH: tl.constexpr, LOG_ODDS: tl.constexpr,
    ELEMENT: tl.constexpr, SCORE: tl.constexpr, COLUMNS: tl.constexpr, BQ: tl.constexpr, CHUNK: tl.constexpr,
    COUNT_CHUNK: tl.constexpr,
):  # fmt: skip
    """Add the partial sums up; write summed probabilities, and what each query costs for each instance.

    A pair that is not allowed costs infinity, and so does one whose cost is not a number.
    """
    entry = tl.program_id(1)
    sample, queries, instances, first_row = sample_of(samples, entry, LAYERS)
    if tl.program_id(0) * BQ >= queries:
        return
    points = tl.load(sample + POINTS).to(tl.int32)
    k = tl.arange(0, COLUMNS)
    q = tl.program_id(0) * BQ + tl.arange(0, BQ)
    real = q < queries
    size = tl.zeros((COLUMNS,), tl.int32)
    for chunk in range(0, tl.cdiv(points, COUNT_CHUNK), 8):
        line = chunk + tl.arange(0, 8)
        cell = (tl.load(sample + COUNTS) + line)[:, None] * COLUMNS + k[None, :]
        size += tl.sum(tl.load(counts + cell, mask=(line * COUNT_CHUNK < points)[:, None], other=0), 0)
    softplus = tl.zeros((BQ,), tl.float32)
    inside_logit = tl.zeros((BQ, COLUMNS), tl.float32)
    inside = tl.zeros((BQ, COLUMNS), tl.float32)
    part = tl.load(sample + PARTS) + entry % LAYERS * queries + q
    pitch = queries.to(tl.int64) * LAYERS
    for chunk in range(0, tl.cdiv(points, CHUNK), 4):
        for step in tl.static_range(4):  # loads of four lines are under way at a time
            line = part + (chunk + step) * pitch
            there = q < tl.where((chunk + step) * CHUNK < points, queries, 0)
            cell = line[:, None] * COLUMNS + k[None, :]
            softplus += tl.load(part_softplus + line, mask=there, other=0.0)
            inside_logit += tl.load(part_logit + cell, mask=there[:, None], other=0.0)
            inside += tl.load(part_prob + cell, mask=there[:, None], other=0.0)
    label, wrong = instance_labels(sample, k, instances, CLASSES)
    logits, _logsum, belief = class_logits(entries, entry, q, queries, label, ELEMENT, CLASSES, WIDTH, LOG_ODDS)
    bce = (softplus[:, None] - inside_logit) / tl.maximum(points, 1).to(tl.float32)
    dice = 1.0 - (2.0 * inside + 1.0) / (tl.sum(inside, 1)[:, None] + size.to(tl.float32)[None, :] + 1.0)
    total = bce_weight * bce + dice_weight * dice - class_price * belief
    allowed = real[:, None] & ((k < instances) & (size > 0))[None, :]
    query_masks = tl.load(sample + QUERY_MASKS)
    if query_masks != 0:
        pointer = query_masks.to(tl.pointer_type(tl.int8)) + k[None, :] * queries + q[:, None]
        allowed = allowed & (tl.load(pointer, mask=allowed, other=0) != 0)
    total = tl.where(allowed & (total == total), total, INFINITY)
    cell = (first_row + q)[:, None] * COLUMNS + k[None, :]
    tl.store(prob + cell, inside, mask=real[:, None])
    tl.store(cost + cell, total, mask=real[:, None])
    if (tl.program_id(0) == 0) & (entry % LAYERS == 0):
        tl.store(sizes + entry // LAYERS * COLUMNS + k, size.to(tl.float32))
    # what a check will find: masks, classes, scores, labels
    sums = softplus + tl.sum(inside_logit, 1)
    line = bad + (entry * BLOCKS + tl.program_id(0)) * 4
    tl.store(line, tl.max((tl.abs(sums) < INFINITY).to(tl.int32) ^ 1, 0))
    finite = (tl.abs(logits) < INFINITY) | (tl.arange(0, WIDTH) > CLASSES)[None, :]
    tl.store(line + 1, tl.max(tl.max(finite.to(tl.int32) ^ 1, 1), 0))
    scores = tl.load(entries + entry * ENTRY + 2)
    score = tl.zeros((BQ,), tl.float32)
    if scores != 0:
        score = tl.load(scores.to(tl.pointer_type(SCORE)) + q, mask=real, other=0.0).to(tl.float32)
    tl.store(line + 2, tl.max((tl.abs(score) < INFINITY).to(tl.int32) ^ 1, 0))
    tl.store(line + 3, wrong)


@triton.jit
def _cheapest(cost, row, queries, own, COLUMNS: tl.constexpr, BQ: tl.constexpr):
    """Least cost of each instance over queries that are not in `own`, and the first query that has it."""
    k = tl.arange(0, COLUMNS)
    best = tl.full((COLUMNS,), INFINITY, tl.float32)
    who = tl.full((COLUMNS,), _NO_QUERY, tl.int32)
    for first in range(0, queries, BQ):
        q = first + tl.arange(0, BQ)
        price = tl.load(
            cost + (row + q)[:, None] * COLUMNS + k[None, :], mask=(q < queries)[:, None], other=INFINITY
        )  # fmt: skip
        taken = tl.max((q[:, None] == own[None, :]).to(tl.int32), 1)
        price = tl.where(taken[:, None] != 0, INFINITY, price)
        least = tl.min(price, 0)
        name = tl.min(tl.where(price == least[None, :], q[:, None], _NO_QUERY), 0)
        who = tl.where(least < best, name, who)
        best = tl.minimum(least, best)
    return best, who


@triton.jit(do_not_specialize=["LAYERS"])
def assign(
    samples, cost, own_out, cheapest, norm, LAYERS, temperature, COLUMNS: tl.constexpr, BQ: tl.constexpr,
    EVERY_LAYER: tl.constexpr,
):  # fmt: skip
    """Own queries, and what turns costs into influences: the least cost and 1 / sum exp, per instance.

    Own queries are the greedy matching by cost (ties: lower instance, then lower query). The cheapest free query of an
    instance stays valid until it is taken, and its price bounds the next from below, so the queries are scanned again
    only when an instance that names a taken query comes to be the cheapest.
    """
    entry = tl.program_id(0)
    if (not EVERY_LAYER) & (entry % LAYERS != LAYERS - 1):
        return
    _sample, queries, _instances, row = sample_of(samples, entry, LAYERS)
    k = tl.arange(0, COLUMNS)
    own = tl.full((COLUMNS,), -1, tl.int32)
    best, who = _cheapest(cost, row, queries, own, COLUMNS, BQ)
    tl.store(cheapest + entry * COLUMNS + k, best)
    floor = tl.where(best < INFINITY, best, 0.0)
    total = tl.zeros((COLUMNS,), tl.float32)
    for first in range(0, queries, BQ):
        q = first + tl.arange(0, BQ)
        price = tl.load(
            cost + (row + q)[:, None] * COLUMNS + k[None, :], mask=(q < queries)[:, None], other=INFINITY
        )  # fmt: skip
        total += tl.sum(tl.exp((floor[None, :] - price) / temperature), 0)
    tl.store(norm + entry * COLUMNS + k, tl.where(total > 0, 1.0 / tl.maximum(total, 1.0), 0.0))
    price = tl.min(best, 0)
    while price < INFINITY:
        instance = tl.min(tl.where(best == price, k, COLUMNS), 0)
        query = tl.min(tl.where(k == instance, who, _NO_QUERY), 0)
        if tl.max((own == query).to(tl.int32), 0) == 0:
            own = tl.where(k == instance, query, own)
            best = tl.where(k == instance, INFINITY, best)
        else:
            again, name = _cheapest(cost, row, queries, own, COLUMNS, BQ)
            best = tl.where(own < 0, again, INFINITY)
            who = tl.where(own < 0, name, who)
        price = tl.min(best, 0)
    tl.store(own_out + entry * COLUMNS + k, own)


@triton.jit
def shares_of(cost, row, q, queries, k, cheapest, norm, temperature, COLUMNS: tl.constexpr):
    """Influences of some queries in some instances."""
    price = tl.load(
        cost + (row + q)[:, None] * COLUMNS + k[None, :], mask=(q < queries)[:, None], other=INFINITY
    )  # fmt: skip
    least = tl.load(cheapest + k)
    floor = tl.where(least < INFINITY, least, 0.0)
    return tl.exp((floor[None, :] - price) / temperature) * tl.load(norm + k)[None, :]


@triton.jit(do_not_specialize=["LAYERS"])
def overlaps(
    samples, cost, cheapest, norm, overlap, LAYERS, temperature, COLUMNS: tl.constexpr, BK: tl.constexpr,
    BQ: tl.constexpr, EVERY_LAYER: tl.constexpr,
):  # fmt: skip
    """Products of the influences of every two instances, summed over queries."""
    entry = tl.program_id(2)
    if (not EVERY_LAYER) & (entry % LAYERS != LAYERS - 1):
        return
    _sample, queries, _instances, row = sample_of(samples, entry, LAYERS)
    one = tl.program_id(0) * BK + tl.arange(0, BK)
    other = tl.program_id(1) * BK + tl.arange(0, BK)
    cheapest += entry * COLUMNS
    norm += entry * COLUMNS
    total = tl.zeros((BK, BK), tl.float32)
    for first in range(0, queries, BQ):
        q = first + tl.arange(0, BQ)
        share_one = shares_of(cost, row, q, queries, one, cheapest, norm, temperature, COLUMNS)
        share_other = shares_of(cost, row, q, queries, other, cheapest, norm, temperature, COLUMNS)
        total = tl.dot(tl.trans(share_one), share_other, total, input_precision="ieee")
    tl.store(overlap + (entry * COLUMNS + one)[:, None] * COLUMNS + other[None, :], total)
