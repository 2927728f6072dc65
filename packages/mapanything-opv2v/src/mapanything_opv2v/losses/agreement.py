"""Do two views put the surface that both see in the same place?"""

from __future__ import annotations

import torch

from mapanything_opv2v.losses.rays import neighbours, project

_NEAREST_M = 1e-6


def range_gap(
    points: torch.Tensor,
    range_b: torch.Tensor,
    rays_b: torch.Tensor,
    R_common_b: torch.Tensor,
    t_common_b: torch.Tensor,
    surface_b: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``log(|point| / range)`` of points seen from a view b against b's own range in their direction.

    Positive is behind the surface that b sees, negative in front of it. Each point is taken into b by b's pose and
    falls between four pixels of b; their inverse ranges, nearly linear in the image of a plane, are interpolated.
    The logarithm makes the error relative and lets a scale common to both cancel. Values of both views and the pose
    carry gradients; the place where a point falls does not.

    Parameters
    ----------
    points
        (B, N, 3) in the frame common to all views.
    range_b
        (B, H, W, 1) distance along b's rays.
    rays_b
        (B, H, W, 3) true rays of b: its calibration.
    R_common_b, t_common_b
        (B, 3, 3) and (B, 3), pose of b in the common frame.
    surface_b
        (B, H, W) bool: pixels of b whose range counts; a point needs four of them.

    Returns
    -------
    gap : (B, N)
    known : (B, N) bool
        Whether b shows a surface in the point's direction; elsewhere `gap` means nothing.
    """
    in_b = (points - t_common_b[:, None]) @ R_common_b
    u, v, seen = project(rays_b, in_b.detach())
    u, v = (torch.where(seen, place, torch.zeros_like(place)) for place in (u, v))
    index, weight = neighbours(rays_b, u, v)

    def around(values: torch.Tensor) -> torch.Tensor:
        return values.flatten(1).gather(1, index.flatten(1)).view(index.shape)

    inverse_range = (weight / around(range_b).clamp(min=_NEAREST_M)).sum(dim=1)
    gap = torch.log(torch.linalg.vector_norm(in_b, dim=-1).clamp(min=_NEAREST_M) * inverse_range)
    return gap, seen & around(surface_b).all(dim=1)


def bounded(gap: torch.Tensor, softness: float) -> torch.Tensor:
    """Return ``gap^2 / (gap^2 + softness^2)``: 0 for agreement, 1/2 at `softness`, below 1, large gaps hardly pull."""
    squared = gap.square()
    return squared / (squared + softness**2)


def rotations(quaternions: torch.Tensor) -> torch.Tensor:
    """Return (..., 3, 3) rotations of (..., 4) quaternions x, y, z, w of any length but 0."""
    x, y, z, w = torch.nn.functional.normalize(quaternions, dim=-1).unbind(dim=-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
