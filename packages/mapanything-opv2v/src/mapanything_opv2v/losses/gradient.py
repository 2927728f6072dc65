"""Gradient matching: edges of the predicted log depth where the true log depth has them.

Source: Ranftl et al., "Towards robust monocular depth estimation" (MiDaS), equation 11, in log space. Depths are in
the unit of the caller (the host normalises them), shape (B, H, W, 1).
"""

from __future__ import annotations

import torch

_LARGEST_STEP = 100.0  # as in the host: a single outlier must not rule the sum


def log_depth(points_cam: torch.Tensor, panorama: torch.Tensor) -> torch.Tensor:
    """Return the log depth (B, H, W, 1) of points (B, H, W, 3) in their camera's frame.

    ``log(1 + |p|)``, the range along the ray, for a panorama; ``sign(z) log(1 + |z|)`` for a pinhole image.
    `panorama` is (B,) bool.
    """
    range_ = torch.linalg.vector_norm(points_cam, dim=-1, keepdim=True)
    z = points_cam[..., 2:]
    return torch.where(panorama[:, None, None, None], torch.log1p(range_), torch.sign(z) * torch.log1p(z.abs()))


def gradient_matching(
    prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, closed: torch.Tensor, scales: int = 4
) -> torch.Tensor:
    """Return the mean absolute step of the difference between neighbours, summed over scales.

    At scale ``s`` every ``2^s``-th pixel is kept. With ``D = prediction - target``, the sum of ``|D_p - D_q|`` (at
    most 100) over neighbours p, q of a row or a column that are both in the mask is divided by the number of pixels
    in the mask. In a closed image, the last column kept and the first are neighbours too.

    Parameters
    ----------
    prediction, target
        (B, H, W, 1).
    mask
        (B, H, W) bool.
    closed
        (B,) bool: images whose last column neighbours the first (`rays.closes`).
    scales
        Number of scales.

    Returns
    -------
    () tensor
        0 without a pixel in the mask.
    """
    total = prediction.new_zeros(())
    difference = (prediction - target)[..., 0]
    for scale in range(scales):
        step = 2**scale
        total = total + _one_scale(difference[:, ::step, ::step], mask[:, ::step, ::step], closed)
    return total


def _one_scale(difference: torch.Tensor, mask: torch.Tensor, closed: torch.Tensor) -> torch.Tensor:
    difference = torch.where(mask, difference, torch.zeros_like(difference))
    along = _steps(difference[:, :, 1:], difference[:, :, :-1], mask[:, :, 1:] & mask[:, :, :-1])
    down = _steps(difference[:, 1:], difference[:, :-1], mask[:, 1:] & mask[:, :-1])
    seam = _steps(difference[:, :, 0], difference[:, :, -1], mask[:, :, 0] & mask[:, :, -1] & closed[:, None])
    return (along + down + seam) / mask.sum().clamp(min=1)


def _steps(a: torch.Tensor, b: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    return torch.where(pairs, (a - b).abs().clamp(max=_LARGEST_STEP), torch.zeros_like(a)).sum()
