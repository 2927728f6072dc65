import pytest
import torch
from influencer_mmdet3d import EmbeddingInfluencerLoss, embedding_influencer_terms


def test_hand_computed():
    # instance 7: points 0, 1 (influencer 1); instance 9: points 2, 3 (influencer 2); point 4: none
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.5], [1.0, 2.5], [9.0, 9.0]])
    beta = torch.tensor([0.0, 2.0, 1.0, -1.0, 0.0])
    terms = embedding_influencer_terms(x, beta, torch.tensor([7, 7, 9, 9, -1]), margin=2.0)
    attraction, repulsion, bce = (t.item() for t in terms)
    assert attraction == pytest.approx(((1 + 0) / 2 + (0 + 4) / 2) / 2)
    assert repulsion == pytest.approx(2.0 - 0.5)
    soft = torch.nn.functional.softplus
    expected = 0.5 * (soft(-beta[[1, 2]]).mean() + soft(beta[[0, 3, 4]]).mean())
    assert bce == pytest.approx(expected.item())


def test_it_clusters(generator):
    instance = torch.arange(60) % 4
    x = torch.randn(60, 3, generator=generator).requires_grad_()
    beta = torch.randn(60, generator=generator).requires_grad_()
    loss, optimizer = EmbeddingInfluencerLoss(margin=2.0), torch.optim.Adam([x, beta], lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        loss(x, beta, instance).backward()
        optimizer.step()
    leaders = (beta > 0).nonzero().flatten()
    assert sorted(instance[leaders].tolist()) == [0, 1, 2, 3]
    nearest = torch.cdist(x, x[leaders]).argmin(1)
    assert torch.equal(instance[leaders][nearest], instance)


def test_without_instances_beta_goes_down():
    beta = torch.zeros(3, requires_grad=True)
    loss = EmbeddingInfluencerLoss()(torch.zeros(3, 2, requires_grad=True), beta, torch.full((3,), -1))
    loss.backward()
    assert (beta.grad > 0).all()


def test_errors():
    with pytest.raises(ValueError, match="margin must be > 0, got 0"):
        EmbeddingInfluencerLoss(margin=0)
    with pytest.raises(ValueError, match=r"expected embedding \(N, D\).*got \(3, 2\), \(4,\) and \(3,\)"):
        embedding_influencer_terms(torch.zeros(3, 2), torch.zeros(4), torch.zeros(3).long())
    with pytest.raises(ValueError, match="integer ids, got torch.float32"):
        embedding_influencer_terms(torch.zeros(3, 2), torch.zeros(3), torch.zeros(3))


def test_coinciding_embeddings_part():
    embedding = torch.zeros(6, 3, requires_grad=True)
    instance = torch.tensor([0, 0, 1, 1, 2, 2])
    loss = EmbeddingInfluencerLoss(beta_weight=0)
    before = loss(embedding, torch.zeros(6), instance)
    before.backward()
    assert before.item() == pytest.approx(1.0, abs=1e-3)
    assert bool(embedding.grad.isfinite().all()) and embedding.grad.norm() > 0.1
    after = loss(embedding.detach() - 0.1 * embedding.grad, torch.zeros(6), instance)
    assert after < before


def test_defaults_and_their_weights():
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.4, 0.3], [1.0, 2.5]])
    beta, instance = torch.tensor([2.0, 0.0, 1.0, -1.0]), torch.tensor([0, 0, 1, 1])
    terms = embedding_influencer_terms(x, beta, instance)
    assert min(terms) > 0 and terms == embedding_influencer_terms(x, beta, instance, margin=1.0)
    assert EmbeddingInfluencerLoss()(x, beta, instance).item() == pytest.approx(sum(terms).item())
    weighted = EmbeddingInfluencerLoss(attr_weight=2.0, rep_weight=3.0, beta_weight=5.0)(x, beta, instance)
    assert weighted.item() == pytest.approx((2 * terms[0] + 3 * terms[1] + 5 * terms[2]).item())


def test_one_instance_repels_nothing():
    terms = embedding_influencer_terms(torch.ones(3, 2), torch.zeros(3), torch.tensor([4, 4, 4]))
    assert [term.item() for term in terms[:2]] == [0.0, 0.0]


def test_no_instance_attracts_nothing_wherever_points_are():
    attraction, repulsion, beta = embedding_influencer_terms(torch.ones(3, 2), torch.ones(3), torch.full((3,), -1))
    assert (attraction.item(), repulsion.item()) == (0.0, 0.0) and beta.item() == pytest.approx(1.3132617)


@pytest.mark.parametrize(
    ("embedding", "beta", "instance"),
    [((3, 2, 1), 3, 3), ((3,), 3, 3), ((3, 2), 2, 3), ((3, 2), 4, 3), ((3, 2), 3, 2), ((3, 2), 3, 4)],
)
def test_every_wrong_shape(embedding, beta, instance):
    with pytest.raises(ValueError, match=r"expected embedding \(N, D\), beta_logits \(N,\) and instance \(N,\)"):
        embedding_influencer_terms(torch.zeros(embedding), torch.zeros(beta), torch.zeros(instance).long())


def test_a_negative_margin():
    with pytest.raises(ValueError, match="margin must be > 0, got -1"):
        EmbeddingInfluencerLoss(margin=-1)
