import pytest
import torch
import torch.nn.functional as F
from influencer_mmdet3d.loss import statistics
from influencer_mmdet3d.loss.statistics import mask_statistics, segments_from_masks
from scenes import make_masks


def oracle(logits, masks):
    """The sums, with float64 and plain autograd."""
    x = logits.double()
    outside = ~masks.any(0) if len(masks) else torch.ones(masks.shape[1], dtype=torch.bool)
    rows = torch.cat([masks, outside[None]]).double()
    return F.softplus(x).sum(1), x @ rows.t(), x.sigmoid() @ rows.t(), rows.sum(1)


def test_hand_computed():
    logits = torch.tensor([[0.0, 0.0, 100.0, -100.0]])
    masks = torch.tensor([[True, False, True, False], [False, True, False, False]])
    sums = mask_statistics([logits], segments_from_masks(masks), 2)
    assert sums.softplus[0, 0].item() == pytest.approx(2 * 0.6931472 + 100)
    assert sums.logit[0, 0].tolist() == [100.0, 0.0, -100.0]
    assert sums.prob[0, 0].tolist() == [1.5, 0.5, 0.0]
    assert sums.size.tolist() == [2, 1, 1]


def test_segments_from_masks():
    masks = torch.tensor([[False, True, False], [False, False, True]])
    assert segments_from_masks(masks).tolist() == [2, 0, 1]
    assert segments_from_masks(masks[:0]).tolist() == [0, 0, 0]


@pytest.mark.parametrize("queries, points, count", [(1, 1, 0), (1, 1, 1), (7, 130, 5), (33, 257, 31), (3, 50, 0)])
@pytest.mark.parametrize("block", [1, 64, 1 << 18])
def test_matches_float64_autograd(monkeypatch, generator, queries, points, count, block):
    monkeypatch.setattr(statistics, "_BLOCK_CPU", block)
    masks = make_masks(generator, count, points)
    layers = [5 * torch.randn(queries, points, generator=generator) for _ in range(3)]
    ours = [x.clone().requires_grad_() for x in layers]
    theirs = [x.double().requires_grad_() for x in layers]
    sums = mask_statistics(ours, segments_from_masks(masks), count)
    expected = [torch.stack(parts) for parts in list(zip(*(oracle(x, masks) for x in theirs)))[:3]]
    weights = [torch.randn(e.shape, generator=generator) for e in expected]
    for got, want in zip(sums[:3], expected):
        torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-4)
    torch.stack([(g * w).sum() for g, w in zip(sums[:3], weights)]).sum().backward()
    torch.stack([(e * w.double()).sum() for e, w in zip(expected, weights)]).sum().backward()
    for x, y in zip(ours, theirs):
        torch.testing.assert_close(x.grad.double(), y.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_sums_in_float32(generator, dtype):
    masks = torch.ones(1, 120_000, dtype=torch.bool)
    logits = torch.full((2, 120_000), 8.0, dtype=dtype, requires_grad=True)
    sums = mask_statistics([logits], segments_from_masks(masks), 1)
    assert sums.logit[0, 0, 0].item() == pytest.approx(960_000, rel=1e-5)  # beyond fp16's largest number
    sums.prob.sum().backward()
    assert logits.grad.dtype == dtype


def test_extreme_logits_keep_their_gradient():
    logits = torch.tensor([[-80.0, 80.0]], requires_grad=True)
    sums = mask_statistics([logits], torch.tensor([0, 1]), 1)
    (sums.softplus.sum() - sums.logit[0, 0, 0]).backward()  # cross-entropy of [1, 0]
    assert logits.grad.tolist() == [[-1.0, 1.0]]


def test_input_is_not_changed(generator):
    logits = torch.randn(4, 30, generator=generator, requires_grad=True)
    before = logits.detach().clone()
    sums = mask_statistics([logits], segments_from_masks(make_masks(generator, 3, 30)), 3)
    (sums.prob.sum() + sums.softplus.sum() + sums.logit.sum()).backward()
    assert torch.equal(logits, before)


def test_logits_near_zero_do_not_underflow():
    """A logarithm serves 16 factors of at least 0.5: with 256 the product were zero in float32."""
    sums = mask_statistics([torch.zeros(1, 4096)], torch.zeros(4096, dtype=torch.long), 1)
    assert sums.softplus.item() == pytest.approx(4096 * 0.6931472)
