"""Which query answers for which instance, decided on small (query, instance) matrices.

Shape legend: E layer-and-sample entries (padded to common Q and K), Q queries, K instances.

The cost of a query for an instance is that of the whole mask, so a query pays for every point it covers outside
the instance. `influence` is a softmax over queries of minus the cost; `own_queries` gives each instance at most
one query of its own, and each query at most one instance, without a linear-assignment solver.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from influencer_mmdet3d.loss.statistics import MaskStatistics


class MaskCosts(NamedTuple):
    """Pairwise mask costs; all (..., Q, K) float32.

    Attributes
    ----------
    bce : Tensor
        Binary cross-entropy of the query's mask against the instance, mean over all points.
    dice : Tensor
        1 - (2 sum(p t) + 1) / (sum(p) + sum(t) + 1), with p the probabilities and t the instance
        (V-Net, Milletari et al. 2016, with the additive 1 that MaskFormer and its successors use).
    iou : Tensor
        Soft intersection over union, sum(p t) / (sum(p) + sum(t) - sum(p t)), detached.
    """

    bce: Tensor
    dice: Tensor
    iou: Tensor


def mask_costs(statistics: MaskStatistics, points: int) -> MaskCosts:
    """Return the cost of every (query, instance) pair from sums over points.

    Parameters
    ----------
    statistics : MaskStatistics
        Sums of one sample, (L, Q, ...).
    points : int
        N, the number of points that the sums ran over.
    """
    inside, size = statistics.prob[..., :-1], statistics.size[:-1]
    covered = statistics.prob.sum(-1, keepdim=True)
    bce = (statistics.softplus.unsqueeze(-1) - statistics.logit[..., :-1]) / max(points, 1)
    dice = 1 - (2 * inside + 1) / (covered + size + 1)
    with torch.no_grad():
        iou = inside / (covered + size - inside).clamp_min(torch.finfo(inside.dtype).tiny)
    return MaskCosts(bce, dice, iou)


def influence(cost: Tensor, allowed: Tensor, temperature: float) -> Tensor:
    """Return the share of each query in each instance.

    Parameters
    ----------
    cost : Tensor
        (E, Q, K) float.
    allowed : Tensor
        (E, Q, K) bool, the pairs that exist: padding and, with `query_masks`, queries outside the instance are not.
    temperature : float
        T > 0; small values give each instance to its cheapest query.

    Returns
    -------
    Tensor
        (E, Q, K), softmax over allowed queries of -cost / T. A column with no allowed query is zero.
    """
    # finite, or the softmax of a column with no allowed query, which the product makes zero, were not a number
    logits = (-cost / temperature).masked_fill(~allowed, torch.finfo(cost.dtype).min)
    return torch.softmax(logits, dim=-2) * allowed


@torch.no_grad()
def own_queries(cost: Tensor, allowed: Tensor) -> Tensor:
    """Give instances queries of their own by rounds of mutual choice.

    In each round every free instance names its cheapest free query and every free query its cheapest free instance;
    pairs that name each other are settled. Each round settles at least the cheapest pair that is left, so the result
    is the greedy matching by cost.

    Parameters
    ----------
    cost : Tensor
        (E, Q, K) float, finite where allowed.
    allowed : Tensor
        (E, Q, K) bool.

    Returns
    -------
    Tensor
        (E, K) int64, the query of each instance; -1 where none was left or allowed.
    """
    entries, queries, instances = cost.shape
    own = torch.full((entries, instances), -1, dtype=torch.long, device=cost.device)
    if queries == 0 or instances == 0:
        return own
    free = cost.masked_fill(~allowed, float("inf"))
    column = torch.arange(instances, device=cost.device)
    for _ in range(min(queries, instances)):
        price, query = free.min(dim=1)  # (E, K): cheapest query of each instance
        rows = free.gather(1, query.unsqueeze(-1).expand(-1, -1, instances))  # (E, K, K) of the queries named
        settled = (rows.min(dim=2).indices == column) & price.isfinite()
        if not settled.any():
            break
        own = torch.where(settled, query, own)
        entry, instance = settled.nonzero(as_tuple=True)
        free[entry, :, instance] = float("inf")
        free[entry, query[entry, instance], :] = float("inf")
    return own
