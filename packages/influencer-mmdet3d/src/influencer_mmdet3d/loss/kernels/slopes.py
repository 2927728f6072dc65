"""The loss of a step and its slopes with respect to the sums over points, class logits and scores.

Shape legend: as in `layout`; blocks are groups of queries that one program handles.

With costs, influences I and own queries of `pairs`, c the mask part of the cost, s the soft share, one layer's loss is

    mean over samples of w_class classification + w_bg background + w_others others
    + mean over samples that hold instances of w_attr attraction + w_rep repulsion + w_score score, where

    attraction     = (1 - s) mean_k c[own(k), k] + s mean_k sum_q I[q, k] c[q, k]        I is constant here
    repulsion      = mean_{k != l} max(0, overlap[k, l] - (1 - margin))
    background     = mean_q prob[q, K] / size[K]                                         column K: points of no instance
    classification = weighted cross-entropy against the own instance's class, or "no object"
    score          = mean_k (score[own(k)] - iou[own(k), k])^2,   others = mean of score^2 over the other queries

and the slopes are

    by cost[q, k]    g = attraction's factor of c[q, k]
                         - 2 w_rep / (pairs T) I[q, k] sum_l h[k, l] (I[q, l] - overlap[k, l])
                     with h[k, l] = 1 where the hinge is open
    by softplus[q]   sum_k w_bce g[q, k] / N,   by logit[q, k]   -w_bce g[q, k] / N
    by prob[q, j]    sum_k w_dice g[q, k] ((2 prob[q, k] + 1) / (area + 1)^2 - 2 [j = k] / (area + 1)), with
                     area = sum_i prob[q, i] + size[k]; and w_bg / (B Q size[K]) for j = K

These are the formulas of `influencer_mmdet3d.loss.losses` and `influencer_mmdet3d.loss.set_loss`, and their
derivatives. Each kernel is long because it is one pass: what it has read or derived serves all terms.
"""

# mypy: disallow-untyped-defs=False
# Arguments of kernels are what Triton makes of them; the functions that launch kernels are typed.
from __future__ import annotations

import triton
import triton.language as tl

from influencer_mmdet3d.loss.kernels.pairs import INFINITY, TINY, class_logits, instance_labels, sample_of, shares_of
from influencer_mmdet3d.loss.kernels.sums import ENTRY, INSTANCES, POINTS, QUERIES, SAMPLE

# Parts of the loss, summed over the queries of a block.
PARTS = ("own", "soft", "background", "classification", "score", "objectness", "repulsion", "other scores")
OWN, SOFT, BACKGROUND, CLASSIFICATION, SCORE, OBJECTNESS, REPULSION, OTHER_SCORES = (
    tl.constexpr(i) for i in range(len(PARTS))
)
_LINES = tl.constexpr(16)
# Sizes that change from step to step must not make Triton compile anew.
UNSPECIALIZED = ("LAYERS", "BATCH", "BLOCKS")
# What the log gets, after the loss itself.
DIAGNOSTICS = ("attraction", "repulsion", "background", "own_query_share", "duplicate_rate", "objectness")


@triton.jit
def _filled(
    cheapest_ptr,  # (B L, COLUMNS) float32, least cost of each instance
    sample,  # (rows,) numbers of samples
    LAYERS,  # L
    BATCH,  # B
    COLUMNS: tl.constexpr,  # of the small matrices: a power of two above the largest K
):
    """Whether samples hold an instance that some query may take, as 1.0 or 0.0; 0.0 past the last sample."""
    k = tl.arange(0, COLUMNS)
    cell = ((sample + 1) * LAYERS - 1)[:, None] * COLUMNS + k[None, :]
    least = tl.min(tl.load(cheapest_ptr + cell, mask=(sample < BATCH)[:, None], other=INFINITY), 1)
    return (least < INFINITY).to(tl.float32)


@triton.jit
def _pull_apart(
    cost_ptr,  # (R, COLUMNS) float32, infinity for pairs that are not allowed
    overlap_ptr,  # (COLUMNS, COLUMNS) of this entry
    cheapest_ptr,  # (COLUMNS,) of this entry
    norm_ptr,  # (COLUMNS,) of this entry
    row,  # first row of the entry
    q,  # (BQ,) queries
    queries,  # Q
    share,  # (BQ, COLUMNS) influences of these queries
    shared,  # (COLUMNS,) whether some query may take the instance
    threshold,  # 1 - margin
    temperature,  # T
    COLUMNS: tl.constexpr,  # of the small matrices: a power of two above the largest K
    BK: tl.constexpr,  # instances that are looked at together
    BQ: tl.constexpr,  # queries of a program
):
    """Repulsion: the hinge's sum, and half its slope by the share of every pair and by its softmax's common part."""
    k = tl.arange(0, COLUMNS)
    slope = tl.zeros((BQ, COLUMNS), tl.float32)
    common = tl.zeros((COLUMNS,), tl.float32)
    value = 0.0
    for first in range(0, COLUMNS, BK):
        other = first + tl.arange(0, BK)
        product = tl.load(overlap_ptr + other[:, None] * COLUMNS + k[None, :])
        pair = (tl.load(cheapest_ptr + other) < INFINITY)[:, None] & shared[None, :] & (other[:, None] != k[None, :])
        hinge = tl.where(pair & (product >= threshold), 1.0, 0.0)
        value += tl.sum(hinge * (product - threshold))
        common += tl.sum(hinge * product, 0)
        share_other = shares_of(cost_ptr, row, q, queries, other, cheapest_ptr, norm_ptr, temperature, COLUMNS)
        slope = tl.dot(share_other, hinge, slope, input_precision="ieee")
    return value, share * (slope - common[None, :])


@triton.jit(do_not_specialize=UNSPECIALIZED)
def slopes(
    samples_ptr,  # (B, SAMPLE) int64, a line for each sample, see `layout`
    entries_ptr,  # (B, L, ENTRY) int64, addresses of each layer's tensors
    sizes_ptr,  # (B, COLUMNS) float32, points of each instance
    prob_ptr,  # (R, COLUMNS) float32, summed probabilities
    cost_ptr,  # (R, COLUMNS) float32, infinity for pairs that are not allowed
    own_ptr,  # (B L, COLUMNS) int32, own query of each instance
    cheapest_ptr,  # (B L, COLUMNS) float32, least cost of each instance
    norm_ptr,  # (B L, COLUMNS) float32, 1 / sum_q exp of each instance's influences
    overlap_ptr,  # (B L, COLUMNS, COLUMNS) float32
    parts_ptr,  # out: (B L, BLOCKS, 8) float32, PARTS of the loss
    covered_ptr,  # out: (B, BLOCKS, COLUMNS) float32, object queries on each instance
    d_softplus_ptr,  # out: (R,) float32, slopes of the loss by the sums over points
    d_logit_ptr,  # out: (R, COLUMNS) float32
    d_prob_ptr,  # out: (R, COLUMNS) float32
    d_class_ptr,  # out: (R, C + 1) float32, by the class logits
    d_score_ptr,  # out: (R,) float32, by the scores
    LAYERS,  # L
    BATCH,  # B
    BLOCKS,  # programs of each layer and sample
    temperature,  # T
    soft_share,  # s
    threshold,  # 1 - margin
    class_weight,  # weights of the terms, and of the cost's parts
    bce_weight,
    dice_weight,
    score_weight,
    attr_weight,
    rep_weight,
    bg_weight,
    class_price,  # weight of the class in the cost
    non_object_weight,  # class weight of "no object"
    others_weight,  # of the scores of queries without an instance
    CLASSES: tl.constexpr,  # C
    WIDTH: tl.constexpr,  # a power of two above C
    LOG_ODDS: tl.constexpr,  # belief by log-odds against no object, else by probability
    ELEMENT: tl.constexpr,  # type of the class logits
    SCORE_ELEMENT: tl.constexpr,  # type of the scores
    COLUMNS: tl.constexpr,  # of the small matrices: a power of two above the largest K
    BK: tl.constexpr,  # instances that are looked at together
    BQ: tl.constexpr,  # queries of a program
    BATCH_WIDTH: tl.constexpr,  # a power of two from B on
    EVERY_LAYER: tl.constexpr,  # False: the last layer's assignment serves all
):
    """Parts of the loss of a block of queries, and every slope of theirs."""
    entry = tl.program_id(1)
    sample_ptr, queries, instances, row = sample_of(samples_ptr, entry, LAYERS)
    if tl.program_id(0) * BQ >= queries:
        return
    points = tl.load(sample_ptr + POINTS).to(tl.int32)
    source = entry if EVERY_LAYER else entry // LAYERS * LAYERS + LAYERS - 1
    source_row = row if EVERY_LAYER else row + (source - entry) * queries
    k = tl.arange(0, COLUMNS)
    q = tl.program_id(0) * BQ + tl.arange(0, BQ)
    real = q < queries
    b = tl.arange(0, BATCH_WIDTH)
    filled = _filled(cheapest_ptr, b, LAYERS, BATCH, COLUMNS)
    # an entry of a sample without instances has neither mask nor score terms
    weight = tl.sum(tl.where(b == entry // LAYERS, filled, 0.0), 0) / tl.maximum(tl.sum(filled, 0), 1.0)

    own_ptr += source * COLUMNS
    cheapest_ptr += source * COLUMNS
    norm_ptr += source * COLUMNS
    mine = tl.load(own_ptr + k)
    shared = tl.load(cheapest_ptr + k) < INFINITY
    owned_count = tl.sum((mine >= 0).to(tl.float32), 0)
    shared_count = tl.sum(shared.to(tl.float32), 0)
    match = (mine[None, :] == q[:, None]) & real[:, None]
    owner = tl.max(match.to(tl.int32), 1) != 0
    share = shares_of(cost_ptr, source_row, q, queries, k, cheapest_ptr, norm_ptr, temperature, COLUMNS)

    label, _wrong = instance_labels(sample_ptr, k, instances, CLASSES)
    logits, logsum, belief = class_logits(entries_ptr, entry, q, queries, label, ELEMENT, CLASSES, WIDTH, LOG_ODDS)
    cell = (row + q)[:, None] * COLUMNS + k[None, :]
    inside = tl.load(prob_ptr + cell, mask=real[:, None], other=0.0)
    size = tl.load(sizes_ptr + entry // LAYERS * COLUMNS + k)
    area = tl.sum(inside, 1)[:, None] + size[None, :]
    iou = inside / tl.maximum(area - inside, TINY)
    price = tl.load(cost_ptr + cell, mask=real[:, None], other=INFINITY)
    mask_cost = tl.where(price < INFINITY, price + class_price * belief, 0.0)

    line_ptr = parts_ptr + (entry * BLOCKS + tl.program_id(0)) * 8
    tl.store(line_ptr + OWN, tl.sum(tl.where(match, mask_cost, 0.0)))
    tl.store(line_ptr + SOFT, tl.sum(share * mask_cost))
    slope = weight * attr_weight * (
        tl.where(match, (1.0 - soft_share) / tl.maximum(owned_count, 1.0), 0.0)
        + share * (soft_share / tl.maximum(shared_count, 1.0))
    )  # fmt: skip
    pairs = tl.maximum(shared_count * (shared_count - 1.0), 1.0)
    value, apart = _pull_apart(
        cost_ptr, overlap_ptr + source * COLUMNS * COLUMNS, cheapest_ptr, norm_ptr, source_row, q, queries, share,
        shared, threshold, temperature, COLUMNS, BK, BQ,
    )  # fmt: skip
    tl.store(line_ptr + REPULSION, value / pairs)
    # all layers that share the last one's assignment repel through the last one's costs
    times = 1.0 if EVERY_LAYER else tl.where(entry == source, LAYERS * 1.0, 0.0)
    slope -= apart * (times * weight * rep_weight * 2.0 / (pairs * temperature))

    # through the costs to the sums over points
    by_bce = slope * (bce_weight / tl.maximum(points, 1).to(tl.float32))
    tl.store(d_softplus_ptr + row + q, tl.sum(by_bce, 1), mask=real)
    tl.store(d_logit_ptr + cell, -by_bce, mask=real[:, None])
    by_dice = slope * dice_weight / (area + 1.0)
    common = tl.sum(by_dice * (2.0 * inside + 1.0) / (area + 1.0), 1)
    none = k == instances
    none_size = tl.maximum(tl.sum(tl.where(none, size, 0.0), 0), 1.0)
    outside = tl.sum(tl.where(none[None, :], inside, 0.0), 1) / none_size
    tl.store(line_ptr + BACKGROUND, tl.sum(outside))
    spill = bg_weight / (BATCH * queries * none_size)
    tl.store(
        d_prob_ptr + cell, common[:, None] - 2.0 * by_dice + tl.where(none, spill, 0.0)[None, :], mask=real[:, None]
    )

    # classes
    c = tl.arange(0, WIDTH)
    target = tl.where(owner, tl.sum(tl.where(match, label[None, :], 0), 1), CLASSES)
    hit = c[None, :] == target[:, None]
    row_weight = tl.where(real, tl.where(owner, 1.0, non_object_weight), 0.0)
    total = tl.maximum(owned_count + (queries - owned_count) * non_object_weight, TINY)
    tl.store(line_ptr + CLASSIFICATION, tl.sum(row_weight * (logsum - tl.sum(tl.where(hit, logits, 0.0), 1))) / total)
    softmax = tl.exp(logits - logsum[:, None])
    slope = (softmax - tl.where(hit, 1.0, 0.0)) * (row_weight * (class_weight / (BATCH * total)))[:, None]
    tl.store(
        d_class_ptr + (row + q)[:, None] * (CLASSES + 1) + c[None, :],
        slope,
        mask=real[:, None] & (c <= CLASSES)[None, :],
    )
    no_object = tl.sum(tl.where((c == CLASSES)[None, :], softmax, 0.0), 1)
    tl.store(line_ptr + OBJECTNESS, tl.sum(tl.where(real, 1.0 - no_object, 0.0)))

    # scores
    scores_ptr = tl.load(entries_ptr + entry * ENTRY + 2)
    error = tl.zeros((BQ,), tl.float32)
    if scores_ptr != 0:
        score = tl.load(scores_ptr.to(tl.pointer_type(SCORE_ELEMENT)) + q, mask=real, other=0.0).to(tl.float32)
        error = score - tl.sum(tl.where(match, iou, 0.0), 1)  # the target of a query without an instance is 0
    tl.store(line_ptr + SCORE, tl.sum(tl.where(owner, error * error, 0.0)))
    tl.store(line_ptr + OTHER_SCORES, tl.sum(tl.where(owner, 0.0, error * error)))
    by_own = weight * score_weight / tl.maximum(owned_count, 1.0)
    by_other = others_weight / (BATCH * tl.maximum(queries - owned_count, 1.0))
    tl.store(d_score_ptr + row + q, 2.0 * error * tl.where(owner, by_own, by_other), mask=real)

    if entry % LAYERS == LAYERS - 1:  # how many object queries cover each instance
        best = tl.max(tl.where((c < CLASSES)[None, :], logits, float("-inf")), 1)
        last = tl.sum(tl.where((c == CLASSES)[None, :], logits, 0.0), 1)
        covers = (iou > 0.5) & (real & (best >= last))[:, None] & (k < instances)[None, :]
        tl.store(
            covered_ptr + (entry // LAYERS * BLOCKS + tl.program_id(0)) * COLUMNS + k, tl.sum(covers.to(tl.float32), 0)
        )


@triton.jit(do_not_specialize=UNSPECIALIZED)
def finish(
    samples_ptr,  # (B, SAMPLE) int64, a line for each sample, see `layout`
    sizes_ptr,  # (B, COLUMNS) float32, points of each instance
    own_ptr,  # (B L, COLUMNS) int32, own query of each instance
    cheapest_ptr,  # (B L, COLUMNS) float32, least cost of each instance
    parts_ptr,  # (B L, BLOCKS, 8) float32
    covered_ptr,  # (B, BLOCKS, COLUMNS) float32
    bad_ptr,  # (B L, BLOCKS, 4) int32
    loss_ptr,  # out: (1 + DIAGNOSTICS,) float32
    checks_ptr,  # out: (B, L) int32, bits of `bad`
    LAYERS,  # L
    BATCH,  # B
    BLOCKS,  # programs of each layer and sample
    soft_share,  # s
    class_weight,  # weights of the terms
    score_weight,
    attr_weight,
    rep_weight,
    bg_weight,
    others_weight,
    COLUMNS: tl.constexpr,  # of the small matrices: a power of two above the largest K
    BE: tl.constexpr,  # layers and samples that are read together
    BQ: tl.constexpr,  # queries of a block
    EVERY_LAYER: tl.constexpr,  # False: the last layer's assignment serves all
):
    """The loss and the diagnostics of the last layer, from the parts of all blocks; one program.

    Layers and samples are read BE at a time, so that registers and shared memory do not grow with the batch.
    """
    k = tl.arange(0, COLUMNS)
    entries = BATCH * LAYERS
    filled_samples = 0.0
    for first_sample in range(0, BATCH, BE):
        filled_samples += tl.sum(_filled(cheapest_ptr, first_sample + tl.arange(0, BE), LAYERS, BATCH, COLUMNS), 0)
    filled_count = tl.maximum(filled_samples, 1.0)
    total = 0.0
    attraction = 0.0
    repulsion = 0.0
    background = 0.0
    owned_last = 0.0
    present_count = 0.0
    objectness = 0.0
    any_wrong = 0
    for begin in range(0, entries, BE):
        e = begin + tl.arange(0, BE)
        real = e < entries
        sample = tl.where(real, e // LAYERS, 0)
        queries = tl.load(samples_ptr + sample * SAMPLE + QUERIES, mask=real, other=1).to(tl.int32)
        blocks = tl.where(real, tl.cdiv(queries, BQ), 0)
        own_sum = tl.zeros((BE,), tl.float32)
        soft_sum = tl.zeros((BE,), tl.float32)
        outside = tl.zeros((BE,), tl.float32)
        classification = tl.zeros((BE,), tl.float32)
        score = tl.zeros((BE,), tl.float32)
        others = tl.zeros((BE,), tl.float32)
        objects = tl.zeros((BE,), tl.float32)
        wrong = tl.zeros((BE,), tl.int32)
        for first in range(0, BLOCKS, _LINES):
            block = first + tl.arange(0, _LINES)
            there = block[None, :] < blocks[:, None]
            line = e[:, None] * BLOCKS + block[None, :]
            own_sum += tl.sum(tl.load(parts_ptr + line * 8 + OWN, mask=there, other=0.0), 1)
            soft_sum += tl.sum(tl.load(parts_ptr + line * 8 + SOFT, mask=there, other=0.0), 1)
            outside += tl.sum(tl.load(parts_ptr + line * 8 + BACKGROUND, mask=there, other=0.0), 1)
            classification += tl.sum(tl.load(parts_ptr + line * 8 + CLASSIFICATION, mask=there, other=0.0), 1)
            score += tl.sum(tl.load(parts_ptr + line * 8 + SCORE, mask=there, other=0.0), 1)
            others += tl.sum(tl.load(parts_ptr + line * 8 + OTHER_SCORES, mask=there, other=0.0), 1)
            objects += tl.sum(tl.load(parts_ptr + line * 8 + OBJECTNESS, mask=there, other=0.0), 1)
            for kind in tl.static_range(4):
                found = tl.load(bad_ptr + line * 4 + kind, mask=there, other=0)
                wrong = wrong | (tl.max(found, 1) << kind)
        repels = tl.load(parts_ptr + e * BLOCKS * 8 + REPULSION, mask=real & (blocks > 0), other=0.0)
        tl.store(checks_ptr + e, wrong, mask=real)
        any_wrong = tl.maximum(any_wrong, tl.max(wrong, 0))

        source = e if EVERY_LAYER else sample * LAYERS + LAYERS - 1
        cell = source[:, None] * COLUMNS + k[None, :]
        owned = tl.sum((tl.load(own_ptr + cell, mask=real[:, None], other=-1) >= 0).to(tl.float32), 1)
        shared = tl.load(cheapest_ptr + cell, mask=real[:, None], other=INFINITY) < INFINITY
        attracts = (1.0 - soft_share) * own_sum / tl.maximum(owned, 1.0) + soft_share * soft_sum / tl.maximum(
            tl.sum(shared.to(tl.float32), 1), 1.0
        )
        outside = outside / tl.maximum(queries, 1).to(tl.float32)
        score = score / tl.maximum(owned, 1.0)
        objects = objects / tl.maximum(queries, 1).to(tl.float32)
        filled = tl.where(real, _filled(cheapest_ptr, sample, LAYERS, BATCH, COLUMNS), 0.0)
        others = others / tl.maximum(queries.to(tl.float32) - owned, 1.0)
        everywhere = class_weight * classification + bg_weight * outside + others_weight * others
        where_filled = attr_weight * attracts + rep_weight * repels + score_weight * score
        total += tl.sum(tl.where(real, everywhere / BATCH + filled * where_filled / filled_count, 0.0), 0)

        last = real & (e % LAYERS == LAYERS - 1)
        last_filled = tl.where(last, filled, 0.0) > 0
        attraction += tl.sum(tl.where(last_filled, attracts, 0.0), 0)
        repulsion += tl.sum(tl.where(last_filled, repels, 0.0), 0)
        background += tl.sum(tl.where(last, outside, 0.0), 0)
        owned_last += tl.sum(tl.where(last, owned, 0.0), 0)
        objectness += tl.sum(tl.where(last, objects, 0.0), 0)
        instances = tl.load(samples_ptr + sample * SAMPLE + INSTANCES, mask=real, other=0).to(tl.int32)
        size = tl.load(sizes_ptr + sample[:, None] * COLUMNS + k[None, :])
        present = (size > 0) & (k[None, :] < instances[:, None]) & last[:, None]
        present_count += tl.sum(tl.sum(present.to(tl.float32), 1), 0)
    tl.store(loss_ptr, tl.where(any_wrong > 0, float("nan"), total))
    tl.store(loss_ptr + 1, attraction / filled_count)
    tl.store(loss_ptr + 2, repulsion / filled_count)
    tl.store(loss_ptr + 3, background / BATCH)
    tl.store(loss_ptr + 4, owned_last / tl.maximum(present_count, 1.0))
    repeats = 0.0
    covers = 0.0
    for b in range(0, BATCH):
        sample_blocks = tl.cdiv(tl.load(samples_ptr + b * SAMPLE + QUERIES).to(tl.int32), BQ)
        count = tl.zeros((COLUMNS,), tl.float32)
        for first in range(0, sample_blocks, _LINES):
            block = first + tl.arange(0, _LINES)
            line = (b * BLOCKS + block)[:, None] * COLUMNS + k[None, :]
            count += tl.sum(tl.load(covered_ptr + line, mask=(block < sample_blocks)[:, None], other=0.0), 0)
        repeats += tl.sum(tl.maximum(count - 1.0, 0.0), 0)
        covers += tl.sum(count, 0)
    tl.store(loss_ptr + 5, repeats / tl.maximum(covers, 1.0))
    tl.store(loss_ptr + 6, objectness / BATCH)
