"""Influencer loss in an embedding space, for point clouds without query masks.

Shape legend: N points, D embedding dimensions, K instances.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EmbeddingInfluencerLoss(nn.Module):
    """Attraction to each instance's influencer, hinge between influencers, and a score that finds them.

    The influencer of an instance is its point of highest beta. With embeddings x, influencer a(k) of instance k:

    * attraction = mean over instances of the mean over its points of ||x_i - x_a(k)||^2,
    * repulsion = mean over pairs of instances of max(0, margin - ||x_a(k) - x_a(l)||),
    * beta = binary cross-entropy of beta against 1 at influencers and 0 elsewhere, each half weighted equally.

    Parameters
    ----------
    attr_weight, rep_weight, beta_weight : float
        Weights of the three terms.
    margin : float
        Distance, in units of the embedding, beyond which influencers do not repel; > 0.

    References
    ----------
    D. Murnane, "Influencer Loss: End-to-end Geometric Representation Learning for Track Reconstruction",
    EPJ Web of Conferences 295, 09016 (2024). J. Kieseler, "Object condensation", Eur. Phys. J. C 80, 886 (2020):
    the choice of the highest-beta point.
    """

    def __init__(
        self, attr_weight: float = 1.0, rep_weight: float = 1.0, beta_weight: float = 1.0, margin: float = 1.0
    ) -> None:
        super().__init__()
        if not margin > 0:
            raise ValueError(f"EmbeddingInfluencerLoss: margin must be > 0, got {margin}")
        self.attr_weight, self.rep_weight, self.beta_weight, self.margin = (
            attr_weight,
            rep_weight,
            beta_weight,
            margin,
        )

    def forward(self, embedding: Tensor, beta_logits: Tensor, instance: Tensor) -> Tensor:
        """Return the weighted sum of `embedding_influencer_terms` (scalar); same arguments."""
        attraction, repulsion, beta = embedding_influencer_terms(embedding, beta_logits, instance, margin=self.margin)
        return self.attr_weight * attraction + self.rep_weight * repulsion + self.beta_weight * beta


def embedding_influencer_terms(
    embedding: Tensor, beta_logits: Tensor, instance: Tensor, *, margin: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Return attraction, repulsion and beta terms, see `EmbeddingInfluencerLoss`.

    Parameters
    ----------
    embedding : Tensor
        (N, D) float.
    beta_logits : Tensor
        (N,) float; beta is their sigmoid.
    instance : Tensor
        (N,) int64, any ids >= 0; -1 for points of no instance, which take part in the beta term alone.
    margin : float
        See the module.

    Raises
    ------
    ValueError
        If shapes or types do not fit.
    """
    points = embedding.shape[0]
    if embedding.ndim != 2 or beta_logits.shape != (points,) or instance.shape != (points,):
        raise ValueError(
            "expected embedding (N, D), beta_logits (N,) and instance (N,), got "
            f"{tuple(embedding.shape)}, {tuple(beta_logits.shape)} and {tuple(instance.shape)}"
        )
    if instance.is_floating_point() or instance.dtype == torch.bool:
        raise ValueError(f"instance must hold integer ids, got {instance.dtype}")
    embedding, beta_logits = embedding.float(), beta_logits.float()
    inside = (instance >= 0).nonzero().squeeze(1)
    zero = 0.0 * (embedding.sum() + beta_logits.sum())
    if inside.numel() == 0:
        return zero, zero, F.softplus(beta_logits).mean() if points else zero
    group = torch.unique(instance[inside], return_inverse=True)[1]  # (M,) in [0, K)
    influencer = inside[_argmax_per_group(beta_logits[inside].detach(), group)]
    centre = embedding[influencer]  # (K, D)
    count = len(influencer)
    square = (embedding[inside] - centre[group]).square().sum(1)
    size = torch.bincount(group, minlength=count)
    attraction = (zero.new_zeros(count).index_add(0, group, square) / size).mean()
    repulsion = (margin - _distances(centre, margin)).clamp_min(0).mean() if count > 1 else zero
    target = torch.zeros_like(beta_logits)
    target[influencer] = 1.0
    cost = F.binary_cross_entropy_with_logits(beta_logits, target, reduction="none")
    others = (cost * (1 - target)).sum() / max(points - count, 1)
    return attraction, repulsion, 0.5 * ((cost * target).sum() / count + others)


def _distances(centre: Tensor, margin: float) -> Tensor:
    """Return the distances of all pairs; those of coinciding points are taken a little apart.

    A distance of 0 has no gradient: such points would never part. Fixed directions, the same in every step, part them.
    """
    generator = torch.Generator().manual_seed(0)
    apart = torch.randn(centre.shape, generator=generator).to(centre.device)
    distance = torch.pdist(centre)
    return torch.where(distance.detach() < 1e-6 * margin, torch.pdist(centre + 1e-4 * margin * apart), distance)


def _argmax_per_group(values: Tensor, group: Tensor) -> Tensor:
    """Return the index of the first highest value in each group, (K,), given (M,) values and groups in [0, K)."""
    order = torch.argsort(values, descending=True, stable=True)
    grouped = order[torch.argsort(group[order], stable=True)]
    size = torch.bincount(group)
    return grouped[size.cumsum(0) - size]
