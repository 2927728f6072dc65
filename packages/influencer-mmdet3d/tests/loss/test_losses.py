import pytest
import torch
import torch.nn.functional as F
from influencer_mmdet3d import MaskInfluencerLoss, mask_influencer_loss
from influencer_mmdet3d.loss.losses import Assignment, attraction, background, repulsion
from scenes import make_masks


def literal(logits, masks, temperature, soft_share, margin):
    """The terms, pair by pair, in float64."""
    x, masks = logits.double(), [m for m in masks if m.any()]
    cost = torch.zeros(len(x), len(masks), dtype=torch.float64)
    for q in range(len(x)):
        for k, mask in enumerate(masks):
            target, p = mask.double(), x[q].sigmoid()
            dice = 1 - (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)
            cost[q, k] = F.binary_cross_entropy_with_logits(x[q], target) + dice
    share = torch.softmax(-cost / temperature, 0)
    free, own = cost.clone(), {}
    while len(own) < min(cost.shape):
        q, k = divmod(int(free.argmin()), cost.shape[1])
        own[k] = q
        free[q], free[:, k] = float("inf"), float("inf")
    owned = sum(cost[q, k] for k, q in own.items()) / len(own)
    soft = (share * cost).sum(0).mean()
    pairs = [(k, j) for k in range(len(masks)) for j in range(len(masks)) if j != k]
    overlap = sum(max(0.0, float(share[:, k] @ share[:, j]) - (1 - margin)) for k, j in pairs) / len(pairs)
    outside = ~torch.stack(masks).any(0)
    background = x[:, outside].sigmoid().mean() if outside.any() else 0.0
    return [float((1 - soft_share) * owned + soft_share * soft), overlap, float(background)]


@pytest.mark.parametrize("temperature, soft_share, margin", [(0.03, 0.2, 1.0), (0.5, 0.7, 0.95), (1.0, 0.0, 0.0)])
def test_matches_the_literal_loops(generator, temperature, soft_share, margin):
    masks, logits = make_masks(generator, 5, 90), 3 * torch.randn(12, 90, generator=generator)
    masks[1] = False
    terms, _ = mask_influencer_loss(logits, masks, temperature=temperature, soft_share=soft_share, rep_margin=margin)
    expected = literal(logits, masks, temperature, soft_share, margin)
    assert [t.item() for t in terms] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_the_right_answer_is_best():
    """Unlike the geometric mean: covering all instances costs more than the right answer."""
    masks = torch.eye(8, dtype=torch.bool).repeat_interleave(20, 1)
    answer = torch.full((400, 160), -13.0)
    answer[:8][masks] = 13.0
    cover = torch.full((400, 160), 13.0)
    cover[:8][masks] = -13.0
    loss = MaskInfluencerLoss()
    assert loss(answer, masks) < 1e-3 < 0.5 < loss(cover, masks)


def test_gradient_descent_finds_the_masks(generator):
    masks = torch.eye(5, dtype=torch.bool).repeat_interleave(12, 1)
    logits = (0.1 * torch.randn(20, 60, generator=generator)).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.2)
    for _ in range(150):
        optimizer.zero_grad()
        MaskInfluencerLoss()(logits, masks).backward()
        optimizer.step()
    _, assignment = mask_influencer_loss(logits, masks)
    assert torch.equal(logits.detach()[assignment.own[0]] > 0, masks)


def test_repulsion_separates_equal_influences():
    logits = torch.tensor([[[2.0, 2.0], [1.0, 1.0], [0.0, 0.0]]], requires_grad=True)
    value = repulsion(torch.softmax(logits, 1), margin=1.0)
    value.sum().backward()
    assert value.item() > 0 and logits.grad.abs().max() > 1e-2


def test_repulsion_hand_computed():
    share = torch.tensor([[[0.6, 0.5, 0.0], [0.4, 0.5, 0.0]]])  # the third instance has no query
    assert repulsion(share, margin=1.0).item() == pytest.approx(0.5)
    assert repulsion(share, margin=0.6).item() == pytest.approx(0.1)
    assert repulsion(share, margin=0.5).item() == 0.0


def test_class_cost_moves_the_assignment(generator):
    masks = torch.tensor([[True, True, False, False]])
    logits = torch.zeros(2, 4)
    prefers_second = torch.tensor([[0.0], [-0.5]])
    assert mask_influencer_loss(logits, masks)[1].own.tolist() == [[0]]
    assert mask_influencer_loss(logits, masks, class_cost=prefers_second)[1].own.tolist() == [[1]]


def test_without_instances(generator):
    logits = torch.randn(4, 10, generator=generator, requires_grad=True)
    loss = MaskInfluencerLoss()(logits, torch.zeros(0, 10, dtype=torch.bool))
    loss.backward()
    assert loss.item() == pytest.approx(0.1 * logits.sigmoid().mean().item())


@pytest.mark.parametrize(
    "masks, message",
    [
        (torch.ones(1, 4, dtype=torch.long), "masks must be bool, got torch.int64"),
        (torch.ones(1, 5, dtype=torch.bool), r"got \(2, 4\) and \(1, 5\)"),
        (torch.ones(2, 4, dtype=torch.bool), "point 0 is in 2"),
    ],
)
def test_wrong_masks(masks, message):
    with pytest.raises(ValueError, match=message):
        mask_influencer_loss(torch.zeros(2, 4), masks)


def test_wrong_options():
    with pytest.raises(ValueError, match="form must be 'influence', got 'hungarian'"):
        MaskInfluencerLoss(form="hungarian")
    with pytest.raises(ValueError, match="form='geomean' is not part of the package any more.*benchmarks/geomean.py"):
        MaskInfluencerLoss(form="geomean")
    with pytest.raises(ValueError, match="temperature must be > 0, got 0"):
        MaskInfluencerLoss(temperature=0)
    with pytest.raises(ValueError, match=r"soft_share must be in \[0, 1\], got 2"):
        MaskInfluencerLoss(soft_share=2)
    with pytest.raises(ValueError, match="floating point, got torch.int64"):
        MaskInfluencerLoss()(torch.zeros(2, 4, dtype=torch.long), torch.ones(1, 4, dtype=torch.bool))


def test_default_weights_are_those_of_the_docs(generator):
    masks, logits = make_masks(generator, 5, 90), torch.randn(12, 90, generator=generator)
    terms, _ = mask_influencer_loss(logits, masks)
    assert min(terms) > 0
    expected = terms.attraction + 0.1 * terms.repulsion + 0.1 * terms.background
    assert MaskInfluencerLoss()(logits, masks).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_said(generator, value):
    masks, logits = make_masks(generator, 2, 30), torch.zeros(3, 30)
    logits[1, 2] = value
    with pytest.raises(FloatingPointError, match="logits hold values that are not finite"):
        MaskInfluencerLoss()(logits, masks)


def test_attraction_hand_computed():
    """Own queries 0 and 1 cost 2 and 8, mean 5; shares of a half cost 3 and 7, mean 5: at s = 0.25 it is 5."""
    cost = torch.tensor([[[2.0, 6.0], [4.0, 8.0]]])
    even = torch.full((1, 2, 2), 0.5)
    assert attraction(cost, Assignment(even, torch.tensor([[0, 1]])), 0.25).tolist() == [5.0]
    assert attraction(cost, Assignment(even, torch.tensor([[0, -1]])), 0.0).tolist() == [2.0]
    assert attraction(cost, Assignment(even, torch.tensor([[0, -1]])), 1.0).tolist() == [5.0]


def test_background_hand_computed():
    """One point of no instance: its probability itself; queries that are padding do not count."""
    queries = torch.tensor([[True, True, False]])
    assert background(torch.tensor([[0.5, 0.25, 9.0]]), torch.tensor([1.0]), queries).item() == 0.375
    assert background(torch.tensor([[0.5, 0.25, 9.0]]), torch.tensor([0.0]), queries).item() == 0.375


@pytest.mark.parametrize(
    ("logits", "masks"),
    [((2, 4), (1, 5)), ((2, 4), (1, 3)), ((4,), (1, 4)), ((2, 4), (4,)), ((1, 2, 4), (1, 4)), ((2, 4), (1, 1, 4))],
)
def test_every_wrong_shape(logits, masks):
    with pytest.raises(ValueError, match=r"logits must be \(Q, N\) and masks \(K, N\), got"):
        mask_influencer_loss(torch.zeros(logits), torch.zeros(masks, dtype=torch.bool))


def test_the_first_point_of_two_instances_is_named():
    masks = torch.tensor([[True, False, True, False], [False, True, True, False]])
    with pytest.raises(ValueError, match="a point may belong to one instance only; point 2 is in 2 masks"):
        mask_influencer_loss(torch.zeros(2, 4), masks)


def test_a_negative_temperature():
    with pytest.raises(ValueError, match="temperature must be > 0, got -1"):
        MaskInfluencerLoss(temperature=-1)
