"""The fused kernels against float64 and against the plain path, for tests with and without a GPU."""

import torch
import torch.nn.functional as F
from influencer_mmdet3d import InfluencerCriterion
from influencer_mmdet3d.loss.kernels.statistics import fused_statistics
from scenes import leaves, moved

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# Relative to the sum of magnitudes: probabilities are summed to 2^-16, and a GPU's products round their sums down.
SUMS = 3e-5
# Relative, of loss and diagnostics; a GPU's sums, above, are divided by the temperature. Gradients get 5 times that.
STEP = {"cpu": 1e-5, "cuda": 2e-4}
# Gradients are rounded to the type of the logits.
ROUNDING = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
# Of the loss, as a GradScaler has it: over many points gradients are near 2^-24, the step of float16 next to 0.
SCALE = {torch.float32: 3, torch.float16: 3 * 2**10, torch.bfloat16: 3}


def oracle(logits, masks):
    """The sums in float64 with plain autograd."""
    x = logits.double()
    outside = ~masks.any(0) if len(masks) else masks.new_ones(masks.shape[1])
    rows = torch.cat([masks, outside[None]]).double()
    return F.softplus(x).sum(1), x @ rows.t(), x.sigmoid() @ rows.t(), rows.sum(1)


def check_sums(logits, masks, generator):
    """Compare the sums of some layers, and the gradient of a random function of theirs, with float64."""
    ours = [x.clone().requires_grad_() for x in logits]
    theirs = [x.double().requires_grad_() for x in logits]
    sums = fused_statistics(ours, masks)
    expected = [torch.stack(parts) for parts in zip(*(oracle(x, masks)[:3] for x in theirs))]
    scale = torch.stack([oracle(x.abs(), masks)[0] for x in logits])  # above the sum of magnitudes
    loss, wanted = 0.0, 0.0
    for got, want in zip(sums[:3], expected):
        error = (got - want).abs() / (scale if got.ndim == 2 else scale.unsqueeze(-1))
        assert error.max() < SUMS
        weight = torch.randn(want.shape, generator=generator).to(want.device)
        loss, wanted = loss + (got * weight).sum(), wanted + (want * weight.double()).sum()
    assert torch.equal(sums.size.long(), torch.cat([masks, ~masks.any(0, keepdim=True)]).sum(1))
    tolerance = ROUNDING[logits[0].dtype]
    for a, b in zip(torch.autograd.grad(loss, ours), torch.autograd.grad(wanted, theirs)):
        assert a.dtype == logits[0].dtype
        torch.testing.assert_close(a.double(), b, rtol=tolerance, atol=tolerance)


def check_step(batch, options, device):
    """Compare loss, diagnostics and every gradient of the criterion with the plain path on the same device."""
    pred, insts = moved(batch, device)
    ours, theirs = (InfluencerCriterion(num_classes=13, impl=impl, **options) for impl in ("triton", "plain"))
    fused, plain = ours(pred, insts), theirs(pred, insts)
    assert list(fused) == list(plain)
    precision = STEP[device.type]
    for name, value in plain.items():
        torch.testing.assert_close(
            fused[name], value, rtol=precision, atol=precision, msg=lambda m, n=name: f"{n}: {m}"
        )
        assert fused[name].requires_grad == value.requires_grad
    names, tensors = zip(*leaves(pred).items())
    scale = SCALE[tensors[0].dtype]
    mine, wanted = (torch.autograd.grad(scale * out["inst_loss"], tensors) for out in (fused, plain))
    for name, a, b in zip(names, mine, wanted):
        assert a.dtype == b.dtype
        error = (a.double() - b.double()).abs().max() / b.double().abs().max().clamp_min(1e-6 * scale / 3)
        print(f"{name}: {error:.1e} of the largest gradient")
        assert error < max(ROUNDING[a.dtype], 5 * precision), name
    ours.check_values()
