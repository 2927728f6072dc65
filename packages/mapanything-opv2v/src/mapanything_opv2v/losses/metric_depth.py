"""Depth where there is a true one, and a height that makes sense where there is none."""

from __future__ import annotations

import torch


def log_depth_gap(predicted_m: torch.Tensor, true_m: torch.Tensor) -> torch.Tensor:
    """Return ``|log(1 + predicted) - log(1 + true)|`` of distances in metres, of the inputs' shape."""
    return (torch.log1p(predicted_m.clamp(min=0)) - torch.log1p(true_m.clamp(min=0))).abs()


def height_above_camera(points_cam: torch.Tensor, T_world_cam: torch.Tensor) -> torch.Tensor:
    """Return how far points lie above their camera, metres; negative is below.

    Parameters
    ----------
    points_cam
        (B, H, W, 3), OpenCV axes of the camera, metres.
    T_world_cam
        (B, 4, 4), camera to a world whose y axis points down (the CARLA map in OpenCV axes). Only the direction of
        the vertical is read: heights are relative to the camera, so a hilly map needs no ground level.

    Returns
    -------
    (B, H, W)
    """
    down_in_camera = T_world_cam[:, 1, :3]
    return -(points_cam * down_in_camera[:, None, None, :]).sum(dim=-1)


def height_excess(height_m: torch.Tensor, lowest_m: float, highest_m: float) -> torch.Tensor:
    """Return by how much heights leave the band [lowest, highest], metres, 0 inside."""
    return (lowest_m - height_m).clamp(min=0) + (height_m - highest_m).clamp(min=0)
