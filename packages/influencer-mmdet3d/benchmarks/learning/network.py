"""The demo's segmentor with queries at given seeds and, for denoising, further queries in known instances.

Shape legend: B samples, N points, Q queries, P pilot queries, K instances, C classes.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from influencer_mmdet3d.demo.decoder import MaskedQueryDecoder, seen_points
from influencer_mmdet3d.demo.encoder import VoxelUNet
from torch import Tensor, nn

from learning.data import Batch
from learning.settings import Settings


class Heads(NamedTuple):
    """Predictions of one layer: classes (B, Q, C + 1), masks (B, Q, N) logits, scores (B, Q, 1)."""

    classes: Tensor
    masks: Tensor
    scores: Tensor

    def rows(self, part: slice) -> Heads:
        """Return the predictions of some queries."""
        return Heads(*(value[:, part] for value in self))


class Pilots(NamedTuple):
    """Queries that start in known instances and look at their noisy masks (DN-DETR, Li et al. 2022; MP-Former,
    Zhang et al. 2023): seeds (B, P) int64, masks (B, P, N) bool."""

    seeds: Tensor
    masks: Tensor


def draw_pilots(batch: Batch, noise: float, generator: torch.Generator) -> Pilots:
    """Draw one pilot for each instance (P = K): a random point of it, and its mask with a share of points flipped.

    As many points leave the mask as join it on average: `noise` is the share of the mask's points that are replaced.
    """
    count = batch.labels.shape[1]
    draw = torch.rand(batch.segments.shape, generator=generator, device=batch.segments.device)
    masks = torch.nn.functional.one_hot(batch.segments, count).transpose(1, 2).bool()
    seeds = (draw.unsqueeze(1) * masks).argmax(-1)
    flip = torch.rand(masks.shape, generator=generator, device=masks.device)
    size = masks.sum(-1, keepdim=True)
    joining = noise * size / (masks.shape[-1] - size).clamp_min(1)
    return Pilots(seeds, torch.where(masks, flip >= noise, flip < joining))


class SeededDecoder(MaskedQueryDecoder):
    """The demo's decoder; pilots are appended to the queries, and neither group sees the other.

    `many`, if any, is a self-attention for the last set of queries alone, in training.
    """

    many: nn.ModuleList | None

    def with_pilots(self, features: Tensor, xyz: Tensor, seeds: Tensor, pilots: Pilots) -> list[Heads]:
        """Return the predictions of all layers for Q + P queries, the pilots last."""
        queries = self._begin(features, xyz, torch.cat([seeds, pilots.seeds], 1))
        source, mask_features = self.source(features), self.mask_features(features)
        group = torch.arange(queries.shape[1], device=queries.device) < seeds.shape[1]
        together = (group.unsqueeze(0) == group.unsqueeze(1)).expand(len(queries), -1, -1)
        known = pilots.masks | ~pilots.masks.any(-1, keepdim=True)
        layers = [self._heads(queries, mask_features)]
        for number in range(len(self.cross)):
            inside = torch.cat([seen_points(layers[-1]["masks"][:, : seeds.shape[1]]), known], 1)
            queries = self._block(number, queries, source, inside, together)
            layers.append(self._heads(queries, mask_features))
        return [_heads(layer) for layer in layers]

    def in_groups(
        self, features: Tensor, xyz: Tensor, seeds: Tensor, groups: int, pilots: Pilots | None
    ) -> list[Heads]:
        """Return the predictions of all layers for G Q + P queries; each set, and the pilots, see themselves alone.

        Parameters
        ----------
        features, xyz : Tensor
            As for the decoder.
        seeds : Tensor
            (B, G Q) starts, one set after the other.
        groups : int
            G.
        pilots : Pilots, optional
            Denoising queries.
        """
        every = seeds if pilots is None else torch.cat([seeds, pilots.seeds], 1)
        count = seeds.shape[1]
        queries = self._begin(features, xyz, every)
        source, mask_features = self.source(features), self.mask_features(features)
        layers = [self._heads(queries, mask_features)]
        for number in range(len(self.cross)):
            inside = seen_points(layers[-1]["masks"][:, :count])
            if pilots is not None:
                inside = torch.cat([inside, pilots.masks | ~pilots.masks.any(-1, keepdim=True)], 1)
            queries = self.cross[number](queries, source, inside)
            sets = queries[:, :count].unflatten(1, (groups, -1)).flatten(0, 1)
            parts = [self._among_sets(number, sets, groups)]
            if pilots is not None:
                parts.append(self.own[number](queries[:, count:], queries[:, count:]))
            queries = torch.cat(parts, 1)
            queries = self.feed_norms[number](queries + self.feed[number](queries))
            layers.append(self._heads(queries, mask_features))
        return [_heads(layer) for layer in layers]

    def _among_sets(self, number: int, sets: Tensor, groups: int) -> Tensor:
        """Let the queries of each set (B G, Q, D) see each other; returns (B, G Q, D)."""
        if self.many is None:
            return self.own[number](sets, sets).unflatten(0, (-1, groups)).flatten(1, 2)
        each = sets.unflatten(0, (-1, groups))
        first = each[:, :-1].flatten(0, 1)
        seen = self.own[number](first, first).unflatten(0, (len(each), -1)).flatten(1, 2)
        return torch.cat([seen, self.many[number](each[:, -1], each[:, -1])], 1)


class Segmentor(nn.Module):
    """Encoder and decoder of the demo, in the sizes of the settings.

    With `many`, the last of the sets in training has a self-attention of its own, which starts from the same weights.
    """

    def __init__(self, settings: Settings, queries: int, num_classes: int, many: bool = False) -> None:
        super().__init__()
        self.encoder = VoxelUNet(settings.encoder_width, settings.width, settings.voxel)
        self.decoder = SeededDecoder(num_classes, queries, settings.width, settings.layers, settings.heads)
        self.decoder.many = copy.deepcopy(self.decoder.own) if many else None

    def forward(self, batch: Batch, pilots: Pilots | None = None, groups: int = 1) -> list[Heads]:
        """Return the predictions of every supervised layer, the last one last; starts of all groups are given."""
        features, xyz = self.encoder(batch.points), batch.points[..., :3]
        if groups > 1:
            return self.decoder.in_groups(features, xyz, batch.seeds, groups, pilots)
        if pilots is not None:
            return self.decoder.with_pilots(features, xyz, batch.seeds, pilots)
        pred = self.decoder(features, xyz, batch.seeds)
        return [_heads(layer) for layer in (*pred["aux_outputs"], pred)]


def _heads(layer: dict[str, Tensor]) -> Heads:
    return Heads(layer["cls_preds"], layer["masks"], layer["scores"])
