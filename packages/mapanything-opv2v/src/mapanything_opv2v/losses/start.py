"""Where another vehicle is, and where each patch: losses of a start, which grow with the error.

Shapes: B samples, (h, w) patches, (H, W) pixels. Metres, OpenCV axes. MapAnything's pose losses grow with the root of
an error and reach every patch alike; a patch that is asked for its own place has to find it in the other view.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

UNIT_M = 15.0
"""The pose head's translations are in units of about the mean distance of what is seen, as MapAnything's."""

BENDS_AT_M = 5.0
"""Points and movements are compared by direction and the logarithm of their distance, about linear up to here."""

FARTHEST_M = 100.0
"""Points that a view sees farther away are not asked for."""

_SMOOTH = 0.1


def bent(points: torch.Tensor) -> torch.Tensor:
    """Return points (..., 3) with logarithmic distances."""
    away = points.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    return points / away * torch.log1p(away / BENDS_AT_M)


def of_patches(points: torch.Tensor, known: torch.Tensor, shape: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return for each patch the known point whose pixel is nearest to its middle, and whether there is one.

    Parameters
    ----------
    points : (B, H, W, 3)
        Points of a view, any axes.
    known : (B, H, W) bool
        Pixels whose point is known.
    shape : (int, int)
        Rows and columns of patches, h and w; they divide H and W.

    Returns
    -------
    points : (B, h, w, 3)
    known : (B, h, w) bool

    Raises
    ------
    ValueError
        If the patches do not divide the image.
    """
    count, height, width = known.shape
    rows, columns = shape
    if height % rows or width % columns:
        raise ValueError(f"{rows} x {columns} patches do not divide an image of {height} x {width} pixels")
    tall, wide = height // rows, width // columns
    y, x = (torch.arange(size, device=points.device) - size // 2 for size in (tall, wide))
    far = (y[:, None] ** 2 + x**2).flatten().float()

    def split(values: torch.Tensor) -> torch.Tensor:
        cut = values.reshape(count, rows, tall, columns, wide, -1)
        return cut.permute(0, 1, 3, 2, 4, 5).reshape(count, rows, columns, tall * wide, -1)

    there = split(known)[..., 0]
    nearest = torch.where(there, far, torch.full_like(far, torch.inf)).argmin(dim=-1)
    picked = split(points).gather(3, nearest[..., None, None].expand(*nearest.shape, 1, 3))[..., 0, :]
    return picked, there.any(dim=-1)


def points_loss(said: torch.Tensor, points: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Return the mean over known patches of how far bent points (B, h, w, 3) are from true ones, not bent yet."""
    error = F.smooth_l1_loss(said, bent(points), beta=_SMOOTH, reduction="none").sum(dim=-1)
    return torch.where(known, error, torch.zeros_like(error)).sum() / known.sum().clamp_min(1)


def turn_loss(R: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Return the mean of 2 sin^2 of half the angle between rotations (B, 3, 3)."""
    return ((R - true) ** 2).sum(dim=(1, 2)).mean() / 4


def movement_loss(moved_m: torch.Tensor, true_m: torch.Tensor) -> torch.Tensor:
    """Return the smooth distance of bent movements (B, 3), which grows with the error."""
    return 3 * F.smooth_l1_loss(bent(moved_m), bent(true_m), beta=_SMOOTH)


def angles_deg(R: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Return the angles (B,) between rotations (B, 3, 3), degrees."""
    trace = (R * true).sum(dim=(1, 2))
    return torch.rad2deg(torch.arccos(((trace - 1) / 2).clamp(-1, 1)))
