"""Do two views put the surface that both see in the same place?"""

from __future__ import annotations

import math

import torch

from mapanything_opv2v.losses.rays import nearest_pixels

_NEAREST_M = 1e-6


def agreement(
    points: torch.Tensor,
    range_b: torch.Tensor,
    rays_b: torch.Tensor,
    R_common_b: torch.Tensor,
    t_common_b: torch.Tensor,
    surface_b: torch.Tensor,
    *,
    softness: float,
    hidden_beyond: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compare predicted points of one view with the predicted range of another view, b.

    Each point is taken into b by b's predicted pose and falls onto a pixel of b. With ``e = log(|point| / range)``:

    - ``e > log(1 + hidden_beyond)``: b sees something nearer; the point is hidden from it and says nothing.
    - else ``e^2 / (e^2 + softness^2)``: 0 for agreement, 1/2 at ``|e| = softness``, at most 1. A point well in
      front of the surface that b sees contradicts b and costs nearly 1, with hardly a gradient.

    The logarithm makes the error relative and the metric scale cancel. Values of both views carry gradients; which
    pixel a point falls onto does not.

    Parameters
    ----------
    points
        (B, N, 3) in the frame common to all views.
    range_b
        (B, H, W, 1) predicted distance along b's rays.
    rays_b
        (B, H, W, 3) true rays of b: its calibration.
    R_common_b, t_common_b
        (B, 3, 3) and (B, 3), predicted pose of b in the common frame.
    surface_b
        (B, H, W) bool: pixels of b that show a surface.
    softness
        Relative error at which the loss reaches 1/2.
    hidden_beyond
        Relative distance behind b's surface from which a point counts as hidden.

    Returns
    -------
    loss : (B, N)
        0 where `visible` is False.
    visible : (B, N) bool
    """
    in_b = (points - t_common_b[:, None]) @ R_common_b
    index, seen = nearest_pixels(rays_b, in_b.detach())
    seen = seen & surface_b.flatten(1).gather(1, index)
    projected = torch.linalg.vector_norm(in_b, dim=-1).clamp(min=_NEAREST_M)
    predicted = range_b.flatten(1).gather(1, index).clamp(min=_NEAREST_M)
    e = torch.log(projected) - torch.log(predicted)
    visible = seen & (e.detach() <= math.log1p(hidden_beyond))
    squared = e.square()
    return torch.where(visible, squared / (squared + softness**2), torch.zeros_like(e)), visible


def rotations(quaternions: torch.Tensor) -> torch.Tensor:
    """Return (..., 3, 3) rotations of (..., 4) quaternions x, y, z, w of any length but 0."""
    x, y, z, w = torch.nn.functional.normalize(quaternions, dim=-1).unbind(dim=-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
