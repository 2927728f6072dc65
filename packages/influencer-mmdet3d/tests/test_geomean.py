import pytest
import torch
from influencer_mmdet3d.geomean import geomean_influencer_loss, geomean_labels
from scenes import make_masks


def literal(logits, masks, temperature, margin):
    """The notes' formula, loop by loop, in float64."""
    p = logits.double().sigmoid()
    masks = [mask for mask in masks if mask.any()]
    attraction, profiles = [], []
    for mask in masks:
        profile = []
        for q in range(len(p)):
            profile.append(p[q, mask].log().mean())
        profile = torch.stack(profile)
        profiles.append(profile.exp())
        attraction.append(-temperature * (profile / temperature).exp().sum().log())
    hinge = [max(0.0, margin - (profiles[k] - profiles[j]).norm().item()) for k in range(len(masks)) for j in range(k)]
    outside = ~torch.stack(masks).any(0)
    return (
        torch.stack(attraction).mean().item(),
        sum(hinge) / len(hinge),
        p[:, outside].mean().item() if outside.any() else 0.0,
    )


@pytest.mark.parametrize("temperature, margin", [(1.0, 1.0), (0.1, 2.0)])
def test_matches_the_literal_loops(generator, temperature, margin):
    masks, logits = make_masks(generator, 5, 80), torch.randn(11, 80, generator=generator)
    masks[2] = False  # an empty row
    terms = geomean_influencer_loss(logits, masks, temperature=temperature, rep_margin=margin)
    assert [t.item() for t in terms] == pytest.approx(literal(logits, masks, temperature, margin), abs=1e-5)


def test_gradient_matches_autograd(generator):
    masks = make_masks(generator, 3, 40)
    logits = torch.randn(6, 40, generator=generator, dtype=torch.float64, requires_grad=True)
    ours = logits.detach().float().requires_grad_()
    terms = geomean_influencer_loss(ours, masks, temperature=0.5, rep_margin=3.0)
    (terms.attraction + terms.repulsion + terms.background).backward()
    mean = torch.stack([torch.nn.functional.logsigmoid(logits[:, m]).mean(1) for m in masks], 1)
    attraction = (-0.5 * torch.logsumexp(mean / 0.5, 0)).mean()
    repulsion = (3.0 - torch.pdist(mean.exp().t())).clamp_min(0).mean()
    (attraction + repulsion + logits[:, ~masks.any(0)].sigmoid().mean()).backward()
    torch.testing.assert_close(ours.grad.double(), logits.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("temperature, right, wrong", [(1.0, -0.001, -5.989), (0.1, 0.0, -0.599)])
def test_its_optimum_is_wrong(temperature, right, wrong):
    """The figures of the docstring: covering everything beats the right answer."""
    masks = torch.eye(8, dtype=torch.bool).repeat_interleave(20, 1)
    answer = torch.full((400, 160), -13.0)
    answer[:8][masks] = 13.0
    cover = torch.full((400, 160), 13.0)
    cover[:8][masks] = -13.0
    for logits, value in ((answer, right), (cover, wrong)):
        terms = geomean_influencer_loss(logits, masks, temperature=temperature, rep_margin=1.0)
        assert terms.attraction.item() + terms.repulsion.item() == pytest.approx(value, abs=6e-4)


def test_labels_hand_computed():
    masks = torch.tensor([[True, True, False, False], [False, False, True, True], [False] * 4])
    logits = torch.tensor([[1.0, 1.0, 3.0, -2.0], [-1.0, -1.0, -1.0, -1.0], [0.0, 0.1, 9.0, 9.0]])
    assert geomean_labels(logits, masks).tolist() == [0, -1, 1]
    assert geomean_labels(logits, masks[:0]).tolist() == [-1, -1, -1]


def test_without_instances_the_background_still_trains():
    logits = torch.zeros(3, 10, requires_grad=True)
    terms = geomean_influencer_loss(logits, torch.zeros(0, 10, dtype=torch.bool))
    assert [t.item() for t in terms] == [0.0, 0.0, 0.5]
    sum(terms).backward()
    assert (logits.grad > 0).all()
