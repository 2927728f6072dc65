"""`InfluencerSetLoss`: the loss of a set of queries with class and score heads, on plain tensors.

Shape legend: L layers, B samples, E = L B entries (entry = layer x B + sample), Q queries, K instances, C classes;
Q and K are padded to the largest of the batch. With groups of queries, each group of a sample is a sample by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from influencer_mmdet3d.loss.kernels.choose import use_triton
from influencer_mmdet3d.loss.losses import (
    Assignment,
    assign,
    attraction,
    background,
    gather_own,
    masked_mean,
)
from influencer_mmdet3d.loss.losses import repulsion as repulsion_term
from influencer_mmdet3d.loss.nonfinite import Sieve
from influencer_mmdet3d.loss.options import SetLossOptions
from influencer_mmdet3d.loss.padded import PaddedBatch, line_up
from influencer_mmdet3d.loss.sample import Sample, check_samples
from influencer_mmdet3d.loss.values import DeferredChecks
from influencer_mmdet3d.loss.wording import PLAIN, Wording, say
from influencer_mmdet3d.terms import InfluencerTerms


class InfluencerSetLoss:
    """Loss of a set of queries without bipartite matching, for any model whose queries give masks and classes.

    Parameters
    ----------
    **options
        See `influencer_mmdet3d.loss.options.SetLossOptions`; `num_classes` is required. `recipe` names a set of
        them, see `influencer_mmdet3d.loss.options.RECIPES`.

    Notes
    -----
    Plain object without parameters or buffers. The class target of a query is the label of the instance that it is
    the own query of, else "no object"; the score target of an own query is the soft IoU of its mask with the instance.
    Mask terms are means over instances, then over the samples that hold instances; layers are summed.

    Examples
    --------
    >>> loss = InfluencerSetLoss(num_classes=18)
    >>> instances = torch.nn.functional.one_hot(torch.arange(500) // 100, 5).bool().T
    >>> sample = Sample(
    ...     masks=[torch.randn(20, 500, requires_grad=True)],
    ...     classes=[torch.randn(20, 19, requires_grad=True)],
    ...     targets=instances,
    ...     labels=torch.tensor([3, 3, 0, 17, 5]),
    ... )
    >>> loss([sample])["loss"].backward()
    """

    def __init__(self, **options: Any) -> None:
        self._start(SetLossOptions.from_kwargs(**options))

    @classmethod
    def for_adapter(cls, options: SetLossOptions, wording: Wording, say: Callable[..., None]) -> InfluencerSetLoss:
        """Return a loss that speaks in an adapter's words, through its logger; samples are checked by the adapter."""
        made = cls.__new__(cls)
        made._start(options, wording, say)
        return made

    def _start(self, options: SetLossOptions, wording: Wording = PLAIN, say: Callable[..., None] = say) -> None:
        self.options, self.wording, self._say = options, wording, say
        self._checks = DeferredChecks(wording)
        self._sieve = Sieve(wording.owner, say)

    def set_option(self, name: str, value: Any) -> None:
        """Change one option; raises ValueError as the constructor does."""
        self.options = self.options.changed(name, value)

    def __call__(self, samples: Sequence[Sample], groups: int = 1) -> dict[str, Tensor]:
        """Return the loss and its parts.

        Parameters
        ----------
        samples : sequence of Sample
            One for each scene. Q, N and K may differ between them; L and the heads that there are may not.
        groups : int
            G: the rows of every output are G sets of Q / G queries, each supervised as if it were alone; their losses
            are averaged, all in one launch of the kernels.

        Returns
        -------
        dict
            `loss`, the total over layers, and detached diagnostics of the last layer: `attraction`, `repulsion`,
            `background`, `own_query_share`, `duplicate_rate`, `objectness`.

        Raises
        ------
        ValueError
            For wrong types, shapes or labels.
        FloatingPointError
            For outputs that are not finite, unless `nonfinite='skip'` leaves their samples out. With the fused kernels
            on a GPU, which nothing waits for, this and wrong labels are reported by one of the next calls, or by
            `check_values`; until then the loss is not a number.
        """
        self._checks.poll()
        if not samples:
            raise ValueError(f"{self.wording.owner}: the batch is empty")
        if self.wording is PLAIN:
            check_samples(samples, self.options.num_classes, groups)
        if self.options.nonfinite == "raise":
            return self._finite_loss(samples, groups)
        kept, nothing = self._sieve.split(samples)
        result = self._finite_loss(kept, groups) if kept else {"loss": samples[0].masks[0].new_zeros(()).float()}
        if nothing is not None:
            result["loss"] = result["loss"] + nothing
        return result

    def check_values(self) -> None:
        """Wait for the calls so far and raise what the next one would have reported."""
        self._checks.poll(wait=True)

    def _finite_loss(self, samples: Sequence[Sample], groups: int) -> dict[str, Tensor]:
        if self._takes_kernels(samples):
            return self._fused(samples, groups)
        with torch.autocast(samples[0].masks[0].device.type, enabled=False):
            return self._influence([part for sample in samples for part in sample.split(groups)], groups)

    def _takes_kernels(self, samples: Sequence[Sample]) -> bool:
        heads = [
            [x for sample in samples for x in sample.masks],
            [x for sample in samples for x in sample.classes],
            [x for sample in samples for x in sample.scores],
        ]
        return use_triton(self.options.impl, heads, max(sample.targets.shape[0] for sample in samples), self._say)

    def _fused(self, samples: Sequence[Sample], groups: int) -> dict[str, Tensor]:
        """What `_influence` returns, by the fused kernels."""
        from influencer_mmdet3d.loss.kernels.slopes import DIAGNOSTICS
        from influencer_mmdet3d.loss.kernels.step import Weights, step_loss

        o, device = self.options, samples[0].masks[0].device
        checks = self._checks.buffer(len(samples) * groups, len(samples[0].masks), device)
        class_weight, bce_weight, dice_weight, score_weight = o.loss_weight
        weights = Weights(
            num_classes=o.num_classes,
            class_weight=class_weight,
            bce_weight=bce_weight,
            dice_weight=dice_weight,
            score_weight=score_weight,
            class_price=o.class_price,
            non_object_weight=o.non_object_weight,
            score_others=o.score_others,
            attr_weight=o.attr_weight,
            rep_weight=o.rep_weight,
            bg_weight=o.bg_weight,
            rep_margin=o.rep_margin,
            temperature=o.temperature,
            soft_share=o.soft_share,
            iter_matcher=o.iter_matcher,
            log_odds=o.class_cost == "log_odds",
        )
        loss, diagnostics = step_loss([sample.contiguous() for sample in samples], weights, checks, groups)
        self._checks.add(checks, [sample.labels for sample in samples], o.num_classes, device, groups)
        return {"loss": loss, **dict(zip(DIAGNOSTICS, diagnostics.unbind()))}

    def _influence(self, samples: Sequence[Sample], groups: int) -> dict[str, Tensor]:
        o = self.options
        entries = line_up(samples, o.num_classes, groups, self.wording)
        class_weight, bce_weight, dice_weight, score_weight = o.loss_weight
        batch, layers = len(samples), len(samples[0].masks)
        mask_cost = bce_weight * entries.bce + dice_weight * entries.dice
        prob = entries.classes.softmax(-1)
        wanted = entries.labels.unsqueeze(1).expand(-1, prob.shape[1], -1)
        belief = prob if o.class_cost == "probability" else entries.classes - entries.classes[..., -1:]
        class_cost = -o.class_price * belief.detach().gather(2, wanted)
        assignment = assign(mask_cost, class_cost, entries.allowed, o.temperature)
        if not o.iter_matcher:
            assignment = Assignment(*(part[-batch:].repeat(layers, *[1] * (part.ndim - 1)) for part in assignment))
        has_own = assignment.own >= 0
        owner = _owned_instance(assignment.own, entries.queries.shape[1])
        label = torch.where(owner >= 0, entries.labels.gather(1, owner.clamp_min(0)), o.num_classes)
        terms = InfluencerTerms(
            attraction(mask_cost, assignment, o.soft_share),
            repulsion_term(assignment.influence, o.rep_margin),
            background(entries.outside, entries.outside_size, entries.queries),
        )
        parts = {
            "classification": class_weight * self._classification(entries, label),
            "attraction": o.attr_weight * terms.attraction,
            "repulsion": o.rep_weight * terms.repulsion,
            "background": o.bg_weight * terms.background,
            "score": score_weight * _score(entries, assignment.own),
            "other scores": score_weight * o.score_others * _other_scores(entries, owner < 0),
        }
        filled = entries.allowed.flatten(1).any(1)  # entries with an instance that some query may take
        total = _layers_total(parts, filled, batch)
        last = slice((layers - 1) * batch, None)
        return _result(
            total,
            {
                "attraction": masked_mean(terms.attraction[last], filled[last]),
                "repulsion": masked_mean(terms.repulsion[last], filled[last]),
                "background": terms.background[last].mean(),
                "own_query_share": masked_mean(has_own[last].flatten().float(), entries.present[last].flatten()),
                "duplicate_rate": _duplicate_rate(prob[last], entries.iou[last]),
                "objectness": masked_mean(1 - prob[last, :, -1], entries.queries[last]).mean(),
            },
        )

    def _classification(self, entries: PaddedBatch, label: Tensor) -> Tensor:
        """Return the weighted cross-entropy of each entry, (E,)."""
        weight = entries.classes.new_ones(self.options.num_classes + 1)
        weight[-1] = self.options.non_object_weight
        weight = weight[label] * entries.queries
        loss = F.cross_entropy(entries.classes.transpose(1, 2), label, reduction="none")
        # an entry without an instance, or with weight 0 for "no object", has no weight at all
        return (loss * weight).sum(1) / weight.sum(1).clamp_min(torch.finfo(weight.dtype).tiny)


def _result(total: Tensor, diagnostics: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {"loss": total, **{name: value.detach().clone() for name, value in diagnostics.items()}}


def _owned_instance(own: Tensor, queries: int) -> Tensor:
    """Turn (E, K) own queries into (E, Q) instances, -1 for queries that own none."""
    owner = torch.full((own.shape[0], queries + 1), -1, dtype=torch.long, device=own.device)
    index = torch.arange(own.shape[1], device=own.device).expand_as(own)
    return owner.scatter(1, torch.where(own >= 0, own, queries), index)[:, :-1]


def _score(entries: PaddedBatch, own: Tensor) -> Tensor:
    """Return the squared error of own queries' scores against the soft IoU, (E,); 0 without a score head."""
    if entries.scores is None:
        return entries.bce.new_zeros(own.shape[0])
    picked = entries.scores.gather(1, own.clamp_min(0))
    error = (picked - gather_own(entries.iou, own)).square()
    # the zero-weighted sum keeps the head in the graph, which DDP needs
    return masked_mean(error, own >= 0) + 0.0 * entries.scores.sum(1)


def _other_scores(entries: PaddedBatch, free: Tensor) -> Tensor:
    """Return the mean squared score (E,) of queries (E, Q) that own no instance; 0 without a score head."""
    if entries.scores is None:
        return entries.bce.new_zeros(len(free))
    return masked_mean(entries.scores.square(), free & entries.queries)


def _layers_total(parts: Mapping[str, Tensor], filled: Tensor, batch: int) -> Tensor:
    """Mean over samples, sum over layers; mask and score terms are means over samples that hold instances."""
    total = (parts["classification"].sum() + parts["background"].sum() + parts["other scores"].sum()) / batch
    weight = filled.float().view(-1, batch)
    weight = weight / weight.sum(1, keepdim=True).clamp_min(1)
    for name in ("attraction", "repulsion", "score"):
        total = total + (parts[name].view(-1, batch) * weight).sum()
    return total


def _duplicate_rate(prob: Tensor, iou: Tensor) -> Tensor:
    """Share of object queries that repeat an instance which another object query covers (soft IoU > 0.5)."""
    is_object = prob.argmax(-1) < prob.shape[-1] - 1
    covering = ((iou > 0.5) & is_object.unsqueeze(-1)).sum(1).float()  # (E, K)
    return (covering - 1).clamp_min(0).sum() / covering.sum().clamp_min(1)
