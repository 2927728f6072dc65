"""What OneFormer3D's spconv models use of MinkowskiEngine, in plain torch, on the device of its arguments."""

import enum
import sys
import types

import torch


class RegionType(enum.Enum):
    HYPER_CUBE, HYPER_CROSS, CUSTOM = range(3)


class _Absent(torch.nn.Module):
    def __init__(self, *args, **kwargs):
        raise RuntimeError("MinkowskiEngine is not installed; this stand-in serves spconv models only")


MinkowskiReLU = MinkowskiBatchNorm = MinkowskiInstanceNorm = _Absent
MinkowskiConvolution = MinkowskiConvolutionTranspose = KernelGenerator = SparseTensor = _Absent
MinkowskiOps = types.ModuleType("MinkowskiEngine.MinkowskiOps")
sys.modules[MinkowskiOps.__name__] = MinkowskiOps


class utils:
    @staticmethod
    def batch_sparse_collate(data):
        coordinates, features = [], []
        for number, (coordinate, feature) in enumerate(data):
            voxel = torch.as_tensor(coordinate).floor().int()
            coordinates.append(torch.cat([voxel.new_full((len(voxel), 1), number), voxel], 1))
            features.append(torch.as_tensor(feature))
        return torch.cat(coordinates), torch.cat(features)


class TensorField:
    """Points with features; `sparse` averages the points of a voxel."""

    def __init__(self, features, coordinates):
        self.features, self.coordinates = features, coordinates

    def sparse(self):
        voxels, self._inverse = torch.unique(self.coordinates.int(), dim=0, return_inverse=True)
        total = self.features.new_zeros(len(voxels), self.features.shape[1]).index_add_(0, self._inverse, self.features)
        count = torch.bincount(self._inverse, minlength=len(voxels)).unsqueeze(1)
        return types.SimpleNamespace(coordinates=voxels, features=total / count, coordinate_map_key=None)

    def inverse_mapping(self, key):
        return self._inverse
