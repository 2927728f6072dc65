"""From the sums over points to costs, influences and own queries, for all layers and samples of a step at once.

Shape legend: as in `layout`; every matrix of a step is (R, columns), column k speaks of instance k, column K of the
points of none. A program holds whole rows, or loops over all queries of one layer and sample.

With the sums of `sums`, N points and size[k] points of instance k:

    bce[q, k]  = (softplus[q] - logit[q, k]) / N
    dice[q, k] = 1 - (2 prob[q, k] + 1) / (sum_j prob[q, j] + size[k] + 1)
    cost[q, k] = w_bce bce[q, k] + w_dice dice[q, k] - w_class belief of q in the class of k

    belief            = p(class of k), or its log-odds against "no object"
    influence I[q, k] = exp((min_j cost[j, k] - cost[q, k]) / T) norm[k]        a softmax over queries
    own[k]            = greedy matching by cost, without a solver
    overlap[k, l]     = sum_q I[q, k] I[q, l]

These are the formulas of `influencer_mmdet3d.loss.assignment`.
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
def sample_of(
    samples_ptr,  # (B, SAMPLE) int64, a line for each sample, see `layout`
    entry,  # number of layer and sample
    LAYERS,  # L
):
    """The line of the table, and the sizes, that an entry (sample, then layer) belongs to."""
    sample_ptr = samples_ptr + entry // LAYERS * SAMPLE
    queries = tl.load(sample_ptr + QUERIES).to(tl.int32)
    instances = tl.load(sample_ptr + INSTANCES).to(tl.int32)
    row = tl.load(sample_ptr + ROWS).to(tl.int32) + entry % LAYERS * queries
    return sample_ptr, queries, instances, row


@triton.jit
def class_logits(
    entries_ptr,  # (B, L, ENTRY) int64, addresses of each layer's tensors
    entry,  # number of layer and sample
    q,  # (rows,) queries
    queries,  # Q of the sample
    labels,  # (COLUMNS,) class of each instance
    ELEMENT: tl.constexpr,  # type of the class logits
    CLASSES: tl.constexpr,  # C
    WIDTH: tl.constexpr,  # a power of two above C
    LOG_ODDS: tl.constexpr,  # belief by log-odds against no object, else by probability
):
    """Class logits (rows, WIDTH) of some queries, their logsumexp, and their belief in each instance's class."""
    head_ptr = tl.load(entries_ptr + entry * ENTRY + 1).to(tl.pointer_type(ELEMENT))
    c = tl.arange(0, WIDTH)
    cell = q[:, None] * (CLASSES + 1)
    inside = (q < queries)[:, None]
    logits = tl.load(head_ptr + cell + c[None, :], mask=inside & (c <= CLASSES)[None, :], other=float("-inf"))
    logits = tl.where(inside, logits.to(tl.float32), 0.0)
    largest = tl.max(logits, 1)
    logsum = largest + tl.log(tl.sum(tl.exp(logits - largest[:, None]), 1))
    wanted = tl.load(head_ptr + cell + labels[None, :], mask=inside, other=0.0).to(tl.float32)
    if LOG_ODDS:
        belief = wanted - tl.sum(tl.where((c == CLASSES)[None, :], logits, 0.0), 1)[:, None]
    else:
        belief = tl.exp(wanted - logsum[:, None])
    return logits, logsum, belief


@triton.jit
def instance_labels(
    sample_ptr,  # the sample's line of the table
    k,  # (COLUMNS,) instances
    instances,  # K of the sample
    CLASSES: tl.constexpr,  # C
):
    """Labels of instances, 0 past the last and clamped to the classes that there are; and whether one is wrong."""
    labels_ptr = tl.load(sample_ptr + LABELS).to(tl.pointer_type(tl.int64))
    label = tl.load(labels_ptr + k, mask=k < instances, other=0)
    wrong = tl.max(((label < 0) | (label >= CLASSES)).to(tl.int32), 0)
    return tl.minimum(tl.maximum(label, 0), CLASSES - 1).to(tl.int32), wrong


@triton.jit(do_not_specialize=["LAYERS", "BLOCKS"])
def costs(
    samples_ptr,  # (B, SAMPLE) int64, a line for each sample, see `layout`
    entries_ptr,  # (B, L, ENTRY) int64, addresses of each layer's tensors
    counts_ptr,  # (partial counts, COLUMNS) int32, points of each instance
    part_softplus_ptr,  # (P,) float32, partial sums over points
    part_logit_ptr,  # (P, COLUMNS) float32
    part_prob_ptr,  # (P, COLUMNS) float32
    sizes_ptr,  # out: (B, COLUMNS) float32, points of each instance
    prob_ptr,  # out: (R, COLUMNS) float32, summed probabilities
    cost_ptr,  # out: (R, COLUMNS) float32
    bad_ptr,  # out: (B L, BLOCKS, 4) int32, 1 where masks, classes, scores or labels are wrong
    LAYERS,  # L
    BLOCKS,  # programs of each layer and sample
    bce_weight,  # w_bce
    dice_weight,  # w_dice
    class_price,  # w_class
    CLASSES: tl.constexpr,  # C
    WIDTH: tl.constexpr,  # a power of two above C
    LOG_ODDS: tl.constexpr,  # belief by log-odds against no object, else by probability
    ELEMENT: tl.constexpr,  # type of the class logits
    SCORE: tl.constexpr,  # type of the scores
    COLUMNS: tl.constexpr,  # of the small matrices: a power of two above the largest K
    BQ: tl.constexpr,  # queries of a program
    CHUNK: tl.constexpr,  # points of a partial sum
    COUNT_CHUNK: tl.constexpr,  # points of a partial count
):
    """Add the partial sums up; write summed probabilities, and what each query costs for each instance.

    A pair that is not allowed costs infinity, and so does one whose cost is not a number.
    """
    entry = tl.program_id(1)
    sample_ptr, queries, instances, first_row = sample_of(samples_ptr, entry, LAYERS)
    if tl.program_id(0) * BQ >= queries:
        return
    points = tl.load(sample_ptr + POINTS).to(tl.int32)
    k = tl.arange(0, COLUMNS)
    q = tl.program_id(0) * BQ + tl.arange(0, BQ)
    real = q < queries
    size = tl.zeros((COLUMNS,), tl.int32)
    for chunk in range(0, tl.cdiv(points, COUNT_CHUNK), 8):
        line = chunk + tl.arange(0, 8)
        cell = (tl.load(sample_ptr + COUNTS) + line)[:, None] * COLUMNS + k[None, :]
        size += tl.sum(tl.load(counts_ptr + cell, mask=(line * COUNT_CHUNK < points)[:, None], other=0), 0)
    softplus = tl.zeros((BQ,), tl.float32)
    inside_logit = tl.zeros((BQ, COLUMNS), tl.float32)
    inside = tl.zeros((BQ, COLUMNS), tl.float32)
    part = tl.load(sample_ptr + PARTS) + entry % LAYERS * queries + q
    pitch = queries.to(tl.int64) * LAYERS
    for chunk in range(0, tl.cdiv(points, CHUNK), 4):
        for step in tl.static_range(4):  # loads of four lines are under way at a time
            line = part + (chunk + step) * pitch
            there = q < tl.where((chunk + step) * CHUNK < points, queries, 0)
            cell = line[:, None] * COLUMNS + k[None, :]
            softplus += tl.load(part_softplus_ptr + line, mask=there, other=0.0)
            inside_logit += tl.load(part_logit_ptr + cell, mask=there[:, None], other=0.0)
            inside += tl.load(part_prob_ptr + cell, mask=there[:, None], other=0.0)
    label, wrong = instance_labels(sample_ptr, k, instances, CLASSES)
    logits, _logsum, belief = class_logits(entries_ptr, entry, q, queries, label, ELEMENT, CLASSES, WIDTH, LOG_ODDS)
    bce = (softplus[:, None] - inside_logit) / tl.maximum(points, 1).to(tl.float32)
    dice = 1.0 - (2.0 * inside + 1.0) / (tl.sum(inside, 1)[:, None] + size.to(tl.float32)[None, :] + 1.0)
    total = bce_weight * bce + dice_weight * dice - class_price * belief
    allowed = real[:, None] & ((k < instances) & (size > 0))[None, :]
    query_masks_ptr = tl.load(sample_ptr + QUERY_MASKS)
    if query_masks_ptr != 0:
        mask_ptr = query_masks_ptr.to(tl.pointer_type(tl.int8)) + k[None, :] * queries + q[:, None]
        allowed = allowed & (tl.load(mask_ptr, mask=allowed, other=0) != 0)
    total = tl.where(allowed & (total == total), total, INFINITY)
    cell = (first_row + q)[:, None] * COLUMNS + k[None, :]
    tl.store(prob_ptr + cell, inside, mask=real[:, None])
    tl.store(cost_ptr + cell, total, mask=real[:, None])
    if (tl.program_id(0) == 0) & (entry % LAYERS == 0):
        tl.store(sizes_ptr + entry // LAYERS * COLUMNS + k, size.to(tl.float32))
    # what a check will find: masks, classes, scores, labels
    sums = softplus + tl.sum(inside_logit, 1)
    line = bad_ptr + (entry * BLOCKS + tl.program_id(0)) * 4
    tl.store(line, tl.max((tl.abs(sums) < INFINITY).to(tl.int32) ^ 1, 0))
    finite = (tl.abs(logits) < INFINITY) | (tl.arange(0, WIDTH) > CLASSES)[None, :]
    tl.store(line + 1, tl.max(tl.max(finite.to(tl.int32) ^ 1, 1), 0))
    scores_ptr = tl.load(entries_ptr + entry * ENTRY + 2)
    score = tl.zeros((BQ,), tl.float32)
    if scores_ptr != 0:
        score = tl.load(scores_ptr.to(tl.pointer_type(SCORE)) + q, mask=real, other=0.0).to(tl.float32)
    tl.store(line + 2, tl.max((tl.abs(score) < INFINITY).to(tl.int32) ^ 1, 0))
    tl.store(line + 3, wrong)


@triton.jit
def _cheapest(
    cost_ptr,  # (R, COLUMNS) float32, infinity for pairs that are not allowed
    row,  # first row of the entry
    queries,  # Q
    own,  # (COLUMNS,) queries that are taken
    COLUMNS: tl.constexpr,  # of the small matrices: a power of two above the largest K
    BQ: tl.constexpr,  # queries that are looked at together
):
    """Least cost of each instance over queries that are not in `own`, and the first query that has it."""
    k = tl.arange(0, COLUMNS)
    best = tl.full((COLUMNS,), INFINITY, tl.float32)
    who = tl.full((COLUMNS,), _NO_QUERY, tl.int32)
    for first in range(0, queries, BQ):
        q = first + tl.arange(0, BQ)
        price = tl.load(
            cost_ptr + (row + q)[:, None] * COLUMNS + k[None, :], mask=(q < queries)[:, None], other=INFINITY
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
    samples_ptr,  # (B, SAMPLE) int64, a line for each sample, see `layout`
    cost_ptr,  # (R, COLUMNS) float32, infinity for pairs that are not allowed
    own_out_ptr,  # out: (B L, COLUMNS) int32, own query of each instance, -1 without
    cheapest_ptr,  # out: (B L, COLUMNS) float32, least cost of each instance
    norm_ptr,  # out: (B L, COLUMNS) float32, 1 / sum_q exp of each instance
    LAYERS,  # L
    temperature,  # T
    COLUMNS: tl.constexpr,  # of the small matrices: a power of two above the largest K
    BQ: tl.constexpr,  # queries that are looked at together
    EVERY_LAYER: tl.constexpr,  # False: the last layer's assignment serves all
):
    """Own queries, and what turns costs into influences: the least cost and 1 / sum exp, per instance.

    Own queries are the greedy matching by cost (ties: lower instance, then lower query). The cheapest free query of an
    instance stays valid until it is taken, and its price bounds the next from below, so the queries are scanned again
    only when an instance that names a taken query comes to be the cheapest.
    """
    entry = tl.program_id(0)
    if (not EVERY_LAYER) & (entry % LAYERS != LAYERS - 1):
        return
    _sample_ptr, queries, _instances, row = sample_of(samples_ptr, entry, LAYERS)
    k = tl.arange(0, COLUMNS)
    own = tl.full((COLUMNS,), -1, tl.int32)
    best, who = _cheapest(cost_ptr, row, queries, own, COLUMNS, BQ)
    tl.store(cheapest_ptr + entry * COLUMNS + k, best)
    floor = tl.where(best < INFINITY, best, 0.0)
    total = tl.zeros((COLUMNS,), tl.float32)
    for first in range(0, queries, BQ):
        q = first + tl.arange(0, BQ)
        price = tl.load(
            cost_ptr + (row + q)[:, None] * COLUMNS + k[None, :], mask=(q < queries)[:, None], other=INFINITY
        )  # fmt: skip
        total += tl.sum(tl.exp((floor[None, :] - price) / temperature), 0)
    tl.store(norm_ptr + entry * COLUMNS + k, tl.where(total > 0, 1.0 / tl.maximum(total, 1.0), 0.0))
    price = tl.min(best, 0)
    while price < INFINITY:
        instance = tl.min(tl.where(best == price, k, COLUMNS), 0)
        query = tl.min(tl.where(k == instance, who, _NO_QUERY), 0)
        if tl.max((own == query).to(tl.int32), 0) == 0:
            own = tl.where(k == instance, query, own)
            best = tl.where(k == instance, INFINITY, best)
        else:
            again, name = _cheapest(cost_ptr, row, queries, own, COLUMNS, BQ)
            best = tl.where(own < 0, again, INFINITY)
            who = tl.where(own < 0, name, who)
        price = tl.min(best, 0)
    tl.store(own_out_ptr + entry * COLUMNS + k, own)


@triton.jit
def shares_of(
    cost_ptr,  # (R, COLUMNS) float32, infinity for pairs that are not allowed
    row,  # first row of the entry
    q,  # (BQ,) queries
    queries,  # Q
    k,  # (BK,) instances
    cheapest_ptr,  # (COLUMNS,) of this entry
    norm_ptr,  # (COLUMNS,) of this entry
    temperature,  # T
    COLUMNS: tl.constexpr,  # of the small matrices: a power of two above the largest K
):
    """Influences of some queries in some instances."""
    price = tl.load(
        cost_ptr + (row + q)[:, None] * COLUMNS + k[None, :], mask=(q < queries)[:, None], other=INFINITY
    )  # fmt: skip
    least = tl.load(cheapest_ptr + k)
    floor = tl.where(least < INFINITY, least, 0.0)
    return tl.exp((floor[None, :] - price) / temperature) * tl.load(norm_ptr + k)[None, :]


@triton.jit(do_not_specialize=["LAYERS"])
def overlaps(
    samples_ptr,  # (B, SAMPLE) int64, a line for each sample, see `layout`
    cost_ptr,  # (R, COLUMNS) float32, infinity for pairs that are not allowed
    cheapest_ptr,  # (B L, COLUMNS) float32, least cost of each instance
    norm_ptr,  # (B L, COLUMNS) float32, 1 / sum_q exp of each instance's influences
    overlap_ptr,  # out: (B L, COLUMNS, COLUMNS) float32
    LAYERS,  # L
    temperature,  # T
    COLUMNS: tl.constexpr,  # of the small matrices: a power of two above the largest K
    BK: tl.constexpr,  # instances of a block
    BQ: tl.constexpr,  # queries that are looked at together
    EVERY_LAYER: tl.constexpr,  # False: the last layer's assignment serves all
):
    """Products of the influences of every two instances, summed over queries."""
    entry = tl.program_id(2)
    if (not EVERY_LAYER) & (entry % LAYERS != LAYERS - 1):
        return
    _sample_ptr, queries, _instances, row = sample_of(samples_ptr, entry, LAYERS)
    one = tl.program_id(0) * BK + tl.arange(0, BK)
    other = tl.program_id(1) * BK + tl.arange(0, BK)
    cheapest_ptr += entry * COLUMNS
    norm_ptr += entry * COLUMNS
    total = tl.zeros((BK, BK), tl.float32)
    for first in range(0, queries, BQ):
        q = first + tl.arange(0, BQ)
        share_one = shares_of(cost_ptr, row, q, queries, one, cheapest_ptr, norm_ptr, temperature, COLUMNS)
        share_other = shares_of(cost_ptr, row, q, queries, other, cheapest_ptr, norm_ptr, temperature, COLUMNS)
        total = tl.dot(tl.trans(share_one), share_other, total, input_precision="ieee")
    tl.store(overlap_ptr + (entry * COLUMNS + one)[:, None] * COLUMNS + other[None, :], total)
