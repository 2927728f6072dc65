"""From predictions and a batch to the loss of a recipe; every form shares costs, class, mask and score losses.

Shape legend: L layers, B samples, E = L B entries (entry = layer x B + sample), N points, Q queries, K instances
(padded), C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from geomean import GeomeanCriterion
from influencer_mmdet3d import InfluencerCriterion
from influencer_mmdet3d.loss.assignment import MaskCosts, influence
from influencer_mmdet3d.loss.losses import Assignment, attraction, masked_mean, repulsion
from torch import Tensor

from learning.data import Batch
from learning.matching import greedy, hungarian, one_hot, sinkhorn, sparse
from learning.network import Heads
from learning.recipes import Recipe

Weights = tuple[float, float, float, float]


def pair_costs(masks: Sequence[Tensor], segments: Tensor, count: int) -> MaskCosts:
    """Return BCE, Dice and soft IoU (E, Q, K) of L x (B, Q, N) logits and instances (B, N) in [0, K)."""
    onehot = F.one_hot(segments, count).float()
    size = onehot.sum(1).unsqueeze(1)  # (B, 1, K)
    layers = []
    for logits in masks:
        x = logits.float()
        prob = x.sigmoid()
        inside, covered = torch.bmm(prob, onehot), prob.sum(-1, keepdim=True)
        bce = (F.softplus(x).sum(-1, keepdim=True) - torch.bmm(x, onehot)) / x.shape[-1]
        iou = (inside / (covered + size - inside).clamp_min(1e-6)).detach()
        layers.append(MaskCosts(bce, 1 - (2 * inside + 1) / (covered + size + 1), iou))
    return MaskCosts(*(torch.cat(parts) for parts in zip(*layers)))


class _Entries(NamedTuple):
    """All layers and samples side by side."""

    classes: Tensor  # (E, Q, C + 1)
    scores: Tensor  # (E, Q)
    labels: Tensor  # (E, K)
    mask_cost: Tensor  # (E, Q, K)
    cost: Tensor  # (E, Q, K), with the class, detached from the class head
    iou: Tensor  # (E, Q, K)
    present: Tensor  # (E, K) bool
    masks: list[Tensor]  # L x (B, Q, N) logits


class Criterion:
    """The loss of one recipe.

    Parameters
    ----------
    recipe : Recipe
        What to do.
    num_classes : int
        C.
    loss_weight : (float, float, float, float)
        Class, mask BCE, mask Dice, score.
    """

    def __init__(self, recipe: Recipe, num_classes: int, loss_weight: Weights) -> None:
        self.recipe, self.num_classes, self.loss_weight = recipe, num_classes, loss_weight
        self.package: InfluencerCriterion | GeomeanCriterion | None = None
        common: dict[str, Any] = {
            "num_classes": num_classes,
            "loss_weight": loss_weight,
            "non_object_weight": recipe.non_object_weight,
            "temperature": recipe.temperature,
            "rep_weight": recipe.rep_weight,
        }
        if recipe.form == "geomean":
            self.package = GeomeanCriterion(**common)
        elif recipe.form == "package":
            self.package = InfluencerCriterion(
                **common,
                soft_share=recipe.soft_share,
                score_others=recipe.score_others,
                class_cost="log_odds" if recipe.odds else "probability",
                class_cost_weight=recipe.class_cost,
                pilot_weight=recipe.pilots,
            )

    def __call__(self, layers: Sequence[Heads], batch: Batch, progress: float, groups: int = 1) -> Tensor:
        """Return the loss, summed over layers, mean over samples.

        Parameters
        ----------
        layers : sequence of Heads
            Predictions; rows beyond those of `batch.seeds` are pilots.
        batch : Batch
            The samples.
        progress : float
            Share of the training that is done, 0 to 1, for ramps.
        groups : int
            G, query sets in the rows and in `batch.seeds`, one after the other; their losses are averaged. With
            `Recipe.many` one more set follows.
        """
        recipe, queries = self.recipe, batch.seeds.shape[1]
        pilots = [layer.rows(slice(queries, None)) for layer in layers] if recipe.pilots else None
        last = None
        if recipe.many:
            queries = queries // (groups + 1) * groups
            stop = batch.seeds.shape[1]
            last = (
                [layer.rows(slice(queries, stop)) for layer in layers],
                batch._replace(seeds=batch.seeds[:, queries:]),
            )
            batch = batch._replace(seeds=batch.seeds[:, :queries])
        regular = [layer.rows(slice(None, queries)) for layer in layers]
        with torch.autocast(batch.points.device.type, enabled=False):
            if self.package is not None:
                return self._package(regular, batch, groups, pilots)
            sets = in_sets(batch, groups)
            entries = self._entries([Heads(*(_folded(x, groups) for x in layer)) for layer in regular], sets)
            assigned = self._assign(entries, sets, len(layers), progress)
            loss = self._losses(entries, sets, *assigned, self.non_object_weight(progress)).sum() / len(sets.points)
            if last is not None:
                by_many = self._many(self._entries(*last), last[1], len(layers), progress).sum() / len(batch.points)
                loss = (groups * loss + by_many) / (groups + 1)
            if pilots is not None:
                by_pilots = self._pilots(self._entries(pilots, batch)).sum() / len(batch.points)
                loss = loss + self.recipe.pilots * by_pilots
            return loss

    def _package(self, layers: Sequence[Heads], batch: Batch, groups: int, pilots: Sequence[Heads] | None) -> Tensor:
        assert self.package is not None
        pred = _listed(layers)
        if groups > 1:
            pred["groups"] = groups
        if pilots is not None:
            pred["pilots"] = _listed(pilots)
        count = batch.labels.shape[1]
        masks = F.one_hot(batch.segments, count).transpose(1, 2).bool()
        insts = [SimpleNamespace(sp_masks=mask, labels_3d=label) for mask, label in zip(masks, batch.labels)]
        if self.recipe.query_masks:
            pred["starts"] = list(batch.seeds)
        return self.package(pred, insts)["inst_loss"]

    def _entries(self, layers: Sequence[Heads], batch: Batch) -> _Entries:
        _, by_bce, by_dice, _ = self.loss_weight
        masks = [layer.masks for layer in layers]
        costs = pair_costs(masks, batch.segments, batch.labels.shape[1])
        classes = torch.cat([layer.classes.float() for layer in layers])
        labels = batch.labels.repeat(len(layers), 1)
        mask_cost = by_bce * costs.bce + by_dice * costs.dice
        belief = self._belief(classes.detach(), labels, costs.iou)
        scores = torch.cat([layer.scores.float().squeeze(-1) for layer in layers])
        present = batch.present.repeat(len(layers), 1)
        cost = mask_cost - self.recipe.class_cost * belief
        return _Entries(classes, scores, labels, mask_cost, cost, costs.iou, present, masks)

    def _belief(self, classes: Tensor, labels: Tensor, iou: Tensor) -> Tensor:
        """Return how far each query is taken for each instance's class, (E, Q, K)."""
        recipe = self.recipe
        belief = classes - classes[..., -1:] if recipe.odds else classes.softmax(-1)
        belief = belief.gather(2, labels.unsqueeze(1).expand_as(iou))
        if not recipe.modulated:
            return belief
        factor = iou.clamp(1e-6, 1) ** recipe.modulated
        return torch.logit(belief.sigmoid() * factor, eps=1e-6) if recipe.odds else belief * factor

    def _assign(
        self, entries: _Entries, batch: Batch, layers: int, progress: float
    ) -> tuple[Assignment, float, Tensor]:
        """Return the assignment, the share of the attraction that its influence carries, and claims (E, Q, K)."""
        form, queries = self.recipe.form, entries.cost.shape[1]
        allowed = entries.present.unsqueeze(1).expand_as(entries.cost)
        none = torch.zeros_like(entries.cost)
        cost = entries.cost
        if self.recipe.outside_cost:
            cost = cost + self.recipe.outside_cost * (~batch.inside).repeat(layers, 1, 1)
        if self.recipe.central:
            cost = cost + self.recipe.central * from_centre(batch).repeat(layers, 1, 1)
        if form == "hungarian":
            own = hungarian(cost.detach(), allowed)
            return Assignment(none, own), 0.0, one_hot(own, queries)
        if form == "sparse":
            own = sparse(cost.detach(), allowed & batch.inside.repeat(layers, 1, 1))
            return Assignment(none, own), 0.0, one_hot(own, queries)
        if form == "sinkhorn":
            plan = sinkhorn(cost.detach(), allowed, self.recipe.temperature, self.recipe.rounds)
            own = torch.where(entries.present, plan.argmax(1), -1)
            return Assignment(plan, own), 1.0, plan
        if self.recipe.query_masks:
            allowed = allowed & inside_or_all(batch).repeat(layers, 1, 1)
        heat = self.temperature(layers, progress).to(cost).repeat_interleave(len(batch.points)).view(-1, 1, 1)
        if self.recipe.rounds:
            share = sinkhorn(cost / heat, allowed, 1.0, self.recipe.rounds)
        else:
            share = influence(cost / heat, allowed, 1.0)
        own = greedy(cost.detach(), allowed)
        return Assignment(share, own), self.recipe.soft_share, one_hot(own, queries)

    def temperature(self, layers: int, progress: float) -> Tensor:
        """Return the temperature of every layer (L,)."""
        recipe = self.recipe
        if recipe.temperature_last_layer is not None:
            way = torch.arange(layers) / max(layers - 1, 1)
            stop = recipe.temperature_last_layer
        else:
            way = torch.full((layers,), progress)
            stop = recipe.temperature if recipe.temperature_stop is None else recipe.temperature_stop
        return recipe.temperature * (stop / recipe.temperature) ** way

    def non_object_weight(self, progress: float) -> float:
        """Return the class weight of "no object" after a share of the training."""
        begin, stop = self.recipe.non_object_weight, self.recipe.non_object_stop
        return begin if stop is None else begin * (stop / begin) ** progress

    def _losses(
        self,
        entries: _Entries,
        batch: Batch,
        assignment: Assignment,
        soft_share: float,
        claim: Tensor,
        non_object_weight: float,
    ) -> Tensor:
        """Return the loss (E,) of all queries."""
        by_class, _, _, by_score = self.loss_weight
        loss = attraction(entries.mask_cost, assignment, soft_share)
        target = claim * entries.iou**self.recipe.soft_targets if self.recipe.soft_targets else claim
        loss = loss + by_class * self._classification(entries, target, non_object_weight)
        loss = loss + by_score * self._score(entries, claim)
        if self.recipe.form == "influence" and self.recipe.rep_weight:
            loss = loss + self.recipe.rep_weight * repulsion(assignment.influence, 1.0)
        if self.recipe.contrast:
            loss = loss + self.recipe.contrast * self._contrast(entries, assignment.own)
        if self.recipe.everyone:
            loss = loss + self.recipe.everyone * self._everyone(entries, batch, claim)
        if self.recipe.crowding:
            loss = loss + self.recipe.crowding * self._crowding(entries)
        if self.recipe.compete:
            own = assignment.own.view(len(entries.masks), len(batch.points), -1)
            competition = [compete(masks, batch.segments, one) for masks, one in zip(entries.masks, own)]
            loss = loss + self.recipe.compete * torch.cat(competition)
        return loss

    def _classification(self, entries: _Entries, claim: Tensor, non_object_weight: float) -> Tensor:
        """Return the weighted cross-entropy (E,) against claimed classes, the rest of a query being "no object"."""
        target = entries.classes.new_zeros(entries.classes.shape)
        target.scatter_add_(2, entries.labels.unsqueeze(1).expand_as(claim), claim)
        target[..., -1] = (1 - claim.sum(2)).clamp_min(0)
        target[..., -1] *= non_object_weight
        return -(target * entries.classes.log_softmax(-1)).sum((1, 2)) / target.sum((1, 2)).clamp_min(1e-6)

    def _score(self, entries: _Entries, claim: Tensor) -> Tensor:
        """Return the squared error (E,) of scores."""
        if self.recipe.score_all:
            best = entries.iou.masked_fill(~entries.present.unsqueeze(1), 0).amax(2)
            return (entries.scores - best).square().mean(1)
        error = (entries.scores.unsqueeze(2) - entries.iou).square()
        own = masked_mean((claim * error).sum(1), claim.sum(1) > 0)
        if not self.recipe.score_others:
            return own
        free = (1 - claim.sum(2)).clamp_min(0)
        others = (free * entries.scores.square()).sum(1) / free.sum(1).clamp_min(1)
        return own + self.recipe.score_others * others

    def _contrast(self, entries: _Entries, own: Tensor) -> Tensor:
        """Return the ranking loss (E,) of own queries against queries that repeat their instance."""
        odds = entries.classes.gather(2, entries.labels.unsqueeze(1).expand_as(entries.iou)) - entries.classes[..., -1:]
        mine = odds.gather(1, own.clamp_min(0).unsqueeze(1))  # (E, 1, K)
        is_own = one_hot(own, odds.shape[1])
        repeats = (entries.iou > 0.5) & (is_own == 0) & (own >= 0).unsqueeze(1)
        return masked_mean(F.softplus(1 + odds - mine).flatten(1), repeats.flatten(1))

    def _everyone(self, entries: _Entries, batch: Batch, claim: Tensor) -> Tensor:
        """Return the mask cost (E,) of every query for the instance that it owns or starts in, mean over queries."""
        start = batch.segments.gather(1, batch.seeds).repeat(len(entries.masks), 1)
        home = torch.where(claim.sum(2) > 0, claim.argmax(2), start)
        return entries.mask_cost.gather(2, home.unsqueeze(2)).mean((1, 2))

    def _crowding(self, entries: _Entries) -> Tensor:
        """Return by how much object queries on an instance, each counted by its IoU, exceed one: mean (E,)."""
        is_object = 1 - entries.classes.softmax(-1)[..., -1:]
        return masked_mean(((is_object * entries.iou).sum(1) - 1).clamp_min(0), entries.present)

    def _many(self, entries: _Entries, batch: Batch, layers: int, progress: float) -> Tensor:
        """Return the loss (E,) of the set in which several queries answer for an instance, but in the last layer."""
        allowed = entries.present.unsqueeze(1) & inside_or_all(batch).repeat(layers, 1, 1)
        cost = entries.cost.detach().masked_fill(~allowed, torch.inf)
        rank = cost.argsort(1).argsort(1)
        count = torch.full((layers,), self.recipe.many, device=cost.device)
        count[-1] = 1
        count = count.repeat_interleave(len(batch.points)).view(-1, 1, 1)
        claim = torch.exp(-self.recipe.many_decay * rank) * ((rank < count) & allowed)
        first = torch.zeros_like(claim).scatter_(2, claim.argmax(2, keepdim=True), 1.0)
        claim = claim * first  # a query answers for one instance
        share = claim / claim.sum(1, keepdim=True).clamp_min(1e-6)
        found = claim.sum(1) > 0
        _, _, _, by_score = self.loss_weight
        error = (entries.scores.unsqueeze(2) - entries.iou).square()
        loss = masked_mean((share * (entries.mask_cost + by_score * error)).sum(1), found)
        return loss + self.loss_weight[0] * self._classification(entries, claim, self.non_object_weight(progress))

    def _pilots(self, entries: _Entries) -> Tensor:
        """Return the loss (E,) of pilots: number k is for instance k."""
        count = entries.present.shape[1]
        own = torch.where(entries.present, torch.arange(count, device=entries.present.device), -1)
        claim = one_hot(own, count)
        by_class, _, _, by_score = self.loss_weight
        entropy = F.cross_entropy(entries.classes.transpose(1, 2), entries.labels, reduction="none")
        mask = masked_mean(entries.mask_cost.diagonal(dim1=1, dim2=2), entries.present)
        score = masked_mean((claim * (entries.scores.unsqueeze(2) - entries.iou).square()).sum(1), entries.present)
        return mask + by_class * masked_mean(entropy, entries.present) + by_score * score


def _listed(layers: Sequence[Heads]) -> dict[str, Any]:
    """Return the decoder's output as the host hands it over."""
    names = {"cls_preds": "classes", "masks": "masks", "scores": "scores"}
    listed = [{key: list(getattr(layer, name)) for key, name in names.items()} for layer in layers]
    return {**listed[-1], "aux_outputs": listed[:-1]}


def in_sets(batch: Batch, groups: int) -> Batch:
    """Return the batch with every query set as a sample of its own."""
    if groups == 1:
        return batch
    repeated = [value.repeat_interleave(groups, 0) for value in batch[:-1]]
    return Batch(*repeated, _folded(batch.seeds, groups))


def _folded(rows: Tensor, groups: int) -> Tensor:
    """Turn (B, G Q, ...) into (B G, Q, ...)."""
    return rows.unflatten(1, (groups, -1)).flatten(0, 1)


def compete(logits: Tensor, segments: Tensor, own: Tensor) -> Tensor:
    """Return the cross-entropy (B,) between own queries over the points of their instances.

    Own queries (B, K) compete for each point by a softmax over their logits, of (B, Q, N); mean over the points of an
    instance in segments (B, N), then over instances with an own query.
    """
    has = own >= 0
    rows = own.clamp_min(0).unsqueeze(2).expand(-1, -1, logits.shape[2])
    x = logits.float().gather(1, rows).masked_fill(~has.unsqueeze(2), -1e9)
    entropy = F.cross_entropy(x, segments, reduction="none").unsqueeze(1)
    members = F.one_hot(segments, own.shape[1]).float()
    return masked_mean(torch.bmm(entropy, members).squeeze(1) / members.sum(1).clamp_min(1), has)


def from_centre(batch: Batch) -> Tensor:
    """Return how far queries start from the middle of instances (B, Q, K), in units of their mean radius, at most 2."""
    xyz = batch.points[..., :3]
    members = F.one_hot(batch.segments, batch.labels.shape[1]).float()
    size = members.sum(1).clamp_min(1)  # (B, K)
    centre = torch.bmm(members.transpose(1, 2), xyz) / size.unsqueeze(2)
    own_centre = centre.gather(1, batch.segments.unsqueeze(2).expand(-1, -1, 3))
    radius = torch.bmm((xyz - own_centre).norm(dim=2).unsqueeze(1), members).squeeze(1) / size
    starts = xyz.gather(1, batch.seeds.unsqueeze(2).expand(-1, -1, 3))
    return (torch.cdist(starts, centre) / radius.clamp_min(1e-3).unsqueeze(1)).clamp_max(2)


def inside_or_all(batch: Batch) -> Tensor:
    """Return which query starts inside which instance (B, Q, K); where none does, all queries."""
    inside = batch.inside
    return inside | ~inside.any(1, keepdim=True)


@torch.no_grad()
def diagnostics(layer: Heads, batch: Batch) -> dict[str, Tensor]:
    """Return, of the last layer: instances that some query covers (soft IoU over 0.5), and object queries for each.

    ``covered`` is the share of instances, ``repeats`` the number of further object queries on a covered instance.
    """
    iou = pair_costs([layer.masks], batch.segments, batch.labels.shape[1]).iou
    is_object = layer.classes.argmax(-1) < layer.classes.shape[-1] - 1
    covering = ((iou > 0.5) & is_object.unsqueeze(-1)).sum(1)  # (B, K)
    found = (covering > 0) & batch.present
    return {
        "covered": found.sum() / batch.present.sum(),
        "repeats": ((covering - 1).clamp_min(0) * found).sum() / found.sum().clamp_min(1),
    }
