"""Mask influencer loss as functions and a module, free of any host.

Shape legend: E entries (layers x samples, padded to common Q and K), Q queries, N points, K instances.

Three terms, named as in the influencer literature:

* attraction: an instance pulls the queries that influence it towards its mask;
* repulsion: instances that are influenced by the same queries push their influences apart;
* background: queries give up the points that belong to no instance.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from influencer_mmdet3d.loss.assignment import MaskCosts, influence, mask_costs, own_queries
from influencer_mmdet3d.loss.kernels.choose import check_impl, use_triton
from influencer_mmdet3d.loss.statistics import mask_statistics, segments_from_masks
from influencer_mmdet3d.terms import InfluencerTerms

# Defaults of the functions and the module below, and of the criterion's options.
TEMPERATURE, SOFT_SHARE, REP_MARGIN = 0.03, 0.2, 1.0
ATTR_WEIGHT, REP_WEIGHT, BG_WEIGHT = 1.0, 0.1, 0.1


class Assignment(NamedTuple):
    """Which query answers for which instance.

    Attributes
    ----------
    influence : Tensor
        (E, Q, K) float, columns sum to one, or are zero where no query is allowed.
    own : Tensor
        (E, K) int64, the one query that stands for the instance at prediction; -1 without one.
    """

    influence: Tensor
    own: Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the last axis of the values where mask is set, 0 where none is."""
    weight = mask.to(values.dtype)
    return (values * weight).sum(-1) / weight.sum(-1).clamp_min(1)


def gather_own(pairs: Tensor, own: Tensor) -> Tensor:
    """Pick (E, K) from (E, Q, K): each instance's value at its own query (query 0 where it has none)."""
    return pairs.gather(1, own.clamp_min(0).unsqueeze(1)).squeeze(1)


def assign(mask_cost: Tensor, class_cost: Tensor, allowed: Tensor, temperature: float) -> Assignment:
    """Assign queries to instances by the cost of the whole mask and the class.

    Parameters
    ----------
    mask_cost, class_cost : Tensor
        (E, Q, K) float. Gradients flow through `mask_cost` alone: the class head learns from its own loss.
    allowed : Tensor
        (E, Q, K) bool.
    temperature : float
        T > 0 of the softmax over queries.
    """
    cost = mask_cost + class_cost.detach()
    return Assignment(influence(cost, allowed, temperature), own_queries(cost.detach(), allowed))


def attraction(mask_cost: Tensor, assignment: Assignment, soft_share: float) -> Tensor:
    """Return the mask cost of the queries that answer for each instance, mean over instances.

    With s = `soft_share`, cost c, influence I (constant here) and o(k) the own query of instance k:
    mean over k of (1 - s) c[o(k), k] + s sum_q I[q, k] c[q, k].

    Parameters
    ----------
    mask_cost : Tensor
        (E, Q, K).
    assignment : Assignment
        From the same entries, or from the last layer for every layer.
    soft_share : float
        s in [0, 1].

    Returns
    -------
    Tensor
        (E,), 0 for an entry without instances.
    """
    share = assignment.influence.detach()
    soft = masked_mean((share * mask_cost).sum(1), share.sum(1) > 0)
    own = masked_mean(gather_own(mask_cost, assignment.own), assignment.own >= 0)
    return (1 - soft_share) * own + soft_share * soft


def repulsion(shares: Tensor, margin: float) -> Tensor:
    """Return the hinge on the overlap of influences, mean over ordered pairs of instances.

    The overlap of instances k and l is sum_q I[q, k] I[q, l], between 0 and 1. Unlike a hinge on the distance of
    two profiles it has a gradient where the influences coincide.

    Parameters
    ----------
    shares : Tensor
        (E, Q, K) influences.
    margin : float
        In [0, 1]; overlap beyond 1 - margin costs. 1 punishes any overlap, 0 none.

    Returns
    -------
    Tensor
        (E,), 0 for an entry with fewer than two instances.
    """
    present = shares.detach().sum(1) > 0  # (E, K)
    overlap = torch.bmm(shares.transpose(1, 2), shares)
    pairs = present.unsqueeze(1) & present.unsqueeze(2)
    pairs = pairs & ~torch.eye(shares.shape[2], dtype=torch.bool, device=shares.device)
    return masked_mean((overlap - (1 - margin)).clamp_min(0).flatten(1), pairs.flatten(1))


def background(prob: Tensor, size: Tensor, queries: Tensor) -> Tensor:
    """Return the mean probability on points of no instance, over queries.

    Parameters
    ----------
    prob : Tensor
        (E, Q), sum of sigmoids over the points of no instance.
    size : Tensor
        (E,), number of these points.
    queries : Tensor
        (E, Q) bool, False for padding.

    Returns
    -------
    Tensor
        (E,), 0 where every point belongs to an instance.
    """
    return masked_mean(prob / size.clamp_min(1).unsqueeze(-1), queries)


def mask_influencer_loss(
    logits: Tensor,
    masks: Tensor,
    *,
    temperature: float = TEMPERATURE,
    soft_share: float = SOFT_SHARE,
    rep_margin: float = REP_MARGIN,
    bce_weight: float = 1.0,
    dice_weight: float = 1.0,
    class_cost: Tensor | None = None,
    impl: str = "auto",
) -> tuple[InfluencerTerms, Assignment]:
    """Matching-free mask loss of one scene.

    Parameters
    ----------
    logits : Tensor
        (Q, N) mask logits, float32, float16 or bfloat16.
    masks : Tensor
        (K, N) bool, each point in at most one row; rows may be empty and need not cover all points.
    temperature, soft_share, rep_margin : float
        See `assign`, `attraction` and `repulsion`.
    bce_weight, dice_weight : float
        Mask cost = bce_weight BCE + dice_weight Dice, see `influencer_mmdet3d.loss.assignment.MaskCosts`.
    class_cost : Tensor, optional
        (Q, K), added to the cost when queries are assigned, e.g. minus the probability of the instance's class.
    impl : {'auto', 'plain', 'triton'}
        Who makes the sums over points, see `influencer_mmdet3d.loss.kernels.choose.use_triton`.

    Returns
    -------
    InfluencerTerms
        Scalars.
    Assignment
        With E = 1.

    Raises
    ------
    ValueError
        If shapes or types are wrong, a point is in two masks, an option is out of its range, or `impl` is 'triton'
        where its kernels cannot run.

    FloatingPointError
        If logits are not finite.

    Notes
    -----
    The cost is that of the whole mask, so that covering other instances is paid for.
    """
    _check(logits, masks)
    _check_options(temperature, soft_share, rep_margin)
    check_impl(impl)
    count, points = masks.shape
    if use_triton(impl, [[logits]], count):
        from influencer_mmdet3d.loss.kernels.statistics import fused_statistics

        statistics = fused_statistics([logits], masks)
    else:
        statistics = mask_statistics([logits], segments_from_masks(masks), count)
    if not bool((statistics.softplus + statistics.logit.sum(-1)).isfinite().all()):
        raise FloatingPointError("logits hold values that are not finite, or too large to be summed in float32")
    costs: MaskCosts = mask_costs(statistics, points)
    mask_cost = bce_weight * costs.bce + dice_weight * costs.dice
    extra = torch.zeros_like(mask_cost) if class_cost is None else class_cost.float().unsqueeze(0)
    allowed = (statistics.size[:-1] > 0).expand_as(mask_cost)  # empty rows attract nothing
    assignment = assign(mask_cost, extra, allowed, temperature)
    rows = torch.ones_like(statistics.softplus, dtype=torch.bool)
    terms = InfluencerTerms(
        attraction(mask_cost, assignment, soft_share)[0],
        repulsion(assignment.influence, rep_margin)[0],
        background(statistics.prob[..., -1], statistics.size[-1:], rows)[0],
    )
    return terms, assignment


class MaskInfluencerLoss(nn.Module):
    """Weighted sum of attraction, repulsion and background for one scene.

    Parameters
    ----------
    form : {'influence'}
        Of the loss; the one form that there is, `mask_influencer_loss`.
    attr_weight, rep_weight, bg_weight : float
        Weights of the three terms.
    temperature, soft_share, rep_margin : float
        See `mask_influencer_loss`.
    impl : {'auto', 'plain', 'triton'}
        See `mask_influencer_loss`.

    Examples
    --------
    >>> loss = MaskInfluencerLoss()
    >>> logits = torch.randn(20, 500, requires_grad=True)
    >>> masks = torch.nn.functional.one_hot(torch.arange(500) // 100, 5).bool().T
    >>> loss(logits, masks).backward()
    """

    def __init__(
        self,
        form: str = "influence",
        attr_weight: float = ATTR_WEIGHT,
        rep_weight: float = REP_WEIGHT,
        bg_weight: float = BG_WEIGHT,
        temperature: float = TEMPERATURE,
        soft_share: float = SOFT_SHARE,
        rep_margin: float = REP_MARGIN,
        impl: str = "auto",
    ) -> None:
        super().__init__()
        check_form(form)
        _check_options(temperature, soft_share, rep_margin)
        check_impl(impl)
        self.impl = impl
        self.attr_weight, self.rep_weight, self.bg_weight = attr_weight, rep_weight, bg_weight
        self.temperature, self.soft_share, self.rep_margin = temperature, soft_share, rep_margin

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Return the loss (scalar) of logits (Q, N) against masks (K, N) bool."""
        terms, _ = mask_influencer_loss(
            logits,
            masks,
            temperature=self.temperature,
            soft_share=self.soft_share,
            rep_margin=self.rep_margin,
            impl=self.impl,
        )
        attraction, repulsion, background = terms
        return self.attr_weight * attraction + self.rep_weight * repulsion + self.bg_weight * background


def check_form(form: str) -> None:
    """Raise ValueError unless `form` is 'influence'; say where the other one went."""
    if form == "geomean":
        raise ValueError(
            "form='geomean' is not part of the package any more, since training with it finds nothing (AP 0.000): "
            "leave `form` out. For comparisons it is benchmarks/geomean.py in this package's repository"
        )
    if form != "influence":
        raise ValueError(f"form must be 'influence', got {form!r}")


def _check(logits: Tensor, masks: Tensor) -> None:
    if masks.dtype != torch.bool:
        raise ValueError(f"masks must be bool, got {masks.dtype}; convert with masks > 0.5 or masks.bool()")
    if logits.ndim != 2 or masks.ndim != 2 or logits.shape[1] != masks.shape[1]:
        raise ValueError(f"logits must be (Q, N) and masks (K, N), got {tuple(logits.shape)} and {tuple(masks.shape)}")
    if not logits.is_floating_point():
        raise ValueError(f"logits must be floating point, got {logits.dtype}")
    if masks.shape[0] and int(masks.sum(0).max() if masks.shape[1] else 0) > 1:
        point = int((masks.sum(0) > 1).nonzero()[0])
        raise ValueError(
            f"a point may belong to one instance only; point {point} is in {int(masks[:, point].sum())} masks"
        )


def _check_options(temperature: float, soft_share: float, rep_margin: float) -> None:
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    for name, value in (("soft_share", soft_share), ("rep_margin", rep_margin)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {value}")
