"""What stands in for compiled parts: right on every device that is here, and out of the way of a GPU."""

import runpy
from pathlib import Path

import MinkowskiEngine as ME
import pytest
import spconv.pytorch.ops
import torch
from torch_scatter import scatter_mean

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
CPU_HOST = Path(__file__).parent / "standins" / "cpu_host.py"


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("values", "dim", "means"),
    [
        ([[1.0, 2.0], [3.0, 4.0], [7.0, 9.0]], 0, [[4.0, 5.5], [0.0, 0.0], [3.0, 4.0]]),
        ([[1, 3, 8]], -1, [[4, 0, 3]]),  # (1 + 8) // 2
        ([[0, 1, -1]], -1, [[-1, 0, 1]]),  # floor, not towards zero
    ],
)
def test_scatter_mean_by_hand(values, dim, means, device):
    """Index 0 holds the first and the last entry, index 1 none, index 2 the second."""
    found = scatter_mean(torch.tensor(values, device=device), torch.tensor([0, 2, 0], device=device), dim)
    assert found.device.type == device and found.dtype == torch.tensor(values).dtype
    assert found.tolist() == means


@pytest.mark.parametrize("device", DEVICES)
def test_points_are_averaged_by_voxel(device):
    first = torch.tensor([[0.2, 0.0, 0.0], [1.5, 0.0, 0.0], [0.9, 0.0, 0.0]], device=device)
    second = torch.tensor([[-0.5, 0.0, 0.0]], device=device)
    features = [torch.tensor([[1.0], [2.0], [4.0]], device=device), torch.tensor([[8.0]], device=device)]
    coordinates, values = ME.utils.batch_sparse_collate(list(zip([first, second], features, strict=True)))
    field = ME.TensorField(features=values, coordinates=coordinates)
    voxels = field.sparse()
    assert voxels.coordinates.device.type == voxels.features.device.type == device
    assert voxels.coordinates.dtype == torch.int32, "spconv takes no other"
    assert voxels.coordinates.tolist() == [[0, 0, 0, 0], [0, 1, 0, 0], [1, -1, 0, 0]]
    assert voxels.features.tolist() == [[2.5], [2.0], [8.0]]
    assert field.inverse_mapping(voxels.coordinate_map_key).tolist() == [0, 1, 0, 2]


def dense(x):
    """(M, C) features of voxels of stride 1 as a grid (1, C, X, Y, Z), zero where there is no voxel."""
    grid = x.features.new_zeros(1, x.features.shape[1], *(x.coordinates[:, 1:].max(0)[0] + 1).tolist())
    a, b, c = x.coordinates[:, 1:].long().T
    grid[0, :, a, b, c] = x.features.T
    return grid


def of_grid(grid, coordinates):
    a, b, c = coordinates[:, 1:].long().T
    return grid[0, :, a, b, c].T


def as_dense_kernel(layer, size):
    """(volume, I, O), the first axis fastest, as torch's (O, I, X, Y, Z)."""
    return layer.kernel.detach().reshape(size, size, size, *layer.kernel.shape[-2:]).permute(4, 3, 2, 1, 0)


@pytest.fixture
def voxels():
    """Half of a grid of 6 x 6 x 6, the corners there, so that the grid is as large."""
    torch.manual_seed(0)
    places = torch.cartesian_prod(*[torch.arange(6)] * 3).int()
    kept = (torch.rand(len(places)) < 0.5) | (places == 0).all(1) | (places == 5).all(1)
    coordinates = torch.cat([torch.zeros(int(kept.sum()), 1, dtype=torch.int32), places[kept]], 1)
    return ME.SparseTensor(torch.randn(len(coordinates), 4), coordinates)


@pytest.mark.parametrize(("size", "dilation"), [(1, 1), (3, 1), (3, 2), (5, 1)])
def test_sparse_convolution_is_torchs_where_there_are_voxels(voxels, size, dilation):
    layer = ME.MinkowskiConvolution(4, 3, size, dilation=dilation, bias=True)
    torch.nn.init.normal_(layer.bias)
    wanted = torch.nn.functional.conv3d(
        dense(voxels), as_dense_kernel(layer, size), layer.bias[0], padding=dilation * (size // 2), dilation=dilation
    )
    found = layer(voxels)
    torch.testing.assert_close(found.features, of_grid(wanted, found.coordinates), rtol=1e-4, atol=1e-5)
    assert found.coordinates is voxels.coordinates


def test_steps_of_two_down_and_up_again(voxels):
    down, up = ME.MinkowskiConvolution(4, 3, 2, stride=2), ME.MinkowskiConvolutionTranspose(3, 2, 2, stride=2)
    coarse = down(voxels)
    wanted = torch.nn.functional.conv3d(dense(voxels), as_dense_kernel(down, 2), stride=2)
    halved = torch.cat([coarse.coordinates[:, :1], coarse.coordinates[:, 1:] // 2], 1)
    assert coarse.stride == 2 and (coarse.coordinates[:, 1:] % 2 == 0).all()
    torch.testing.assert_close(coarse.features, of_grid(wanted, halved), rtol=1e-4, atol=1e-5)
    fine = up(coarse)
    wanted = torch.nn.functional.conv_transpose3d(
        dense(ME.SparseTensor(coarse.features, halved)), as_dense_kernel(up, 2).transpose(0, 1), stride=2
    )
    assert fine.coordinates is voxels.coordinates and fine.stride == 1
    torch.testing.assert_close(fine.features, of_grid(wanted, fine.coordinates), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gpu", [False, True])
def test_a_gpu_is_left_alone(gpu, monkeypatch):
    """With a GPU, spconv asks for torch's stream and mmengine takes the GPU, as without these files."""
    stream, select = object(), object()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(spconv.pytorch.ops, "get_current_stream", stream)
    monkeypatch.setattr(torch.cuda, "set_device", select)
    runpy.run_path(str(CPU_HOST))
    assert (spconv.pytorch.ops.get_current_stream is stream) == gpu
    assert (torch.cuda.set_device is select) == gpu
