"""The influencer loss with the geometric mean, and a criterion of it, for comparison. Do not train with it.

This is the formula of the research notes that the package started from. It was `form='geomean'` of the package.

Shape legend: Q queries, N points, K instances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from influencer_mmdet3d.host.batch import WORDING, collect
from influencer_mmdet3d.loss.losses import masked_mean
from influencer_mmdet3d.loss.padded import check_values
from influencer_mmdet3d.loss.sample import Sample
from influencer_mmdet3d.loss.statistics import blocks, segments_from_masks
from influencer_mmdet3d.terms import InfluencerTerms
from torch import Tensor
from torch.autograd.function import once_differentiable


def geomean_influencer_loss(
    logits: Tensor, masks: Tensor, *, temperature: float = 1.0, rep_margin: float = 1.0
) -> InfluencerTerms:
    """Return the terms of the formula, in log-space.

    With g[q, k] the mean over the points of instance k of log sigmoid(logits[q]):

    * attraction = mean_k -T logsumexp_q(g[q, k] / T),
    * repulsion = mean over pairs k < l of max(0, margin - ||exp g[:, k] - exp g[:, l]||_2),
    * background = mean over queries and points of no instance of sigmoid(logits).

    Parameters
    ----------
    logits : Tensor
        (Q, N), float32, float16 or bfloat16.
    masks : Tensor
        (K, N) bool; empty rows are left out.
    temperature : float
        T > 0.
    rep_margin : float
        Margin of the hinge, >= 0.

    Notes
    -----
    The formula has a wrong optimum: no term charges a query for points outside its instance, and the logsumexp
    lacks -log Q, so the value has no lower bound in the number of queries. For 8 instances, 400 queries and T = 1 the
    right answer scores -0.001 and "all queries cover all instances, but for one query per instance that leaves it
    out" scores -5.989 (T = 0.1: 0.000 against -0.599). Overfitting 4 synthetic scenes in OneFormer3D for 250 steps
    it reached AP50 0.00 with 96.6 % of (query, voxel) pairs on, where Hungarian matching reached 0.986; T = 0.1 and
    bg_weight 1 reached 0.006. On 1,024-point rooms, 1,500 steps: AP 0.000 against 0.661.
    """
    count = masks.shape[0]
    onehot = F.one_hot(segments_from_masks(masks), count + 1).float()
    log_prob, prob = _LogSigmoidSums.apply(onehot, logits)
    size = onehot.sum(0)
    present = size[:-1] > 0
    mean_log = (log_prob / size[:-1].clamp_min(1))[:, present]  # (Q, K present)
    zero = 0.0 * prob.sum()
    background = prob.mean() / size[-1].clamp_min(1)
    if mean_log.shape[1] == 0:
        return InfluencerTerms(zero, zero, background)
    attraction = (-temperature * torch.logsumexp(mean_log / temperature, 0)).mean()
    if mean_log.shape[1] == 1:
        return InfluencerTerms(attraction, zero, background)
    distance = torch.pdist(mean_log.exp().t())  # one per pair k < l
    return InfluencerTerms(attraction, (rep_margin - distance).clamp_min(0).mean(), background)


@torch.no_grad()
def geomean_labels(logits: Tensor, masks: Tensor) -> Tensor:
    """Return each query's instance by the formula's rule, the argmax of the mean logit if that is positive.

    Returns
    -------
    Tensor
        (Q,) int64 in [0, K); -1 for no object.
    """
    if masks.shape[0] == 0:
        return torch.full(logits.shape[:1], -1, dtype=torch.long, device=logits.device)
    onehot = masks.float()
    mean = torch.cat([block.float() @ onehot.t() for (block,) in blocks(logits)])
    mean = mean / onehot.sum(1).clamp_min(1)
    best, instance = mean.masked_fill(onehot.sum(1) == 0, float("-inf")).max(1)
    return torch.where(best > 0, instance, torch.full_like(instance, -1))


class _LogSigmoidSums(torch.autograd.Function):
    """Sums of log sigmoid(x) over each instance, (Q, K), and of sigmoid(x) over the points of none, (Q,)."""

    @staticmethod
    def forward(ctx: Any, onehot: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(onehot, x)
        logs, probs = [], []
        with torch.autocast(x.device.type, enabled=False):
            for (rows,) in blocks(x):
                block = rows.float()
                logs.append(F.logsigmoid(block) @ onehot[:, :-1])
                probs.append(block.sigmoid() @ onehot[:, -1])
        return torch.cat(logs), torch.cat(probs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_log: Tensor, d_prob: Tensor) -> tuple[None, Tensor]:
        onehot, x = ctx.saved_tensors
        grad = torch.empty_like(x)
        with torch.autocast(x.device.type, enabled=False):
            for rows, out, by_log, by_prob in blocks(x, grad, d_log, d_prob):
                p = rows.float().sigmoid()
                inside = torch.mm(by_log, onehot[:, :-1].t()) * (1 - p)
                out.copy_(inside + torch.outer(by_prob, onehot[:, -1]) * p * (1 - p))
        return None, grad


class GeomeanCriterion:
    """The formula as an instance criterion of the host; arguments as those of `InfluencerCriterion`.

    It trains neither the score head nor "no object" beyond its own rule for classes, `geomean_labels`.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        loss_weight: Sequence[float] = (0.5, 1.0, 1.0, 0.5),
        non_object_weight: float = 0.1,
        attr_weight: float = 1.0,
        rep_weight: float = 0.1,
        bg_weight: float = 0.1,
        rep_margin: float = 1.0,
        temperature: float = 1.0,
        iter_matcher: bool = True,
    ) -> None:
        self.num_classes, self.class_weight, self.non_object_weight = num_classes, loss_weight[0], non_object_weight
        self.term_weights = InfluencerTerms(attr_weight, rep_weight, bg_weight)  # type: ignore[arg-type]
        self.rep_margin, self.temperature, self.iter_matcher = rep_margin, temperature, iter_matcher

    def __call__(self, pred: Mapping[str, Any], insts: Sequence[Any]) -> dict[str, Tensor]:
        """Return `inst_loss`, the total over layers, and detached diagnostics of the last layer."""
        samples = collect(pred, insts, self.num_classes)
        finite = [torch.stack([mask.isfinite().all() for mask in sample.masks]) for sample in samples]
        check_values(samples, finite, self.num_classes, wording=WORDING)
        with torch.autocast(samples[0].masks[0].device.type, enabled=False):
            totals, shown = zip(*(self._sample(sample) for sample in samples))
        means = {f"inst_{name}": torch.stack([part[name] for part in shown]).mean() for name in shown[0]}
        return {"inst_loss": torch.stack(totals).sum() / len(samples), **means}

    def _sample(self, sample: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one sample over all layers, and the last layer's diagnostics."""
        found = [geomean_labels(mask, sample.targets) for mask in sample.masks]
        weight = sample.masks[0].new_ones(self.num_classes + 1, dtype=torch.float32)
        weight[-1] = self.non_object_weight
        labels = torch.cat([sample.labels, sample.labels.new_tensor([self.num_classes])])
        total = sample.masks[0].new_zeros((), dtype=torch.float32)
        for layer, masks in enumerate(sample.masks):
            terms = geomean_influencer_loss(
                masks, sample.targets, temperature=self.temperature, rep_margin=self.rep_margin
            )
            instance = found[layer] if self.iter_matcher else found[-1]
            classification = F.cross_entropy(sample.classes[layer].float(), labels[instance], weight)  # -1: no object
            total = total + self.class_weight * classification
            total = total + sum(factor * term for factor, term in zip(self.term_weights, terms))
            if sample.scores:
                total = total + 0.0 * sample.scores[layer].float().sum()  # DDP needs every head in the graph
        held = F.one_hot(found[-1] + 1, sample.targets.shape[0] + 1)[:, 1:].any(0)
        share = masked_mean(held.float(), torch.ones_like(held))
        return total, {**{name: term.detach() for name, term in terms._asdict().items()}, "own_query_share": share}
