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


def project(rays: torch.Tensor, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return where points of a view's own frame fall in its image; not differentiable.

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
    u, v : (B, N)
        Column and row; pixel centres are integers. In a closed panorama u is in [-0.5, W - 0.5).
    seen : (B, N) bool
        Whether the point lies in the image and, for a pinhole image, in front of it.
    """
    height, width = rays.shape[1:3]
    with torch.no_grad():
        panorama = is_panorama(rays)[:, None]
        x, y = _coordinates(points, panorama)
        x_corner, y_corner = _coordinates(torch.stack([rays[:, 0, 0], rays[:, -1, -1]], dim=1), panorama)
        x_span, y_span = x_corner[:, 1:] - x_corner[:, :1], y_corner[:, 1:] - y_corner[:, :1]
        x_span = torch.where(panorama, x_span % _TURN, x_span)
        offset = x - x_corner[:, :1]
        half = 0.5 * x_span / (width - 1)  # half a column left of the first centre is still the first column
        offset = torch.where(panorama, (offset + half) % _TURN - half, offset)
        u = offset / x_span * (width - 1)
        v = (y - y_corner[:, :1]) / y_span * (height - 1)
        seen = (u >= -0.5) & (u < width - 0.5) & (v >= -0.5) & (v < height - 0.5)
        return u, v, seen & (panorama | (points[..., 2] > 0))


def neighbours(rays: torch.Tensor, u: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the four pixels around each place of an image, and their bilinear weights.

    At an open edge the edge pixel stands in for its missing neighbour; at a closed one, the other edge's pixel.

    Returns
    -------
    index : (B, 4, N) int64
        Row times W plus column.
    weight : (B, 4, N)
        Sums to 1.
    """
    height, width = rays.shape[1:3]
    closed = closes(rays)[:, None]
    left, top = torch.floor(u), torch.floor(v)
    right_share, low_share = u - left, v - top
    index, weight = [], []
    for down, row_share in ((0, 1 - low_share), (1, low_share)):
        row = (top + down).clamp(0, height - 1)
        for right, column_share in ((0, 1 - right_share), (1, right_share)):
            column = torch.where(closed, (left + right) % width, (left + right).clamp(0, width - 1))
            index.append((row * width + column).long())
            weight.append(row_share * column_share)
    return torch.stack(index, dim=1), torch.stack(weight, dim=1)


def _coordinates(vectors: torch.Tensor, panorama: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return azimuth and downward angle for panoramas, x/z and y/z else; (B, N) each, `panorama` is (B, 1)."""
    x, y, z = vectors.unbind(dim=-1)
    z_safe = torch.where(z.abs() > 1e-9, z, torch.full_like(z, 1e-9))
    u = torch.where(panorama, torch.atan2(x, z), x / z_safe)
    v = torch.where(panorama, torch.atan2(y, torch.hypot(x, z)), y / z_safe)
    return u, v
