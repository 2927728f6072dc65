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
