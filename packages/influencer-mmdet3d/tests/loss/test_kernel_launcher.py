import pytest
import torch

pytest.importorskip("triton")
from influencer_mmdet3d.loss.kernels import launcher


class Kernel:
    """Stands for a Triton function, and for what Triton compiles from it."""

    arg_names = ["one", "other", "number", "WIDTH", "KIND"]

    def __init__(self, compiles=True):
        self.by_triton, self.directly = [], []
        self.compiles = compiles

    def __getitem__(self, grid):
        def bind(*args, **named):
            self.by_triton.append((grid, args, named))
            return Compiled(self) if self.compiles else None

        return bind


class Compiled:
    def __init__(self, kernel):
        self.kernel = kernel

    def __getitem__(self, grid):
        return lambda *args: self.kernel.directly.append((grid, args))


@pytest.fixture
def tensors():
    return torch.zeros(4), torch.zeros(8)


def test_triton_binds_the_first_launch_only(tensors):
    kernel = Kernel()
    variant = launcher.Variant(kernel, dict(WIDTH=16, KIND="a"), num_warps=4)
    for _ in range(3):
        variant.launch((5,), tensors, (0.5,))
    assert kernel.by_triton == [((5,), (*tensors, 0.5), dict(WIDTH=16, KIND="a", num_warps=4))]
    assert kernel.directly == [((5, 1, 1), (*tensors, 0.5, 16, "a"))] * 2


def test_other_constants_and_options_are_compiled_anew(tensors):
    kernel = Kernel()
    for width, warps in ((16, 4), (32, 4), (16, 8)):
        launcher.Variant(kernel, dict(WIDTH=width, KIND="a"), num_warps=warps).launch((5, 2), tensors, (0.5,))
    assert [named for *_, named in kernel.by_triton] == [
        dict(WIDTH=width, KIND="a", num_warps=warps) for width, warps in ((16, 4), (32, 4), (16, 8))
    ]
    assert not kernel.directly


def test_odd_addresses_are_triton_s(tensors):
    kernel = Kernel()
    variant = launcher.Variant(kernel, dict(WIDTH=16, KIND="a"))
    for odd in (False, True, True):
        variant.launch((1,), (tensors[0], tensors[1][odd:]), (0.5,))
    assert len(kernel.by_triton) == 3 and not kernel.directly


def test_the_interpreter_compiles_nothing(tensors):
    kernel = Kernel(compiles=False)
    variant = launcher.Variant(kernel, dict(WIDTH=16, KIND="a"))
    for _ in range(2):
        variant.launch((1,), tensors, (0.5,))
    assert len(kernel.by_triton) == 2


def test_constants_in_another_order():
    with pytest.raises(AssertionError):
        launcher.Variant(Kernel(), dict(KIND="a", WIDTH=16))
