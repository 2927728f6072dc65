"""From the decoder's output of one room to instances, by the host's S3DIS recipe.

Shape legend: Q queries, N points, C classes, P predicted instances.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NMS = ("hard", "matrix", "none")


@dataclass(frozen=True)
class Prediction:
    """Predicted instances of one room.

    Attributes
    ----------
    masks : Tensor
        (P, N) bool; points may be in several masks or in none.
    labels : Tensor
        (P,) int64.
    scores : Tensor
        (P,) float, higher first.
    """

    masks: Tensor
    labels: Tensor
    scores: Tensor


@torch.no_grad()
def predict(
    classes: Tensor,
    masks: Tensor,
    scores: Tensor,
    *,
    top: int = 100,
    nms: str = "hard",
    nms_iou: float = 0.6,
    threshold: float = 0.5,
    min_points: int = 20,
    min_score: float = 0.02,
) -> Prediction:
    """Rank (query, class) pairs, drop duplicates, cut masks.

    Parameters
    ----------
    classes : Tensor
        (Q, C + 1) logits, the last column "no object".
    masks : Tensor
        (Q, N) logits.
    scores : Tensor
        (Q, 1), raw output of the score head.
    top : int
        Pairs that are kept by rank.
    nms : {'hard', 'matrix', 'none'}
        What happens to duplicates: dropped, their rank lowered (`matrix_decay`, as in the host), or nothing.
    nms_iou : float
        For 'hard': a pair is dropped if a better one of its class has a mask of higher IoU.
    threshold : float
        Probability above which a point is in the mask.
    min_points : int
        Smallest mask.
    min_score : float
        Smallest rank: class probability x score x mean probability inside the mask.

    Returns
    -------
    Prediction

    Raises
    ------
    ValueError
        For an unknown `nms`.
    """
    if nms not in NMS:
        raise ValueError(f"nms must be one of {NMS}, got {nms!r}")
    probability = classes.float().softmax(-1)[:, :-1]
    inside = masks.float().sigmoid()
    binary = inside > threshold
    size = binary.sum(1)
    quality = (inside * binary).sum(1) / size.clamp_min(1)
    rank = probability * scores.float() * quality.unsqueeze(1)
    best, pair = rank.flatten().topk(min(top, rank.numel()))
    keep = best > min_score
    best, pair = best[keep], pair[keep]
    query = torch.div(pair, probability.shape[1], rounding_mode="floor")
    label = pair % probability.shape[1]
    keep = size[query] >= min_points
    query, label, best = query[keep], label[keep], best[keep]
    if nms == "hard":
        keep = _suppress(binary[query], label, nms_iou)
        query, label, best = query[keep], label[keep], best[keep]
    found = Prediction(binary[query], label, best)
    return matrix_nms(found, min_score) if nms == "matrix" else found


@torch.no_grad()
def matrix_nms(found: Prediction, min_score: float = 0.02) -> Prediction:
    """Lower the ranks of duplicates, best rank first, and drop those that are then not above `min_score`."""
    best, order = (found.scores * matrix_decay(_class_iou(found.masks, found.labels))).sort(descending=True)
    best, order = best[best > min_score], order[best > min_score]
    return Prediction(found.masks[order], found.labels[order], best)


def _class_iou(masks: Tensor, labels: Tensor) -> Tensor:
    """Return the IoU (P, P) of masks (P, N) bool, 0 between different labels."""
    flat = masks.float()
    both = flat @ flat.T
    size = flat.sum(1)
    iou = both / (size.unsqueeze(0) + size.unsqueeze(1) - both).clamp_min(1)
    return iou * (labels.unsqueeze(0) == labels.unsqueeze(1))


def matrix_decay(iou: Tensor) -> Tensor:
    """Return the factor (P,) by which better duplicates lower a rank: matrix NMS, linear (SOLOv2, Wang et al. 2020).

    With m[i] the largest IoU of i with a better one, the factor of j is the least of (1 - iou[i, j]) / (1 - m[i])
    over the better i: a duplicate that is one itself lowers others less.

    Parameters
    ----------
    iou : Tensor
        (P, P), 0 between different classes; best rank first.
    """
    if not len(iou):
        return iou.new_ones(0)
    better = iou.triu(1)
    return ((1 - better) / (1 - better.amax(0).unsqueeze(1)).clamp_min(1e-6)).amin(0).clamp_max(1.0)


def _suppress(masks: Tensor, labels: Tensor, limit: float) -> Tensor:
    """Return which of the ranked masks (P, N) stay when better ones of their class suppress them."""
    rows = (_class_iou(masks, labels) > limit).cpu()
    stay = torch.ones(len(masks), dtype=torch.bool)
    for row in range(len(masks)):
        if stay[row]:
            stay[row + 1 :] &= ~rows[row, row + 1 :]
    return stay.to(masks.device)
