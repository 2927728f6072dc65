"""What a view's unit rays say about its camera: pinhole or panorama, closed or open, and where a point falls.

Camera frame: OpenCV axes, x right, y down, z forward. `rays` are (B, H, W, 3) unit vectors through the pixel centres.
Only the corner rays and the middle row are read.
"""

from __future__ import annotations

import math

import torch

_TURN = 2 * math.pi


def is_panorama(rays: torch.Tensor) -> torch.Tensor:
    """Return (B,) bool: whether some ray does not point forward, so that z-depth means nothing."""
    return (rays[..., 2] <= 0).flatten(1).any(dim=1)


def closes(rays: torch.Tensor) -> torch.Tensor:
    """Return (B,) bool: whether the last column neighbours the first, one step of azimuth further."""
    row = rays[:, rays.shape[1] // 2]
    azimuth = torch.atan2(row[..., 0], row[..., 2])
    step = (azimuth[:, 1] - azimuth[:, 0]) % _TURN
    gap = (azimuth[:, 0] - azimuth[:, -1]) % _TURN
    return (gap - step).abs() < 0.5 * step


def nearest_pixels(rays: torch.Tensor, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pixel onto which each point of a view's own frame falls; not differentiable.

    Columns and rows of a pinhole image are linear in x/z and y/z, those of a panorama in azimuth and elevation; the
    corner rays give the two lines.

    Parameters
    ----------
    rays
        (B, H, W, 3), a pinhole image without skew or a cylinder of equal steps of azimuth and elevation.
    points
        (B, N, 3) in the camera frame.

    Returns
    -------
    index : (B, N) int64
        Row times W plus column; 0 where nothing is seen.
    seen : (B, N) bool
        Whether the point lies in the image and, for a pinhole image, in front of it.
    """
    height, width = rays.shape[1:3]
    with torch.no_grad():
        panorama = is_panorama(rays)[:, None]
        corners = torch.stack([rays[:, 0, 0], rays[:, -1, -1]], dim=1)
        u_corner, v_corner = _coordinates(corners, panorama)
        u, v = _coordinates(points, panorama)
        span = torch.where(panorama, (u_corner[:, 1:] - u_corner[:, :1]) % _TURN, u_corner[:, 1:] - u_corner[:, :1])
        offset = u - u_corner[:, :1]
        # Half a column left of the first centre is still the first column.
        half = 0.5 * span / max(width - 1, 1)
        offset = torch.where(panorama, (offset + half) % _TURN - half, offset)
        column = torch.round(offset / span * (width - 1))
        row = torch.round((v - v_corner[:, :1]) / (v_corner[:, 1:] - v_corner[:, :1]) * (height - 1))
        seen = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        seen &= panorama | (points[..., 2] > 0)
        index = torch.where(seen, row * width + column, torch.zeros_like(row)).long()
    return index, seen


def _coordinates(vectors: torch.Tensor, panorama: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return azimuth and downward angle for panoramas, x/z and y/z else; (B, N) each, `panorama` is (B, 1)."""
    x, y, z = vectors.unbind(dim=-1)
    z_safe = torch.where(z.abs() > 1e-9, z, torch.full_like(z, 1e-9))
    u = torch.where(panorama, torch.atan2(x, z), x / z_safe)
    v = torch.where(panorama, torch.atan2(y, torch.hypot(x, z)), y / z_safe)
    return u, v
