"""`torch_scatter.scatter_mean` in plain torch on any device; integers are divided with floor, as there."""

import torch


def scatter_mean(src, index, dim=-1):
    size = int(index.max()) + 1 if index.numel() else 0
    shape = list(src.shape)
    shape[dim] = size
    total = src.new_zeros(shape).index_add_(dim, index, src)
    count = torch.bincount(index, minlength=size).clamp_min(1)
    view = [1] * src.ndim
    view[dim] = size
    if src.is_floating_point():
        return total / count.view(view)
    return torch.div(total, count.view(view), rounding_mode="floor")
