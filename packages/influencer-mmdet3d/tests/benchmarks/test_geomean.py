import itertools

import pytest
import torch
import torch.nn.functional as F
from benchmark_files import load
from scenes import leaves, make_batch, make_masks

geomean = load("geomean")
GeomeanCriterion = geomean.GeomeanCriterion
geomean_influencer_loss, geomean_labels = geomean.geomean_influencer_loss, geomean.geomean_labels


def literal(logits, masks, temperature, margin):
    """The formula, loop by loop, in float64."""
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


def test_criterion_is_the_functions():
    criterion = GeomeanCriterion(13, temperature=0.5, rep_margin=3.0, rep_weight=2.0)
    pred, insts = make_batch()
    weight = torch.ones(14)
    weight[-1] = 0.1
    total = 0.0
    for layer, i in itertools.product([*pred["aux_outputs"], pred], range(2)):
        masks, targets = layer["masks"][i], insts[i].sp_masks
        a, r, b = geomean_influencer_loss(masks, targets, temperature=0.5, rep_margin=3.0)
        instance = geomean_labels(masks, targets)
        label = torch.where(instance < 0, 13, insts[i].labels_3d[instance])
        classification = F.cross_entropy(layer["cls_preds"][i], label, weight)
        total = total + (0.5 * classification + a + 2.0 * r + 0.1 * b) / 2
    torch.testing.assert_close(criterion(pred, insts)["inst_loss"], total)


def test_shared_labels_are_the_last_layers():
    shared, each = (GeomeanCriterion(13, iter_matcher=flag) for flag in (False, True))
    pred, insts = make_batch()
    equal = {**pred, "aux_outputs": [{k: v for k, v in pred.items() if k != "aux_outputs"}] * 2}
    torch.testing.assert_close(shared(equal, insts)["inst_loss"], each(equal, insts)["inst_loss"])
    assert shared(pred, insts)["inst_loss"] != each(pred, insts)["inst_loss"]


@pytest.mark.parametrize("instances", [(4, 3), (0, 3), (0, 0)])
@pytest.mark.parametrize("scores", [True, False])
def test_every_output_gets_a_gradient(instances, scores):
    pred, insts = make_batch(instances=instances, scores=scores)
    GeomeanCriterion(13)(pred, insts)["inst_loss"].backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in leaves(pred).values())


def test_not_finite_names_layer_and_sample():
    pred, insts = make_batch()
    pred["aux_outputs"][1]["masks"][0].data[2, 0] = float("nan")
    with pytest.raises(FloatingPointError, match=r"aux_outputs\[1\], sample 0: masks holds values that are not finite"):
        GeomeanCriterion(13)(pred, insts)
