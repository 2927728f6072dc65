"""Point encoder of the demo: points into occupied voxels, a small U-Net there, back to the points.

Shape legend: B samples, N points, V occupied voxels of all samples, C channels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def fourier(xyz: Tensor, bands: int) -> Tensor:
    """Return sines and cosines (..., 6 bands) of coordinates in metres, wavelengths 16 m / 2^band."""
    scale = 2 * torch.pi / 16 * 2.0 ** torch.arange(bands, device=xyz.device, dtype=xyz.dtype)
    angle = (xyz.unsqueeze(-1) * scale).flatten(-2)
    return torch.cat([angle.sin(), angle.cos()], -1)


class Grid(NamedTuple):
    """Occupied voxels of one resolution.

    Attributes
    ----------
    cells : Tensor
        (V, 4) int64: sample, x, y, z.
    neighbours : Tensor
        (V, 27) int64, the voxels around and of each voxel; V where there is none.
    """

    cells: Tensor
    neighbours: Tensor


def voxelise(cells: Tensor) -> tuple[Grid, Tensor]:
    """Return the occupied voxels of cells (M, 4), and the voxel (M,) of each."""
    size = cells.amax(0) + 3  # one empty cell on each side, so that no neighbour wraps around
    strides = torch.stack([size[1] * size[2] * size[3], size[2] * size[3], size[3], torch.ones_like(size[0])])
    inner = cells + cells.new_tensor([0, 1, 1, 1])
    keys, voxel = torch.unique((inner * strides).sum(1), return_inverse=True)
    table = torch.full((int(size[0] * strides[0]),), len(keys), dtype=torch.long, device=cells.device)
    table[keys] = torch.arange(len(keys), device=cells.device)
    steps = torch.cartesian_prod(*[torch.arange(-1, 2, device=cells.device)] * 3)
    neighbours = table[keys.unsqueeze(1) + (steps * strides[1:]).sum(1)]
    unique = torch.stack(
        [torch.div(keys, stride, rounding_mode="floor") % limit for stride, limit in zip(strides, size)], 1
    )
    return Grid(unique - cells.new_tensor([0, 1, 1, 1]), neighbours), voxel


def pool(features: Tensor, group: Tensor, count: int) -> Tensor:
    """Return the mean (count, C) of the features (M, C) of each group, in float32."""
    values = features.float()
    size = torch.zeros(count, device=values.device).index_add_(0, group, torch.ones_like(values[:, 0]))
    total = torch.zeros(count, values.shape[1], device=values.device).index_add_(0, group, values)
    return total / size.clamp_min(1).unsqueeze(1)


class _Block(nn.Module):
    """A 3x3x3 convolution on occupied voxels, on channels projected first, with a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.shortcut = nn.Linear(inputs, outputs)
        self.weight = nn.Linear(27 * outputs, outputs)
        self.norm = nn.LayerNorm(outputs)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        x = self.shortcut(x)
        padded = F.pad(F.gelu(x), (0, 0, 0, 1))  # the last row stands for empty voxels
        around = padded.index_select(0, grid.neighbours.flatten()).view(len(x), -1)
        return F.gelu(self.norm(self.weight(around)) + x)


class VoxelUNet(nn.Module):
    """Features of points from a U-Net on occupied voxels of three sizes.

    Parameters
    ----------
    width : int
        Channels of the finest level; the two coarser ones have twice and three times as many.
    out_channels : int
        Channels of the result.
    voxel : float
        Side of the finest voxels, in metres.
    """

    def __init__(self, width: int = 24, out_channels: int = 64, voxel: float = 0.2) -> None:
        super().__init__()
        self.voxel = voxel
        self.stem = nn.Sequential(nn.Linear(10, width), nn.GELU(), nn.Linear(width, width))
        middle, coarse = 2 * width, 3 * width
        self.down = nn.ModuleList([_Block(width, width), _Block(width, middle), _Block(middle, coarse)])
        self.deep = _Block(coarse, coarse)
        self.up = nn.ModuleList([_Block(middle + coarse, middle), _Block(width + middle, width)])
        self.head = nn.Sequential(
            nn.Linear(2 * width + 36, out_channels), nn.GELU(), nn.Linear(out_channels, out_channels)
        )

    def forward(self, points: Tensor) -> Tensor:
        """Return features (B, N, out_channels) of points (B, N, 6): metres from the room's corner, colours -1 to 1."""
        batch, count, _ = points.shape
        cell = (points[..., :3].clamp_min(0) / self.voxel).floor().long()
        within = points[..., :3] / self.voxel - cell - 0.5
        local = self.stem(torch.cat([points, within, points[..., 2:3] / 3], -1))
        sample = torch.arange(batch, device=points.device).repeat_interleave(count).unsqueeze(1)
        fine, of_point = voxelise(torch.cat([sample, cell.view(-1, 3)], 1))
        halves = torch.tensor([1, 2, 2, 2], device=points.device)
        middle, of_fine = voxelise(torch.div(fine.cells, halves, rounding_mode="floor"))
        coarse, of_middle = voxelise(torch.div(middle.cells, halves, rounding_mode="floor"))
        first = self.down[0](pool(local.flatten(0, 1), of_point, len(fine.cells)), fine)
        second = self.down[1](pool(first, of_fine, len(middle.cells)), middle)
        third = self.deep(self.down[2](pool(second, of_middle, len(coarse.cells)), coarse), coarse)
        second = self.up[0](torch.cat([second, third[of_middle]], 1), middle)
        first = self.up[1](torch.cat([first, second[of_fine]], 1), fine)
        there = first[of_point].view(batch, count, -1)
        return self.head(torch.cat([local, there, fourier(points[..., :3], 6)], -1))
