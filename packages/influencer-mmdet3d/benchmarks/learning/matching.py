"""Assignments that the influence is compared with, on padded (query, instance) matrices.

Shape legend: E entries (layers x samples), Q queries, K instances.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


@torch.no_grad()
def hungarian(cost: Tensor, allowed: Tensor) -> Tensor:
    """Return each instance's query (E, K) by the cheapest assignment of costs (E, Q, K); -1 where not allowed.

    `allowed` (E, Q, K) must hold whole columns: an instance is there or not. One transfer to the CPU serves all
    entries; the solver is scipy's.
    """
    values = cost.double().cpu().numpy()
    columns = allowed.any(1).cpu().numpy()
    if not np.isfinite(values).all():
        raise FloatingPointError("the matching cost is not finite: lower the learning rate or use amp='bf16'")
    own = np.full((cost.shape[0], cost.shape[2]), -1, dtype=np.int64)
    for entry, present in enumerate(columns):
        rows, chosen = linear_sum_assignment(values[entry][:, present])
        own[entry, np.flatnonzero(present)[chosen]] = rows
    return torch.from_numpy(own).to(cost.device)


@torch.no_grad()
def sparse(cost: Tensor, allowed: Tensor) -> Tensor:
    """Return the cheapest allowed query (E, K) of each instance; -1 where none is.

    With `allowed` saying which query starts inside which instance, this is the form of the host's SparseMatcher with
    topk=1: a query lies in one instance, so none is taken twice; an instance without a query inside is left out.
    """
    price, query = cost.masked_fill(~allowed, torch.inf).min(1)
    return torch.where(price.isfinite(), query, -1)


def sinkhorn(cost: Tensor, allowed: Tensor, epsilon: float, rounds: int) -> Tensor:
    """Return the entropic transport plan (E, Q, K) between queries, instances and a dustbin (Cuturi 2013).

    Every query gives 1, every instance takes 1 and the dustbin takes the rest, Q - K; its cost is a constant, and any
    constant gives the same plan. Each of the `rounds` scales queries, then instances: in the result the columns of
    instances sum to 1 exactly and the rows to at most 1 in the limit.

    Parameters
    ----------
    cost : Tensor
        (E, Q, K).
    allowed : Tensor
        (E, Q, K) bool; a column without an allowed query takes nothing.
    epsilon : float
        Weight of the entropy, in units of the cost.
    rounds : int
        At least 1.

    Raises
    ------
    ValueError
        If there are as many instances as queries, which leaves nothing for the dustbin.
    """
    entries, queries, instances = cost.shape
    present = allowed.any(1)  # (E, K)
    if instances >= queries:
        raise ValueError(f"Sinkhorn needs more queries than instances, got {queries} and up to {instances}")
    scaled = (-cost / epsilon).masked_fill(~allowed, -torch.inf)
    kernel = torch.cat([scaled, scaled.new_zeros(entries, queries, 1)], 2)
    rest = (queries - present.sum(1, keepdim=True)).log()
    wanted = torch.cat([torch.zeros_like(scaled[:, 0]).masked_fill(~present, -torch.inf), rest], 1)  # (E, K + 1), log
    column = torch.zeros_like(wanted).masked_fill(wanted == -torch.inf, -torch.inf)
    for _ in range(rounds):
        row = -torch.logsumexp(kernel + column.unsqueeze(1), 2)
        taken = torch.logsumexp((kernel + row.unsqueeze(2)).masked_fill(wanted.unsqueeze(1) == -torch.inf, 0.0), 1)
        column = torch.where(wanted == -torch.inf, wanted, wanted - taken)
    return (kernel + row.unsqueeze(2) + column.unsqueeze(1))[..., :-1].exp()


@torch.no_grad()
def greedy(cost: Tensor, allowed: Tensor) -> Tensor:
    """Return `influencer_mmdet3d.loss.assignment.own_queries` (E, K), waiting for the device once in eight rounds.

    Many trainings share a device here, and each wait costs its turn.
    """
    entries, queries, instances = cost.shape
    own = torch.full((entries, instances), -1, dtype=torch.long, device=cost.device)
    free = cost.masked_fill(~allowed, torch.inf)
    column = torch.arange(instances, device=cost.device)
    for done in range(1, min(queries, instances) + 1):
        price, query = free.min(1)
        settled = (free.argmin(2).gather(1, query) == column) & (price < torch.inf)
        own = torch.where(settled, query, own)
        taken = torch.zeros(entries, queries + 1, dtype=torch.bool, device=cost.device)
        taken.scatter_(1, torch.where(settled, query, queries), True)  # the last place takes what is not settled
        free = free.masked_fill(settled.unsqueeze(1) | taken[:, :-1].unsqueeze(2), torch.inf)
        if done % 8 == 0 and not settled.any():
            break
    return own


def one_hot(own: Tensor, queries: int) -> Tensor:
    """Turn own queries (E, K) into claims (E, Q, K) of 0 and 1; -1 claims nothing."""
    claim = torch.zeros(own.shape[0], queries + 1, own.shape[1], device=own.device)
    return claim.scatter_(1, torch.where(own >= 0, own, queries).unsqueeze(1), 1.0)[:, :-1]
