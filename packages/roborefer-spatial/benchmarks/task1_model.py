"""The model of `learn_task1`: two pictures encoded alike, the mark pooled from A, and its place looked up in B."""

from __future__ import annotations

import torch
from task1_rooms import CELL, HEIGHT, WIDTH
from torch import nn
from torch.nn import functional

ROWS, COLS = HEIGHT // CELL, WIDTH // CELL


class Block(nn.Module):
    """Self-attention and a perceptron, each after a norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // 32
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(self.norms[0](x)).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.mlp(self.norms[1](x))


class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip
        same = before == after and stride == 1
        self.short = (
            nn.Identity() if same else nn.Sequential(nn.AvgPool2d(stride), nn.Conv2d(before, after, 1, bias=False))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.path(x) + self.short(x))


class Pointer(nn.Module):
    """Two pictures to logits (n, cells + 1), the last one NOT_VISIBLE, and logits of the mark in A (n, rows, cols).

    The mark is what the model itself finds in A: its features there, averaged, are what is looked for in B, by product
    with B's features. With `depth` 0 no token of one picture sees another: what is left is looking the object up by its
    appearance.
    """

    def __init__(self, width: int = 192, depth: int = 4) -> None:
        super().__init__()
        half = width // 2
        self.fine = nn.Sequential(
            nn.Conv2d(3, 48, 5, 2, 2, bias=False), nn.BatchNorm2d(48), nn.ReLU(inplace=True),
            Residual(48, half, 2), Residual(half, half),
        )  # fmt: skip
        self.coarse = nn.Sequential(Residual(half, width, 2), Residual(width, width))
        self.place = nn.Parameter(0.02 * torch.randn(1, (HEIGHT // 8) * (WIDTH // 8), width))
        self.which = nn.Parameter(0.02 * torch.randn(2, 1, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.back = nn.Conv2d(width, width, 1)
        self.merge = nn.Sequential(
            nn.Conv2d(width + half, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.mark = nn.Conv2d(width, 1, 1)
        self.asked = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.look = nn.Sequential(nn.Conv2d(width, width, 1), nn.GELU(), nn.Conv2d(width, width, 1))
        self.head = nn.Sequential(nn.Conv2d(width, half, 3, 1, 1), nn.GELU(), nn.Conv2d(half, 1, 1))
        self.absent = nn.Sequential(nn.Linear(2 * width + 2, width), nn.GELU(), nn.Linear(width, 1))

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        batch = len(a)
        fine = self.fine(torch.cat([a, b]).contiguous(memory_format=torch.channels_last))
        tokens = self.coarse(fine).flatten(2).transpose(1, 2)
        count = tokens.shape[1]
        tokens = tokens + self.place + torch.repeat_interleave(self.which, batch, 0)
        tokens = torch.cat([tokens[:batch], tokens[batch:]], 1)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = torch.cat(self.norm(tokens).split(count, 1))
        wide = self.back(tokens.transpose(1, 2).reshape(2 * batch, -1, HEIGHT // 8, WIDTH // 8))
        wide = functional.interpolate(wide, scale_factor=2, mode="bilinear", align_corners=False)
        merged = self.merge(torch.cat([wide.to(fine.dtype), fine], 1))
        in_a, in_b = merged[:batch], merged[batch:]
        mark = self.mark(in_a)[:, 0].float()
        weight = mark.sigmoid().detach() + 1e-4
        asked = (in_a * weight[:, None]).sum((2, 3)) / weight.sum((1, 2))[:, None]
        key = self.asked(asked)
        product = self.look(in_b) * key[:, :, None, None]
        cells = (self.head(product)[:, 0] + product.sum(1) / product.shape[1] ** 0.5).float().flatten(1)
        chance = cells.softmax(1).to(in_b.dtype)
        there = torch.einsum("bc,bwc->bw", chance, in_b.flatten(2))
        summary = torch.stack([cells.amax(1), cells.logsumexp(1)], 1).to(there.dtype)
        absent = self.absent(torch.cat([there, key, summary], 1)).float()
        return torch.cat([cells, absent + cells.logsumexp(1, keepdim=True)], 1), mark


def loss_of(logits: torch.Tensor, mark: torch.Tensor, share_a: torch.Tensor, share_b: torch.Tensor) -> torch.Tensor:
    """Return the loss: that an answer drawn by these logits hits, mostly, and that the mark in A is found."""
    share = share_b.flatten(1)
    total = share.sum(1, keepdim=True)
    absent = (total == 0).float()
    logs = logits.log_softmax(1)
    hits = torch.cat([share, absent], 1)
    hit = torch.logsumexp(logs + hits.clamp(min=1e-6).log(), 1)
    spread = torch.cat([share / total.clamp(min=1e-6), absent], 1)
    even = (logs * spread).sum(1)
    found = functional.binary_cross_entropy_with_logits(mark, share_a)
    return -(0.8 * hit + 0.2 * even).mean() + found
