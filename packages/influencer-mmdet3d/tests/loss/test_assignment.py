import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from influencer_mmdet3d.loss.assignment import influence, mask_costs, own_queries
from influencer_mmdet3d.loss.statistics import mask_statistics, segments_from_masks
from scenes import make_masks


def greedy(cost, allowed):
    """Settle the cheapest allowed pair until none is left."""
    own = [-1] * cost.shape[1]
    pairs = sorted(
        (cost[q, k].item(), q, k) for q in range(cost.shape[0]) for k in range(cost.shape[1]) if allowed[q, k]
    )
    taken = set()
    for _, q, k in pairs:
        if own[k] < 0 and q not in taken:
            own[k] = q
            taken.add(q)
    return own


def test_mask_costs_match_their_definitions(generator):
    masks, logits = make_masks(generator, 4, 70), torch.randn(6, 70, generator=generator)
    costs = mask_costs(mask_statistics([logits], segments_from_masks(masks), 4), 70)
    for q in range(6):
        for k in range(4):
            target, p = masks[k].float(), logits[q].sigmoid()
            bce = F.binary_cross_entropy_with_logits(logits[q], target)
            dice = 1 - (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)
            iou = (p * target).sum() / (p + target - p * target).sum()
            torch.testing.assert_close(costs.bce[0, q, k], bce, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(costs.dice[0, q, k], dice, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(costs.iou[0, q, k], iou, rtol=1e-4, atol=1e-5)


def test_influence_hand_computed():
    cost = torch.tensor([[[0.0, 5.0], [1.0, 5.0]]])
    share = influence(cost, torch.ones_like(cost, dtype=torch.bool), temperature=1.0)
    assert share[0, :, 0].tolist() == pytest.approx([0.7310586, 0.2689414])
    assert share[0, :, 1].tolist() == pytest.approx([0.5, 0.5])


def test_influence_leaves_out_what_is_not_allowed():
    cost = torch.zeros(1, 3, 2, requires_grad=True)
    allowed = torch.tensor([[[True, False], [True, False], [False, False]]])
    share = influence(cost, allowed, 0.1)
    assert share[0].tolist() == [[0.5, 0.0], [0.5, 0.0], [0.0, 0.0]]
    share.square().sum().backward()
    assert cost.grad.isfinite().all()


def test_own_queries_hand_computed():
    # both instances want query 0; it takes the cheaper one, the other instance gets query 2
    cost = torch.tensor([[[0.1, 0.2], [0.9, 0.8], [0.7, 0.3]]])
    assert own_queries(cost, torch.ones_like(cost, dtype=torch.bool)).tolist() == [[0, 2]]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(0, 7), st.floats(0.2, 1.0))
def test_own_queries_is_the_greedy_matching(seed, queries, instances, density):
    generator = torch.Generator().manual_seed(seed)
    cost = torch.rand(2, queries, instances, generator=generator)
    allowed = torch.rand(2, queries, instances, generator=generator) < density
    assert own_queries(cost, allowed).tolist() == [greedy(c, a) for c, a in zip(cost, allowed)]


def test_more_instances_than_queries():
    cost = torch.tensor([[[0.3, 0.1, 0.2]]])
    assert own_queries(cost, torch.ones_like(cost, dtype=torch.bool)).tolist() == [[-1, 0, -1]]


def test_equal_costs_still_give_each_instance_a_query():
    own = own_queries(torch.zeros(1, 5, 4), torch.ones(1, 5, 4, dtype=torch.bool))[0].tolist()
    assert sorted(own) == [0, 1, 2, 3]


def test_one_point_by_hand():
    """One point in one instance: BCE = log(1 + exp(-x)), Dice = 1 - (2p + 1) / (p + 2), IoU = p."""
    logits, p = torch.tensor([[2.0]]), torch.tensor(2.0).sigmoid().item()
    costs = mask_costs(mask_statistics([logits], torch.zeros(1, dtype=torch.long), 1), 1)
    assert costs.bce.item() == pytest.approx(F.softplus(torch.tensor(-2.0)).item(), rel=1e-5)
    assert costs.dice.item() == pytest.approx(1 - (2 * p + 1) / (p + 2), rel=1e-5)
    assert costs.iou.item() == pytest.approx(p, rel=1e-5)


def test_without_queries_no_instance_has_one():
    assert own_queries(torch.zeros(2, 0, 3), torch.ones(2, 0, 3, dtype=torch.bool)).tolist() == [[-1] * 3] * 2
    assert own_queries(torch.zeros(2, 3, 0), torch.ones(2, 3, 0, dtype=torch.bool)).shape == (2, 0)
