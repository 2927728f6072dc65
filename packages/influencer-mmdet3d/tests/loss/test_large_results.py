import mmap
from types import SimpleNamespace

import pytest
import torch
from influencer_mmdet3d.loss import statistics
from influencer_mmdet3d.loss.statistics import empty_large_like

LARGE = 1 << 23


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 5), (4, LARGE // 4), (0, 7)])
def test_is_like_an_empty_tensor(dtype, shape):
    x = torch.zeros(shape, dtype=dtype)
    out = empty_large_like(x)
    assert (out.shape, out.dtype, out.device, out.is_contiguous()) == (x.shape, dtype, x.device, True)
    out.copy_(torch.ones(shape)).mul_(2)
    assert torch.equal(out, torch.full(shape, 2, dtype=dtype))


def test_two_do_not_share_memory_and_a_view_keeps_it():
    x = torch.zeros(LARGE)
    one, other = empty_large_like(x), empty_large_like(x)
    one.fill_(1), other.fill_(2)
    part = one[-3:]
    del one, other
    assert part.tolist() == [1, 1, 1]


def test_asks_for_huge_pages_where_they_pay(monkeypatch):
    asked = []

    class Memory(mmap.mmap):
        def madvise(self, advice):
            asked.append((len(self), advice))

    names = {"MAP_PRIVATE": mmap.MAP_PRIVATE, "MAP_ANONYMOUS": mmap.MAP_ANONYMOUS, "MADV_HUGEPAGE": 14}
    monkeypatch.setattr(statistics, "mmap", SimpleNamespace(**names, mmap=Memory))
    empty_large_like(torch.zeros(1 << 18)), empty_large_like(torch.zeros(LARGE))
    assert asked == [(4 * LARGE, 14)]


@pytest.mark.parametrize("kernel", ["no advice", "no huge pages"])
def test_works_without_huge_pages(monkeypatch, kernel):
    class Memory(mmap.mmap):
        def madvise(self, *_):
            raise OSError(22, "Invalid argument")

    known = {"MAP_PRIVATE": mmap.MAP_PRIVATE, "MAP_ANONYMOUS": mmap.MAP_ANONYMOUS}
    if kernel == "no huge pages":
        known |= {"MADV_HUGEPAGE": 14, "mmap": Memory}
    monkeypatch.setattr(statistics, "mmap", SimpleNamespace(**known))
    out = empty_large_like(torch.zeros(2, LARGE))
    assert out.fill_(3).sum() == 6 * LARGE
