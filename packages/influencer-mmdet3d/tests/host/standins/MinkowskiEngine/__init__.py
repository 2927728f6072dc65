"""What OneFormer3D uses of MinkowskiEngine, in plain torch, on the device of its arguments.

The spconv models take voxels of it alone. ScanNet200's backbone takes its sparse convolutions too; they have the
library's parameters (`kernel` of shape (volume, in, out), or (in, out) for one place) and its rules for coordinates,
and are compared with torch's dense convolutions in `test_host_standins.py`. Instance norm is absent: no config uses it.
"""

import enum
import itertools
import sys
import types

import torch


class RegionType(enum.Enum):
    HYPER_CUBE, HYPER_CROSS, CUSTOM = range(3)


class MinkowskiInstanceNorm(torch.nn.Module):
    def __init__(self, *args, **kwargs):
        raise RuntimeError("MinkowskiEngine is not installed; this stand-in has no instance norm")


class utils:
    @staticmethod
    def batch_sparse_collate(data, device=None):
        coordinates, features = [], []
        for number, (coordinate, feature) in enumerate(data):
            voxel = torch.as_tensor(coordinate, device=device).floor().int()
            coordinates.append(torch.cat([voxel.new_full((len(voxel), 1), number), voxel], 1))
            features.append(torch.as_tensor(feature, device=device))
        return torch.cat(coordinates), torch.cat(features)


class SparseTensor:
    """Features (M, C) of voxels (M, 4): batch, x, y, z; `maps` keeps a scene's voxels of each stride, and its pairs."""

    def __init__(self, features, coordinates, stride=1, maps=None):
        self.features, self.coordinates, self.stride, self.coordinate_map_key = features, coordinates, stride, None
        self.maps = {} if maps is None else maps
        self.maps.setdefault(stride, coordinates)

    def like(self, features):
        return SparseTensor(features, self.coordinates, self.stride, self.maps)

    def __add__(self, other):
        assert self.coordinates is other.coordinates, "sums are of the same voxels"
        return self.like(self.features + other.features)

    def slice(self, field):
        return types.SimpleNamespace(features=self.features[field.inverse_mapping(None)])


class TensorField:
    """Points with features; `sparse` averages the points of a voxel."""

    def __init__(self, features, coordinates):
        self.features, self.coordinates = features, coordinates

    def sparse(self):
        voxels, self._inverse = torch.unique(self.coordinates.int(), dim=0, return_inverse=True)
        total = self.features.new_zeros(len(voxels), self.features.shape[1]).index_add_(0, self._inverse, self.features)
        count = torch.bincount(self._inverse, minlength=len(voxels)).unsqueeze(1)
        return SparseTensor(total / count, voxels)

    def inverse_mapping(self, key):
        return self._inverse


class KernelGenerator:
    """Places of a kernel, the first axis fastest: around the voxel for odd sizes, from it onwards for even ones."""

    def __init__(self, kernel_size, stride=1, dilation=1, region_type=None, axis_types=None, dimension=3):
        assert region_type in (None, RegionType.HYPER_CUBE) and dimension == 3
        sizes = [kernel_size] * 3 if isinstance(kernel_size, int) else list(kernel_size)
        spans = [range(-(size // 2), size // 2 + 1) if size % 2 else range(size) for size in reversed(sizes)]
        self.places = torch.tensor([place[::-1] for place in itertools.product(*spans)]) * dilation


def _find(wanted, voxels):
    """Return the row of `voxels` (M, 4) that equals each row of `wanted` (W, 4), -1 where there is none."""
    low = torch.minimum(wanted.min(0)[0], voxels.min(0)[0]).long()
    span = torch.maximum(wanted.max(0)[0], voxels.max(0)[0]).long() - low + 1

    def key(rows):
        rows = rows.long() - low
        return ((rows[:, 0] * span[1] + rows[:, 1]) * span[2] + rows[:, 2]) * span[3] + rows[:, 3]

    keys, order = key(voxels).sort()
    place = torch.searchsorted(keys, key(wanted)).clamp_max(len(keys) - 1)
    return torch.where(keys[place] == key(wanted), order[place], -1)


class _Convolution(torch.nn.Module):
    def __init__(
        self, in_channels, out_channels, kernel_size, stride=1, dilation=1, bias=False, kernel_generator=None,
        dimension=3,
    ):  # fmt: skip
        super().__init__()
        generator = kernel_generator or KernelGenerator(kernel_size, stride, dilation)
        self.places, self.stride = generator.places, stride
        shape = (in_channels, out_channels) if len(self.places) == 1 else (len(self.places), in_channels, out_channels)
        self.kernel = torch.nn.Parameter(torch.empty(shape))
        torch.nn.init.normal_(self.kernel, std=(2 / (in_channels * len(self.places))) ** 0.5)
        self.bias = torch.nn.Parameter(torch.zeros(1, out_channels)) if bias else None

    def _sum(self, x, out, step, sign):
        """Sum over the kernel: output voxel o sees the input voxel o + sign * place * step."""
        kernel = self.kernel if self.kernel.ndim == 3 else self.kernel.unsqueeze(0)
        total = x.features.new_zeros(len(out), kernel.shape[-1])
        for (seen, row), weight in zip(self._pairs(x, out, step, sign), kernel):
            total = total.index_add(0, seen, x.features[row] @ weight)
        return total if self.bias is None else total + self.bias

    def _pairs(self, x, out, step, sign):
        """Return (rows of the output, rows of the input) for each place of the kernel; found once for each scene."""
        key = (x.stride, sign, step, len(out), str(self.places.tolist()))
        if key not in x.maps:
            pairs = []
            for place in self.places.to(out.device):
                moved = out.clone()
                moved[:, 1:] += (sign * step * place).to(out.dtype)
                row = _find(moved, x.coordinates)
                pairs.append((torch.nonzero(row >= 0)[:, 0], row[row >= 0]))
            x.maps[key] = pairs
        return x.maps[key]


class MinkowskiConvolution(_Convolution):
    def forward(self, x):
        stride, out = x.stride * self.stride, x.coordinates
        if self.stride > 1 and stride not in x.maps:
            coarse = out.clone()
            coarse[:, 1:] = torch.div(out[:, 1:], stride, rounding_mode="floor") * stride
            x.maps[stride] = torch.unique(coarse, dim=0)
        out = x.maps[stride] if self.stride > 1 else out
        return SparseTensor(self._sum(x, out, x.stride, 1), out, stride, x.maps)


class MinkowskiConvolutionTranspose(_Convolution):
    def forward(self, x):
        """Back to the finer voxels that a convolution came from."""
        stride = x.stride // self.stride
        out = x.maps[stride]
        return SparseTensor(self._sum(x, out, stride, -1), out, stride, x.maps)


class MinkowskiBatchNorm(torch.nn.Module):
    def __init__(self, num_features, momentum=0.1):
        super().__init__()
        self.bn = torch.nn.BatchNorm1d(num_features, momentum=momentum)

    def forward(self, x):
        return x.like(self.bn(x.features))


class MinkowskiReLU(torch.nn.Module):
    def __init__(self, inplace=False):
        super().__init__()

    def forward(self, x):
        return x.like(x.features.relu())


def _cat(*tensors):
    assert all(one.coordinates is tensors[0].coordinates for one in tensors), "of the same voxels"
    return tensors[0].like(torch.cat([one.features for one in tensors], 1))


MinkowskiOps = types.ModuleType("MinkowskiEngine.MinkowskiOps")
MinkowskiOps.cat = _cat
sys.modules[MinkowskiOps.__name__] = MinkowskiOps
