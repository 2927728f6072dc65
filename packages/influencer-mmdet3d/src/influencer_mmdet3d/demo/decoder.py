"""Query decoder of the demo: queries look at the points inside their present mask, layer by layer.

Shape legend: B samples, Q queries, N points, C classes, D channels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from influencer_mmdet3d.demo.encoder import fourier


def farthest_points(xyz: Tensor, count: int) -> Tensor:
    """Return indices (B, count) of points (B, N, 3) that lie far from each other, the first point first.

    Farthest point sampling, Gonzalez 1985: each next point is the one farthest from all chosen ones.
    """
    chosen = [torch.zeros(xyz.shape[0], dtype=torch.long, device=xyz.device)]
    distance = torch.full(xyz.shape[:2], torch.inf, device=xyz.device)
    for _ in range(count - 1):
        last = xyz.gather(1, chosen[-1].view(-1, 1, 1).expand(-1, 1, 3))
        distance = torch.minimum(distance, (xyz - last).square().sum(-1))
        chosen.append(distance.argmax(1))
    return torch.stack(chosen, 1)


def seen_points(masks: Tensor) -> Tensor:
    """Return the points (B, Q, N) bool that queries with mask logits (B, Q, N) look at: a query without a mask, all."""
    inside = masks.detach() > 0
    return inside | ~inside.any(-1, keepdim=True)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, source: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Let x (B, Q, D) attend to source (B, N, D) where allowed (B, Q, N)."""

        def split(tensor: Tensor) -> Tensor:
            return tensor.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        mask = None if allowed is None else allowed.unsqueeze(1)
        seen = F.scaled_dot_product_attention(
            split(self.query(x)), split(self.key(source)), split(self.value(source)), attn_mask=mask
        )
        return self.norm(x + self.out(seen.transpose(1, 2).flatten(2)))


class MaskedQueryDecoder(nn.Module):
    """Decoder with masked attention and a class, a mask and a score head after every layer.

    Parameters
    ----------
    num_classes : int
        C; the class head has C + 1 columns, the last for "no object".
    num_queries : int
        Q; queries start from the features of Q points that lie far from each other.
    width : int
        D, also the number of input channels.
    num_layers : int
        Attention layers; one more set of predictions is supervised.
    heads : int
        Attention heads.
    """

    def __init__(
        self, num_classes: int, num_queries: int = 64, width: int = 64, num_layers: int = 3, heads: int = 4
    ) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.start = nn.Sequential(nn.Linear(width + 36, width), nn.GELU(), nn.Linear(width, width))
        self.source = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))
        self.mask_features = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.cross = nn.ModuleList([_Attention(width, heads) for _ in range(num_layers)])
        self.own = nn.ModuleList([_Attention(width, heads) for _ in range(num_layers)])
        self.feed = nn.ModuleList(
            [
                nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
                for _ in range(num_layers)
            ]
        )
        self.feed_norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(num_layers)])
        self.norm = nn.LayerNorm(width)
        self.classes = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, num_classes + 1))
        self.score = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))

    def forward(self, features: Tensor, xyz: Tensor, seeds: Tensor | None = None) -> dict[str, Any]:
        """Return the host's `pred` of features (B, N, D) at xyz (B, N, 3), metres.

        Parameters
        ----------
        features, xyz : Tensor
            Of the points.
        seeds : Tensor, optional
            (B, Q) indices of the points that queries start from; `farthest_points` if not given.

        Returns
        -------
        dict
            ``cls_preds`` (B, Q, C + 1), ``masks`` (B, Q, N) logits, ``scores`` (B, Q, 1) of the last layer and
            ``aux_outputs``, a list of the same for the earlier ones.
        """
        seeds = farthest_points(xyz, self.num_queries) if seeds is None else seeds
        queries = self._begin(features, xyz, seeds)
        source, mask_features = self.source(features), self.mask_features(features)
        layers = [self._heads(queries, mask_features)]
        for number in range(len(self.cross)):
            queries = self._block(number, queries, source, seen_points(layers[-1]["masks"]))
            layers.append(self._heads(queries, mask_features))
        return {**layers[-1], "aux_outputs": layers[:-1]}

    def _begin(self, features: Tensor, xyz: Tensor, seeds: Tensor) -> Tensor:
        """Return queries (B, Q, D) that start from the points at seeds (B, Q)."""
        rows = seeds.unsqueeze(-1)
        at_seeds = [tensor.gather(1, rows.expand(-1, -1, tensor.shape[-1])) for tensor in (features, fourier(xyz, 6))]
        start: Tensor = self.start(torch.cat(at_seeds, -1))
        return start

    def _block(
        self, number: int, queries: Tensor, source: Tensor, inside: Tensor, together: Tensor | None = None
    ) -> Tensor:
        """Attend to points inside (B, Q, N) and to queries, of which together (B, Q, Q) may see each other."""
        queries = self.cross[number](queries, source, inside)
        queries = self.own[number](queries, queries, together)
        result: Tensor = self.feed_norms[number](queries + self.feed[number](queries))
        return result

    def _heads(self, queries: Tensor, mask_features: Tensor) -> dict[str, Tensor]:
        queries = self.norm(queries)
        masks = torch.einsum("bqd,bnd->bqn", queries, mask_features)
        return {"cls_preds": self.classes(queries), "masks": masks, "scores": self.score(queries)}
