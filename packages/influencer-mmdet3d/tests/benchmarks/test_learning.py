"""The learning benchmark beside the package: its criteria against oracles, pairing, resuming and the summary."""

import dataclasses
import itertools
import json
import math
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from benchmark_files import FOLDER, load
from influencer_mmdet3d import InfluencerCriterion
from influencer_mmdet3d.demo.hungarian import DemoHungarianCriterion
from influencer_mmdet3d.loss.assignment import own_queries
from learning_batches import TINY, WEIGHTS, made_batch, made_layers

geomean = load("geomean")
learn = load("learn")
from learning import cell, criterion, data, evaluation, jobs, matching, network, recipes, settings, summary  # noqa: E402


def as_host(layers, batch):
    names = {"cls_preds": "classes", "masks": "masks", "scores": "scores"}
    listed = [{key: list(getattr(layer, name)) for key, name in names.items()} for layer in layers]
    insts = []
    for segments, labels, present in zip(batch.segments, batch.labels, batch.present):
        masks = segments == torch.arange(len(labels)).unsqueeze(1)
        insts.append(SimpleNamespace(sp_masks=masks[present], labels_3d=labels[present]))
    return {**listed[-1], "aux_outputs": listed[:-1]}, insts


def grads(loss, layers):
    return torch.autograd.grad(loss, [head for layer in layers for head in layer], allow_unused=True)


@pytest.mark.parametrize(
    ("recipe", "other"),
    [
        (recipes.Recipe("influence", 0.2, 0.05, 0.3), InfluencerCriterion(
            num_classes=4, non_object_weight=0.2, temperature=0.05, soft_share=0.3)),
        (recipes.Recipe("package", 0.2, 0.05, 0.3), InfluencerCriterion(
            num_classes=4, non_object_weight=0.2, temperature=0.05, soft_share=0.3)),
        *((recipes.Recipe(form, class_cost=2.0, score_others=3.0), InfluencerCriterion(
            num_classes=4, non_object_weight=0.05, class_cost_weight=2.0, score_others=3.0))
          for form in ("influence", "package")),
        (recipes.Recipe("geomean", temperature=1.0), geomean.GeomeanCriterion(
            4, loss_weight=WEIGHTS, non_object_weight=0.05, temperature=1.0)),
        (recipes.Recipe("hungarian", 0.2), DemoHungarianCriterion(4, WEIGHTS, 0.2)),
    ],
    ids=["influence", "package", "influence-options", "package-options", "geomean", "hungarian"],
)  # fmt: skip
def test_forms_equal_the_package_and_the_demo(recipe, other):
    batch = made_batch()
    layers = made_layers(batch)
    loss = criterion.Criterion(recipe, 4, WEIGHTS)(layers, batch, 0.5)
    wanted = other(*as_host(layers, batch))["inst_loss"]
    torch.testing.assert_close(loss, wanted, atol=1e-5, rtol=1e-5)
    for got, true in zip(grads(loss, layers), grads(wanted, layers)):
        if got is None or true is None:
            assert (got if true is None else true) is None or not (got if true is None else true).any()
        else:
            torch.testing.assert_close(got, true, atol=1e-6, rtol=1e-4)


def test_hungarian_against_all_permutations(generator):
    cost = torch.randn(3, 5, 4, generator=generator)
    allowed = torch.ones_like(cost, dtype=torch.bool)
    allowed[1, :, 2] = False
    own = matching.hungarian(cost, allowed)
    for entry in range(3):
        columns = [k for k in range(4) if allowed[entry, 0, k]]
        best = min(
            itertools.permutations(range(5), len(columns)),
            key=lambda rows: sum(float(cost[entry, q, k]) for q, k in zip(rows, columns)),
        )
        assert [int(own[entry, k]) for k in columns] == list(best)
    assert own[1, 2] == -1
    with pytest.raises(FloatingPointError, match="matching cost is not finite"):
        matching.hungarian(cost * torch.nan, allowed)


def test_sparse_against_a_loop(generator):
    cost, inside = torch.randn(4, 6, 5, generator=generator), torch.rand(4, 6, 5, generator=generator) < 0.3
    inside[0, :, 0] = False
    own = matching.sparse(cost, inside)
    for entry, k in itertools.product(range(4), range(5)):
        within = [q for q in range(6) if inside[entry, q, k]]
        wanted = min(within, key=lambda q: float(cost[entry, q, k])) if within else -1
        assert own[entry, k] == wanted


def test_sinkhorn_against_a_float64_oracle(generator):
    cost, epsilon = torch.rand(2, 7, 4, generator=generator), 0.2
    allowed = torch.ones_like(cost, dtype=torch.bool)
    allowed[1, :, 3] = False
    plan = matching.sinkhorn(cost, allowed, epsilon, 200)
    for entry, present in ((0, 4), (1, 3)):
        kernel = np.exp(-np.c_[cost[entry, :, :present].double().numpy(), np.full(7, 0.37)] / epsilon)
        wanted, column = np.array([1.0] * present + [7.0 - present]), np.ones(present + 1)
        for _ in range(2000):
            row = 1 / (kernel @ column)
            column = wanted / (kernel.T @ row)
        oracle = row[:, None] * kernel * column
        np.testing.assert_allclose(plan[entry, :, :present].numpy(), oracle[:, :-1], atol=1e-5)
        np.testing.assert_allclose(plan[entry].sum(0)[:present].numpy(), 1, atol=1e-6)
        assert plan[entry].sum(1).max() < 1 + 1e-4
    assert not plan[1, :, 3].any()
    one = matching.sinkhorn(cost, allowed, epsilon, 1)
    torch.testing.assert_close(one[0].sum(0), torch.ones(4))  # instances are scaled last
    with pytest.raises(ValueError, match="more queries than instances, got 4 and up to 4"):
        matching.sinkhorn(cost[:, :4], allowed[:, :4], epsilon, 3)


def test_greedy_equals_the_package(generator):
    cost = torch.randn(6, 20, 15, generator=generator)
    allowed = torch.rand(6, 20, 15, generator=generator) < 0.7
    allowed[0, :, 3] = False
    assert torch.equal(matching.greedy(cost, allowed), own_queries(cost, allowed))
    ladder = torch.arange(12.0).view(1, -1, 1) + torch.arange(12.0)  # every instance wants query 0: twelve rounds
    every = torch.ones_like(ladder, dtype=torch.bool)
    assert torch.equal(matching.greedy(ladder, every), torch.arange(12).unsqueeze(0))


def test_competition_by_hand():
    logits = torch.tensor([[[1.0, 2.0, 0.0], [0.0, 3.0, 0.0], [5.0, 5.0, 5.0]]])
    segments = torch.tensor([[0, 1, 2]])
    # queries 0 and 1 stand for instances 0 and 1, nobody for instance 2
    wanted = (math.log(1 + math.exp(-1.0)) + math.log(1 + math.exp(-1.0))) / 2
    torch.testing.assert_close(criterion.compete(logits, segments, torch.tensor([[0, 1, -1]])), torch.tensor([wanted]))
    assert criterion.compete(logits, segments, torch.tensor([[-1, -1, -1]])) == 0


def test_distance_from_the_middle_by_hand():
    xyz = torch.tensor([[[0.0, 0, 0], [2.0, 0, 0], [10.0, 0, 0]]])
    points = torch.cat([xyz, torch.zeros_like(xyz)], -1)
    labels = torch.zeros(1, 2, dtype=torch.long)
    seeds = torch.tensor([[0, 2]])
    batch = data.Batch(points, torch.tensor([[0, 0, 1]]), labels, torch.ones_like(labels, dtype=torch.bool), seeds)
    # instance 0: middle 1, radius 1; instance 1 is one point
    torch.testing.assert_close(criterion.from_centre(batch), torch.tensor([[[1.0, 2.0], [2.0, 0.0]]]))


def test_masks_of_all_and_crowding_by_hand():
    batch = made_batch()
    layers = made_layers(batch)
    one = criterion.Criterion(recipes.Recipe("influence"), 4, WEIGHTS)
    entries = one._entries(layers, batch)
    start = batch.segments.gather(1, batch.seeds)
    own = torch.tensor([3, -1, 5, 0, -1]).expand(6, -1)
    home = start.index_copy(1, torch.tensor([3, 5, 0]), torch.tensor([0, 2, 3]).expand(2, -1))
    assert not torch.equal(home, start)
    everyone, crowding = one._everyone(entries, batch, matching.one_hot(own, 9)), one._crowding(entries)
    for layer, sample in itertools.product(range(3), range(2)):
        head, costs = layers[layer], []
        for q in range(9):
            true = (batch.segments[sample] == home[sample, q]).float()
            p = head.masks[sample, q].sigmoid()
            bce = torch.nn.functional.binary_cross_entropy(p, true)
            costs.append(bce + 1 - (2 * (p * true).sum() + 1) / (p.sum() + true.sum() + 1))
        torch.testing.assert_close(everyone[2 * layer + sample], torch.stack(costs).mean(), atol=1e-5, rtol=1e-4)
        is_object = 1 - head.classes[sample].softmax(-1)[:, -1]
        excess = (is_object @ entries.iou[2 * layer + sample])[:4] - 1  # instance 4 is absent
        torch.testing.assert_close(crowding[2 * layer + sample], excess.clamp_min(0).mean())
    assert crowding.max() > 0


def entries_of(classes, scores, labels, iou, present):
    cost = torch.zeros_like(iou)
    return criterion._Entries(classes, scores, labels, cost, cost, iou, present, [])


def test_class_score_and_contrast_by_hand():
    log = math.log
    classes = torch.tensor([[[log(3.0), log(1.0)], [log(1.0), log(1.0)], [log(1.0), log(4.0)]]])
    iou = torch.tensor([[[0.9], [0.6], [0.2]]])
    scores = torch.tensor([[0.5, 0.4, 0.3]])
    entries = entries_of(classes, scores, torch.tensor([[0]]), iou, torch.tensor([[True]]))
    own = torch.tensor([[0]])
    claim = matching.one_hot(own, 3)
    one = criterion.Criterion(recipes.Recipe("influence", score_others=2.0), 1, WEIGHTS)
    # query 0 is the object (3 of 4), 1 and 2 are none, at half weight (1 of 2 and 4 of 5)
    by_class = (log(4 / 3) + 0.5 * log(2) + 0.5 * log(5 / 4)) / 2
    torch.testing.assert_close(one._classification(entries, claim, 0.5), torch.tensor([by_class]))
    by_score = (0.5 - 0.9) ** 2 + 2.0 * (0.4**2 + 0.3**2) / 2
    torch.testing.assert_close(one._score(entries, claim), torch.tensor([by_score]))
    every = criterion.Criterion(recipes.Recipe("influence", score_all=True), 1, WEIGHTS)
    by_all = (0.4**2 + 0.2**2 + 0.1**2) / 3
    torch.testing.assert_close(every._score(entries, claim), torch.tensor([by_all]))
    # query 1 alone repeats the instance (IoU 0.6): log-odds 0 against log 3
    torch.testing.assert_close(one._contrast(entries, own), torch.tensor([log(1 + math.exp(1 - log(3.0)))]))
    assert one._contrast(entries, torch.tensor([[-1]])) == 0


def test_the_class_lowers_the_cost():
    batch = made_batch()
    layers = made_layers(batch)
    one = criterion.Criterion(recipes.Recipe("influence", class_cost=2.0), 4, WEIGHTS)
    entries = one._entries(layers, batch)
    prob = layers[0].classes[0, 3].float().softmax(-1)[batch.labels[0, 1]]
    torch.testing.assert_close(entries.mask_cost[0, 3, 1] - entries.cost[0, 3, 1], 2.0 * prob)
    odds = criterion.Criterion(recipes.Recipe("influence", class_cost=2.0, odds=True), 4, WEIGHTS)
    entries, logits = odds._entries(layers, batch), layers[0].classes[0, 3].detach()
    wanted = 2.0 * (logits[batch.labels[0, 1]] - logits[4])
    torch.testing.assert_close(entries.mask_cost[0, 3, 1] - entries.cost[0, 3, 1], wanted)


@pytest.mark.parametrize("form", ["influence", "hungarian"])
def test_queries_answer_for_the_instance_that_they_start_in(form):
    batch = made_batch()
    layers = made_layers(batch)

    def outside(**options):
        one = criterion.Criterion(recipes.Recipe(form, **options), 4, WEIGHTS)
        entries = one._entries(layers, batch)
        own = one._assign(entries, batch, 3, 0.0)[0].own
        inside = batch.inside.repeat(3, 1, 1).gather(1, own.clamp_min(0).unsqueeze(1)).squeeze(1)
        reachable = batch.inside.any(1).repeat(3, 1) & (own >= 0)
        return int((~inside & reachable).sum())

    assert outside() > 10
    assert outside(outside_cost=100.0) == 0
    assert outside(outside_cost=100.0, central=10.0) == 0
    if form == "influence":
        assert outside(query_masks=True) == 0


def test_temperature_by_step_and_by_layer():
    def of(progress, **options):
        return criterion.Criterion(recipes.Recipe("influence", **options), 4, WEIGHTS).temperature(3, progress)

    torch.testing.assert_close(of(0.7), torch.full((3,), 0.03))
    torch.testing.assert_close(of(0.5, temperature=0.1, temperature_stop=0.001), torch.full((3,), 0.01))
    torch.testing.assert_close(of(0.5, temperature=0.1, temperature_last_layer=0.001), torch.tensor([0.1, 0.01, 0.001]))


@torch.no_grad()
def test_the_weight_of_no_object_rises_over_the_training():
    batch = made_batch()
    layers = made_layers(batch)

    def of(**options):
        return criterion.Criterion(recipes.Recipe("hungarian", **options), 4, WEIGHTS)

    ramp = of(non_object_weight=0.01, non_object_stop=1.0)
    assert ramp.non_object_weight(0.5) == pytest.approx(0.1)
    losses = {weight: float(of(non_object_weight=weight)(layers, batch, 0.5)) for weight in (0.01, 0.1, 1.0)}
    assert len(set(losses.values())) == 3
    assert [float(ramp(layers, batch, step)) for step in (0.0, 0.5, 1.0)] == pytest.approx([*losses.values()])


def test_pilots_by_hand_and_apart_from_the_rest():
    batch = made_batch()
    one = criterion.Criterion(recipes.Recipe("influence", pilots=1.0), 4, WEIGHTS)
    plain = criterion.Criterion(recipes.Recipe("influence"), 4, WEIGHTS)
    layers = made_layers(batch, extra=5)
    with_pilots = one(layers, batch, 0.0)
    pilots = [layer.rows(slice(9, None)) for layer in layers]
    wanted = 0.0
    for layer, sample, k in itertools.product(range(3), range(2), range(4)):  # instance 4 is absent
        head, true = pilots[layer], (batch.segments[sample] == k).float()
        x = head.masks[sample, k]
        p = x.sigmoid()
        both, label = (p * true).sum(), batch.labels[sample, k]
        iou = (both / (p.sum() + true.sum() - both)).detach()
        cost = torch.nn.functional.binary_cross_entropy_with_logits(x, true)
        cost = cost + 1 - (2 * both + 1) / (p.sum() + true.sum() + 1)
        cost = cost - 0.5 * head.classes[sample, k].log_softmax(-1)[label]
        wanted = wanted + (cost + 0.5 * (head.scores[sample, k, 0] - iou) ** 2) / 4 / 2
    torch.testing.assert_close(with_pilots - plain(layers, batch, 0.0), wanted, atol=1e-4, rtol=1e-4)
    drawn = network.draw_pilots(batch, 0.25, torch.Generator().manual_seed(0))
    assert (batch.segments.gather(1, drawn.seeds)[:, :4] == torch.arange(4)).all()
    clean = network.draw_pilots(batch, 0.0, torch.Generator().manual_seed(0))
    assert torch.equal(clean.masks, batch.segments.unsqueeze(1) == torch.arange(5).view(1, -1, 1))
    big = made_batch(points=20_000)
    noisy = network.draw_pilots(big, 0.25, torch.Generator().manual_seed(0)).masks[:, :4]
    true = (big.segments.unsqueeze(1) == torch.arange(5).view(1, -1, 1))[:, :4]
    assert float((noisy & true).sum() / true.sum()) == pytest.approx(0.75, abs=0.02)
    assert float(noisy.sum() / true.sum()) == pytest.approx(1.0, abs=0.02)


def test_pilots_leave_the_other_queries_alone():
    torch.manual_seed(0)
    model = network.Segmentor(dataclasses.replace(TINY, layers=2), 9, 4)
    batch = made_batch()
    pilots = network.draw_pilots(batch, 0.2, torch.Generator().manual_seed(0))
    for alone, beside in zip(model(batch), model(batch, pilots)):
        assert beside.masks.shape[1] == 9 + 5
        for one, other in zip(alone, beside.rows(slice(9))):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.fixture(scope="module")
def pool():
    return data.make_pool("easy", "training", TINY.rooms, TINY.room_points)


def test_training_and_held_out_rooms_differ(pool):
    other = data.make_pool("easy", "held-out", TINY.rooms, TINY.room_points)
    again = data.make_pool("easy", "training", 1, TINY.room_points)
    torch.testing.assert_close(again.points[0], pool.points[0], atol=0, rtol=0)
    distinct = {tuple(room[:, :3].amax(0).tolist()) for room in (*pool.points, *other.points)}
    assert len(distinct) == 2 * TINY.rooms


def test_a_sample_is_a_turned_part_of_its_room(pool):
    plan = data.make_plan(3, TINY)
    assert sorted(plan.room.flatten()[:3].tolist()) == [0, 1, 2]  # every room once before any twice
    batch = next(data.batches(pool, plan, TINY.points, 9))
    for i in range(2):
        rows = (plan.offset[0, i] + plan.stride[0, i] * torch.arange(TINY.points)) % TINY.room_points
        assert len(set(rows.tolist())) == TINY.points
        room = plan.room[0, i]
        assert torch.equal(batch.segments[i], pool.segments[room, rows])
        before, after = pool.points[room, rows, :3], batch.points[i, :, :3]
        torch.testing.assert_close(torch.cdist(after, after), torch.cdist(before, before) * plan.scale[0, i],
                                   atol=5e-3, rtol=1e-3)  # fmt: skip
        assert after.amin() == 0 and batch.points[i, :, 3:].abs().amax() <= 1
        held = set(batch.segments[i].tolist())
        assert [k in held for k in range(30)] == batch.present[i].tolist()
        assert torch.equal(batch.inside[i].nonzero()[:, 1], batch.segments[i, batch.seeds[i]])


def test_criteria_see_the_same_batches_and_weights(pool):
    first, second = (cell.Training(cell.Cell(name, "easy", 5), TINY, pool) for name in ("hungarian", "influence"))
    other = cell.Training(cell.Cell("hungarian", "easy", 6), TINY, pool)
    for one, two in zip(first.model.parameters(), second.model.parameters()):
        assert torch.equal(one, two)
    mine, yours, theirs = list(first.data), list(second.data), list(other.data)
    assert len(mine) == TINY.steps
    assert all(torch.equal(a, b) for one, two in zip(mine, yours) for a, b in zip(one, two))
    assert not torch.equal(mine[0].points, theirs[0].points)
    assert not torch.equal(next(first.model.parameters()), next(other.model.parameters()))


@pytest.mark.parametrize("name", [*recipes.CRITERIA, "influence:query_masks=True", "sinkhorn:pilots=1,score_others=1"])
def test_every_criterion_trains(name, pool):
    training = cell.Training(cell.Cell(name, "easy", 0), TINY, pool)
    training.data = itertools.repeat(next(training.data))
    losses = torch.stack([training.step() for _ in range(TINY.steps)])
    assert losses.isfinite().all()
    assert losses[-1] < losses[0] - 0.1
    assert training.optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


class Oracle(torch.nn.Module):
    """Finds every instance twice, the second time with a slightly lower score and a smaller mask."""

    def forward(self, rooms):
        count = rooms.labels.shape[1]
        masks = (rooms.segments.unsqueeze(1) == torch.arange(count).view(1, -1, 1)).float()
        part = masks * (torch.arange(masks.shape[-1]) % 8 != 0)
        classes = torch.nn.functional.one_hot(rooms.labels.masked_fill(~rooms.present, 13), 14).float()
        scores = torch.linspace(1.0, 0.4, count).view(1, -1, 1).expand(len(masks), -1, -1)
        heads = (20 * torch.cat([classes] * 2, 1), 20 * torch.cat([masks, part], 1) - 10)
        return [network.Heads(*heads, torch.cat([scores, 0.99 * scores], 1))]


def test_evaluation_of_a_perfect_model_with_duplicates(pool):
    rooms = data.whole_rooms(pool, 9)
    values = evaluation.evaluate(Oracle(), rooms, 10, None)
    assert values["ap"] == pytest.approx(1.0) == values["ap50"]
    assert values["raw_ap"] < 0.9  # duplicates rank above other instances of their class
    assert values["covered"] == 1 and values["repeats"] == 1


def write_cells(out, name, finals, curve=(0.2, 0.4)):
    for seed, value in enumerate(finals):
        points = [
            {"step": 10 * (n + 1), "seconds": 1.0 + n, "loss": 1.0, "ap": ap, "ap50": ap, "ap25": ap, "raw_ap": ap / 2}
            for n, ap in enumerate((*curve, value))
        ]
        result = {"criterion": name, "difficulty": "easy", "seed": seed, "settings": {"steps": 30}, "curve": points}
        result |= {"device": "cpu", "torch": "2.0"}
        path = cell.Cell(name, "easy", seed).path(out)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result))


def test_summary_by_hand(tmp_path, capsys):
    write_cells(tmp_path, "hungarian", [0.50, 0.60, 0.55, 0.52, 0.58])
    write_cells(tmp_path, "influence", [0.56, 0.64, 0.60, 0.60, 0.60], curve=(0.35, 0.7))
    write_cells(tmp_path, "geomean:rep_weight=0.2", [0.0, 0.0, 0.0], curve=(0.0, 0.0))
    best, reference, none = summary.rows(summary.load(tmp_path)[0])
    assert [row.criterion for row in (best, reference, none)] == ["influence", "hungarian", "geomean:rep_weight=0.2"]
    assert (best.ap, reference.ap, none.ap) == pytest.approx((0.60, 0.55, 0.0))
    assert best.ap_deviation == pytest.approx(math.sqrt((0.04**2 + 0.04**2) / 4))
    assert best.ratio == pytest.approx(0.60 / 0.55)
    # differences 0.06 0.04 0.05 0.08 0.02: mean 0.05, deviation sqrt(0.0020 / 4); t = 0.05 / (0.02236 / sqrt 5) = 5
    t = 0.05 / (math.sqrt(0.0020 / 4) / math.sqrt(5))
    assert t == pytest.approx(5)
    assert best.p_t == pytest.approx(0.00749, abs=1e-5)  # two-sided, 4 degrees of freedom
    assert (best.low + best.high) / 2 == pytest.approx(0.05)
    assert best.high - best.low == pytest.approx(2 * 2.776445 * 0.01, rel=1e-5)
    assert best.p_wilcoxon == pytest.approx(2 / 2**5)
    # mean curve 0.35 at 10, 0.70 at 20: 0.55 after 10 + 10 * 0.20 / 0.35 of 30 steps
    assert best.steps == pytest.approx(10 + 10 * 0.20 / 0.35)
    assert best.share == pytest.approx(best.steps / 30)
    assert reference.steps == pytest.approx(30)
    assert (best.raw_ap, best.gap) == pytest.approx((0.30, 0.30))
    assert none.seeds == 3 and none.ratio == 0 and math.isnan(none.steps) and math.isnan(reference.ratio)
    assert learn.summarise(learn.parse(["--out", str(tmp_path), "--summarise"])) == 0
    printed = capsys.readouterr().out
    assert (
        "| easy | influence | 5 | 0.600 (0.028) | 0.600 | 0.600 | 1.091 | +0.022 to +0.078 | 0.007 | 0.062 | 16 (52%)"
        in printed
    )
    assert "not reached" in printed
    assert "Rows with fewer than 5 pairs are an exploration" in printed
    assert "13 cells; cpu, torch 2.0; steps=30" in printed
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    # AP without NMS is half of AP: the gaps differ by half of what AP differs by, and so does the test's scale
    assert (best.gap_change, best.p_gap) == pytest.approx((0.025, best.p_t))
    with pytest.raises(ValueError, match="holds no such cells"):
        summary.load(tmp_path / "elsewhere")


def test_summary_against_another_criterion(tmp_path, capsys):
    write_cells(tmp_path, "hungarian", [0.50, 0.60])
    write_cells(tmp_path, "influence", [0.56, 0.64])
    options = ["--out", str(tmp_path), "--summarise", "--against", "influence"]
    assert learn.summarise(learn.parse(options)) == 0
    printed = capsys.readouterr().out
    # differences -0.06 and -0.04: t = -0.05 / 0.01 with one degree of freedom, p = 0.1257
    row = "| easy | hungarian | 2 | 0.550 (0.071) | 0.550 | 0.550 | 0.917 | -0.177 to +0.077 | 0.126 | 0.500 |"
    assert row in printed and "| 0.275 | 0.275 | -0.025 | 0.126 |" in printed
    assert "AP / influence's" in printed and "Hungarian" not in printed.partition("| easy")[0]
    with pytest.raises(ValueError, match="--against sparse: no such cells among those summarised"):
        learn.summarise(learn.parse([*options[:-1], "sparse"]))


def test_summary_of_few_seeds_says_why_there_is_no_test(tmp_path, capsys):
    write_cells(tmp_path, "hungarian", [0.50])
    write_cells(tmp_path, "influence", [0.60, 0.70], curve=(0.0, 0.5))
    write_cells(tmp_path, "sparse", [0.50])
    best, _, same = summary.rows(summary.load(tmp_path)[0])
    # paired with seed 0 alone: its curve 0, 0.5, 0.6 reaches 0.5 after 20 steps
    assert (best.criterion, best.seeds, best.pairs) == ("influence", 2, 1)
    assert (best.ratio, best.steps) == pytest.approx((0.60 / 0.50, 20)) and math.isnan(best.p_t)
    table = summary.markdown([best, same])
    assert (
        "| influence | 2 | 0.650 (0.071) | 0.650 | 0.650 | 1.200 | one pair | one pair | one pair | 20 (67%) |" in table
    )
    assert "| sparse | 1 | 0.500 (one seed) |" in table
    assert "one pair gives no test" in table
    assert "exploration" not in summary.markdown([best._replace(pairs=5)])
    (path,) = (tmp_path / "cells").glob("*hungarian*")
    path.unlink()
    assert "| no pair | no pair |" in summary.markdown(summary.rows(summary.load(tmp_path)[0]))


def test_summary_of_what_is_named(tmp_path, capsys):
    write_cells(tmp_path, "hungarian", [0.50, 0.60])
    write_cells(tmp_path, "influence", [0.60, 0.70])
    options = ["--out", str(tmp_path), "--summarise", "--criteria", "hungarian", "--seeds", "1", "--difficulty", "easy"]
    assert learn.summarise(learn.parse(options)) == 0
    printed = capsys.readouterr().out
    assert "| easy | hungarian | 1 | 0.600 (one seed)" in printed and "influence" not in printed
    with pytest.raises(ValueError, match="holds no such cells"):
        learn.summarise(learn.parse(["--out", str(tmp_path), "--summarise", "--criteria", "sparse"]))


def test_reached_by_hand():
    assert summary.reached([10, 20], [0.4, 0.4], 0.2) == pytest.approx(5)
    assert summary.reached([10, 20], [0.0, 0.4], 0.4) == pytest.approx(20)
    assert math.isnan(summary.reached([10, 20], [0.1, 0.2], 0.3))


def test_recipes_refuse_what_does_nothing():
    assert recipes.find("influence-pilots:pilots=0.5,rounds=2") == dataclasses.replace(
        recipes.CRITERIA["influence-pilots"], pilots=0.5, rounds=2
    )
    assert set(recipes.COMPETITORS) <= set(recipes.CRITERIA)
    for name, message in {
        "hungry": "no criterion 'hungry'; known: hungarian, sparse",
        "hungarian:temperature=1": "'temperature' does nothing in hungarian; known: ",
        "influence-rounds:rounds=few": "rounds='few' is not a value",
        "influence:query_masks=yes": "query_masks='yes' is not a value",
        "influence:temperature=0": "temperature must be > 0, got 0",
        "influence-cooling:temperature_last_layer=0.1": "exclude each other",
        "influence-score-all:score_others=1": "exclude each other",
        "sinkhorn:rounds=0": "at least one round, got 0",
        "influence-pilots:pilot_noise=1": "pilot_noise must be in",
        "influence:non_object_stop=0": "needs weights > 0, got 0.05 to 0.0",
        "geomean:non_object_stop=1": "'non_object_stop' does nothing in geomean",
    }.items():
        with pytest.raises(ValueError, match=message):
            recipes.find(name)
    with pytest.raises(ValueError, match="contrast does nothing in form 'package'"):
        recipes.Recipe("package", contrast=1.0)
    with pytest.raises(ValueError, match="form must be one of"):
        recipes.Recipe("auction")


def test_settings_by_hand():
    assert TINY.milestones == [4, 8]
    assert [settings.Settings(queries_per_instance=n).queries("easy") for n in (1, 4)] == [64, 120]
    assert [settings.Settings(steps=130).rate(step) for step in (0, 15, 30, 130)] == pytest.approx([0.1, 0.55, 1, 0])
    for change, message in {
        ("points", 2000): "points=2000 of a sample exceed room_points=1024",
        ("evaluations", 9): "evaluations=9 exceed steps=8",
        ("batch", 0): "batch must be at least 1, got 0",
        ("amp", "int8"): "amp must be one of",
    }.items():
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(TINY, **dict([change]))


def test_bfloat16_trains_too(pool):
    half = dataclasses.replace(TINY, amp="bf16")
    training = cell.Training(cell.Cell("influence-unique-pilots", "easy", 0), half, pool)
    dtypes = []
    training.model.decoder.mask_features.register_forward_hook(lambda *args: dtypes.append(args[-1].dtype))
    assert torch.stack([training.step() for _ in range(2)]).isfinite().all()
    assert dtypes == [torch.bfloat16] * 2


def test_no_cell_begins_without_time(tmp_path):
    lines = []
    cells = [cell.Cell("influence", "easy", seed) for seed in range(3)]
    assert jobs.run_cells(cells, TINY, tmp_path, ["cpu"], 2, -1.0, lines.append) == (0, 3)
    assert not lines


def test_a_lost_process_ends_the_run(tmp_path, monkeypatch):
    class Lost:
        def __init__(self, *args):
            self.lost = False

        def __enter__(self):
            return self

        def __exit__(self, *args):
            pass

        def submit(self, *args):
            if self.lost:
                raise jobs.BrokenProcessPool("gone")
            self.lost = True
            future = jobs.Future()
            future.set_exception(jobs.BrokenProcessPool("killed"))
            return future

    monkeypatch.setattr(jobs, "ProcessPoolExecutor", Lost)
    lines = []
    cells = [cell.Cell("influence", "easy", seed) for seed in range(3)]
    assert jobs.run_cells(cells, TINY, tmp_path, ["cpu"], 2, math.inf, lines.append) == (1, 2)
    assert [line.split("] ")[1] for line in lines] == ["easy influence seed 0: BrokenProcessPool: killed"]


def test_the_command_trains_and_resumes(tmp_path, capsys, monkeypatch):
    options = ["--out", str(tmp_path), "--small", "--steps", "2", "--evaluations", "1", "--points", "256"]
    options += ["--rooms", "2", "--held-out", "1", "--difficulty", "easy", "--seeds", "0"]
    options += ["--criteria", "hungarian", "influence"]
    command = [sys.executable, str(FOLDER / "learn.py"), *options, "--jobs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("easy hungarian seed 0: AP 0.") == done.stdout.count("easy influence seed 0: AP 0.") == 1
    small = learn.settings_of(learn.parse(options))
    rooms = data.load_pool(tmp_path / "rooms", "easy", "training", small)
    made = data.make_pool("easy", "training", 2, small.room_points)
    assert all(torch.equal(one, other) for one, other in zip(rooms, made))
    written = cell.Cell("influence", "easy", 0).path(tmp_path)
    before = written.stat().st_mtime_ns
    assert learn.train(learn.parse(options)) == 0
    assert "2 cells, 2 there already" in capsys.readouterr().out
    assert written.stat().st_mtime_ns == before
    result = json.loads(written.read_text())
    assert [point["step"] for point in result["curve"]] == [2]
    assert {"ap", "raw_ap", "ap50", "raw_ap50", "ap25", "raw_ap25", "seconds", "loss"} <= set(result["curve"][0])
    with pytest.raises(
        ValueError, match=r"was made with lr=0.002 \(now 0.1\); give the same settings or another --out"
    ):
        learn.train(learn.parse([*options, "--lr", "0.1", "--criteria", "influence"]))
    monkeypatch.setitem(recipes.CRITERIA, "influence", recipes.Recipe("influence", temperature=0.05))
    with pytest.raises(ValueError, match=r"was made with temperature=None \(now 0.05\); give"):
        learn.train(learn.parse(options))
    assert learn.time_steps(learn.parse([*options, "--time", "--criteria", "influence"])) == 0
    assert json.loads((tmp_path / "step-times.json").read_text())["easy"]["influence"] > 0


def test_list_names_every_criterion(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["learn.py", "--list"])
    assert learn.main() == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == list(recipes.CRITERIA)
    assert "influence-rounds              form=influence rounds=3" in printed


def test_misuse(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["learn.py", "--out", "nowhere", "--criteria", "hungry"])
    assert learn.main() == 2
    assert "learn.py: no criterion 'hungry'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        learn.parse([])
    assert "--out is needed" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        learn.parse(["--out", "x", "--jobs", "0"])
    assert "--jobs must be at least 1, got 0" in capsys.readouterr().err
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="torch sees no GPU here"):
            learn.devices_of("cuda")
