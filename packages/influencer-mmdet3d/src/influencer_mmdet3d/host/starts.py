"""Where queries start: points far from each other, others of the same places, and noisy copies of known instances.

Shape legend: N points of one scene, Q starts, K instances. Random choices take torch's default generator, as the host's
own do, so that a seed fixes them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def far_apart(xyz: Tensor, count: int, first: int | None = None) -> tuple[Tensor, Tensor]:
    """Return points that lie far from each other, and the nearest of them for every point.

    Farthest point sampling (Gonzalez 1985): each next point is the one farthest from all chosen ones.

    Parameters
    ----------
    xyz : Tensor
        (N, 3), N > 0.
    count : int
        Q. With fewer points than that, points are taken again.
    first : int, optional
        The first point; by default the one farthest from the middle, which does not depend on their order.

    Returns
    -------
    starts : Tensor
        (Q,) int64.
    cell : Tensor
        (N,) int64 in [0, Q), the Voronoi cell of every point.
    """
    xyz = xyz.float()
    start = (xyz - xyz.mean(0)).square().sum(1).argmax() if first is None else xyz.new_tensor(first, dtype=torch.long)
    chosen = []
    distance = torch.full((len(xyz),), torch.inf, device=xyz.device)
    cell = torch.zeros(len(xyz), dtype=torch.long, device=xyz.device)
    for number in range(count):
        chosen.append(start)
        reach = (xyz - xyz[start]).square().sum(1)
        cell.masked_fill_(reach < distance, number)
        distance = torch.minimum(distance, reach)
        start = distance.argmax()
    return torch.stack(chosen), cell


def random_of_cells(cell: Tensor, starts: Tensor) -> Tensor:
    """Return a random point of every start's cell, (Q,); the start itself where its cell is empty.

    Parameters
    ----------
    cell : Tensor
        (N,) int64, from `far_apart`.
    starts : Tensor
        (Q,) int64.
    """
    noise = torch.rand(len(cell), dtype=torch.float64, device=cell.device)
    order = (cell + noise).argsort()  # by cell, in random order within it
    size = torch.bincount(cell, minlength=len(starts))
    first = (size.cumsum(0) - size).clamp_max(len(cell) - 1)
    return torch.where(size > 0, order[first], starts)


def noisy_instances(masks: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    """Return a random point of every instance, and its mask with a share of the points replaced.

    Denoising queries start at the point and look at the mask (DN-DETR, Li et al. 2022; MP-Former, Zhang et al. 2023).
    As many points leave a mask as join it on average.

    Parameters
    ----------
    masks : Tensor
        (K, N) bool.
    noise : float
        Share of a mask's points that are replaced, in [0, 1).

    Returns
    -------
    points : Tensor
        (max(K, 1),) int64, 0 for an empty mask: there is always a query, or a decoder's layers could be without one.
    masks : Tensor
        (max(K, 1), N) bool.
    """
    if len(masks) == 0:
        masks = masks.new_zeros(1, masks.shape[1])
    points = (torch.rand(masks.shape, device=masks.device) * masks).argmax(1)
    draw = torch.rand(masks.shape, device=masks.device)
    size = masks.sum(1, keepdim=True)
    joining = noise * size / (masks.shape[1] - size).clamp_min(1)
    return points, torch.where(masks, draw >= noise, draw < joining)
