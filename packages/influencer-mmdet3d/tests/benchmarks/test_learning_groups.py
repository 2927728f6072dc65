"""What the learning benchmark can add to query groups: soft targets, modulated costs, a many-to-one set, ramps of G."""

import dataclasses
import itertools

import pytest
import torch
from learning_batches import TINY, WEIGHTS, made_batch, made_layers

from learning import cell, criterion, data, network, recipes  # isort: skip

BELIEF = "influence-belief"


def of(**options):
    return criterion.Criterion(recipes.Recipe("influence", query_masks=True, **options), 4, WEIGHTS)


def test_the_number_of_sets_over_the_training():
    def sets(**options):
        return [recipes.Recipe("package", **options).sets(step / 10) for step in range(10)]

    assert sets(groups=6) == [6] * 10
    assert sets(groups=6, groups_until=0.5) == [6] * 5 + [1] * 5
    shrinking, growing = sets(groups=6, groups_last=1), sets(groups=1, groups_last=6)
    assert (shrinking[0], shrinking[-1], growing[0], growing[-1]) == (6, 2, 1, 6)
    assert shrinking == sorted(shrinking, reverse=True) and growing == sorted(growing)


@torch.no_grad()
def test_soft_targets_by_hand():
    batch = made_batch()
    layers = made_layers(batch, 1)
    one = of(soft_targets=0.5)
    entries = one._entries(layers, batch)
    assigned, _, claim = one._assign(entries, batch, 1, 0.0)
    share = 0.0
    for sample in range(2):
        target = torch.zeros(9, 5)
        target[:, 4] = 1.0
        for k, query in enumerate(assigned.own[sample].tolist()):
            if query >= 0:
                part = entries.iou[sample, query, k] ** 0.5
                target[query] = 0
                target[query, batch.labels[sample, k]], target[query, 4] = part, 1 - part
        target[:, 4] *= 0.05
        share += -(target * layers[0].classes[sample].log_softmax(-1)).sum() / target.sum() / 2
    hard = of()
    wanted = hard(layers, batch, 0.0) + 0.5 * (share - hard._classification(entries, claim, 0.05).mean())
    torch.testing.assert_close(one(layers, batch, 0.0), wanted, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_overlap_modulates_the_belief():
    batch = made_batch()
    layers = made_layers(batch, 1)
    probability = layers[0].classes.softmax(-1)
    for odds, k, query in itertools.product((False, True), range(4), (0, 8)):
        entries = of(modulated=0.5, odds=odds, class_cost=2.0)._entries(layers, batch)
        label = batch.labels[1, k]
        own, none = probability[1, query, label], probability[1, query, -1]
        believed = (own / (own + none) if odds else own) * entries.iou[1, query, k] ** 0.5
        belief = torch.log(believed / (1 - believed)) if odds else believed
        cost = entries.mask_cost[1, query, k] - 2 * belief
        torch.testing.assert_close(entries.cost[1, query, k], cost, atol=1e-4, rtol=1e-4)
    plain, modulated = of(odds=True)._entries(layers, batch), of(odds=True, modulated=0.5)._entries(layers, batch)
    assert (modulated.cost >= plain.cost - 1e-4).all()


def two_instances():
    """A batch of instances 0 and 1; query q of each set of six starts in instance q % 2."""
    batch = made_batch(queries=12)
    segments = batch.segments % 2
    seeds = torch.stack([(one == torch.arange(12).view(-1, 1) % 2).int().argmax(1) for one in segments])
    return batch._replace(segments=segments, seeds=seeds, present=torch.arange(5).expand(2, -1) < 2)


@torch.no_grad()
def test_many_queries_of_an_instance_by_hand():
    batch = two_instances()
    layers = made_layers(batch, 2)
    both, plain = of(many=2), of()
    first, last = (batch._replace(seeds=batch.seeds[:, part]) for part in (slice(0, 6), slice(6, 12)))
    entries = plain._entries([layer.rows(slice(6, 12)) for layer in layers], last)
    wanted = []
    for entry in range(4):  # layer by layer, two samples each; the last layer has one query for each instance
        target, masks = torch.zeros(6, 5), 0.0
        target[:, 4] = 0.05
        for k in range(2):
            inside = sorted(range(k, 6, 2), key=lambda query: float(entries.cost[entry, query, k]))
            weights = [1.0, 2.718281828**-0.5][: 2 if entry < 2 else 1]
            for query, weight in zip(inside, weights):
                error = (entries.scores[entry, query] - entries.iou[entry, query, k]) ** 2
                masks += weight / sum(weights) / 2 * (entries.mask_cost[entry, query, k] + 0.5 * error)
                target[query, entries.labels[entry, k]] += weight
                target[query, 4] = 0.05 * (1 - weight)
        classes = -(target * entries.classes[entry].log_softmax(-1)).sum() / target.sum()
        wanted.append(masks + 0.5 * classes)
    got = both._many(entries, last, 2, 0.0)
    torch.testing.assert_close(got, torch.stack(wanted), atol=1e-4, rtol=1e-4)
    regular = plain([layer.rows(slice(0, 6)) for layer in layers], first, 0.0)
    torch.testing.assert_close(both(layers, batch, 0.0), (regular + got.sum() / 2) / 2, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_set_of_many_has_an_attention_of_its_own_and_leaves_the_others_alone():
    torch.manual_seed(0)
    plain = network.Segmentor(dataclasses.replace(TINY, layers=2), 9, 4)
    torch.manual_seed(0)
    model = network.Segmentor(dataclasses.replace(TINY, layers=2), 9, 4, many=True)
    batch = made_batch()
    for one, other in zip(plain.parameters(), model.parameters()):
        assert torch.equal(one, other)
    every = batch._replace(seeds=data.other_starts(batch, 3, torch.Generator().manual_seed(0)))
    two = every._replace(seeds=every.seeds[:, :18])
    before = model(every, None, 3)
    for alone, beside in zip(plain(two, None, 2), before):
        torch.testing.assert_close(beside.rows(slice(18)).masks, alone.masks, atol=1e-5, rtol=1e-4)
    for weight in model.decoder.many.parameters():
        weight.add_(0.5)
    after = model(every, None, 3)
    torch.testing.assert_close(before[-1].rows(slice(18)).masks, after[-1].rows(slice(18)).masks)
    assert not torch.allclose(before[-1].masks[:, 18:], after[-1].masks[:, 18:])
    torch.testing.assert_close(model(batch)[-1].masks, plain(batch)[-1].masks)


@pytest.fixture(scope="module")
def pool():
    return data.make_pool("easy", "training", TINY.rooms, TINY.room_points)


@pytest.mark.parametrize(
    "name",
    [
        f"{BELIEF}:groups=2,soft_targets=0.5",
        f"{BELIEF}:groups=2,modulated=0.5",
        f"{BELIEF}:many=3",
        f"{BELIEF}:groups=2,many=3,pilots=1",
        "package-nms-free:groups=3,groups_last=1",
        "package-nms-free:groups=1,groups_last=3",
    ],
)
def test_options_train(name, pool):
    training = cell.Training(cell.Cell(name, "easy", 0), TINY, pool)
    training.data = itertools.repeat(next(training.data))
    losses = torch.stack([training.step() for _ in range(TINY.steps)])
    assert losses.isfinite().all()
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups_last": 0}, "groups_last must be at least 1, got 0"),
        ({"groups_last": 2, "groups_until": 0.5}, "groups_last and groups_until exclude each other"),
        ({"soft_targets": -1.0}, "must not be negative, got -1.0 and 0.0"),
        ({"many": -1}, "many and many_decay must not be negative, got -1 and 0.5"),
    ],
)
def test_options_refuse_wrong_values(options, message):
    with pytest.raises(ValueError, match=message):
        recipes.Recipe("influence", **options)
    with pytest.raises(ValueError, match="'many' does nothing in package-nms-free"):
        recipes.find("package-nms-free:many=2")
