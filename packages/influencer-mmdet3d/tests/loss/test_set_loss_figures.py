"""What the set loss reports and how samples are split and padded, against loops and values worked out by hand."""

from __future__ import annotations

import dataclasses
import logging

import pytest
import torch
from influencer_mmdet3d import InfluencerSetLoss, Sample, mask_influencer_loss
from influencer_mmdet3d.loss import nonfinite
from influencer_mmdet3d.loss.nonfinite import Sieve
from influencer_mmdet3d.loss.options import RECIPES, SetLossOptions
from influencer_mmdet3d.loss.padded import line_up
from influencer_mmdet3d.loss.sample import check_samples
from influencer_mmdet3d.loss.wording import PLAIN
from scenes import make_masks

CLASSES = 4


def sample_of(seed, queries, points, instances, layers=2, confident=False, **parts):
    generator = torch.Generator().manual_seed(seed)

    def head(*shape):
        return [2 * torch.randn(shape, generator=generator) for _ in range(layers)]

    masks = head(queries, points)
    targets = make_masks(generator, instances, points)
    if confident:  # masks that cover instances well, two queries each
        masks = [torch.where(targets[torch.arange(queries) % instances], 6.0, -6.0) + 0.3 * x for x in masks]
    given = dict(
        masks=masks,
        targets=targets,
        labels=torch.randint(0, CLASSES, (instances,), generator=generator),
        classes=head(queries, CLASSES + 1),
        scores=head(queries, 1),
    )
    return Sample(**{**given, **parts})


def figures_by_loops(samples, log_odds=False):
    """The diagnostics of the last layer in float64, sample by sample, from the documented words."""
    attraction, repulsion, background, objectness = [], [], [], []
    owned = present = covered = repeated = 0
    for sample in samples:
        masks, classes = sample.masks[-1].double(), sample.classes[-1].double()
        prob = classes.softmax(1)
        belief = classes - classes[:, -1:] if log_odds else prob
        cost = -0.5 * belief[:, sample.labels]
        terms, found = mask_influencer_loss(masks.float(), sample.targets, class_cost=cost.float())
        if sample.targets.any():
            attraction.append(terms.attraction.item())
            repulsion.append(terms.repulsion.item())
        background.append(terms.background.item())
        objectness.append((1 - prob[:, -1]).mean().item())
        owned += int((found.own >= 0).sum())
        present += int(sample.targets.any(1).sum())
        for target in sample.targets.double():
            covering = 0
            for query in range(len(masks)):
                p = masks[query].sigmoid()
                both = float((p * target).sum())
                iou = both / float(p.sum() + target.sum() - both) if target.any() else 0.0
                covering += iou > 0.5 and int(classes[query].argmax()) < CLASSES
            covered, repeated = covered + covering, repeated + max(covering - 1, 0)
    mean = lambda values: sum(values) / len(values) if values else 0.0  # noqa: E731
    return {
        "attraction": mean(attraction), "repulsion": mean(repulsion), "background": mean(background),
        "own_query_share": owned / max(present, 1), "objectness": mean(objectness),
        "duplicate_rate": repeated / max(covered, 1),
    }  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"class_cost": "log_odds"}], ids=str)
@pytest.mark.parametrize("confident", [False, True])
@pytest.mark.parametrize("instances", [(4, 3), (9, 2), (3, 0)])
def test_figures_of_the_last_layer(options, confident, instances):
    """Samples of different sizes; nine instances of five queries leave four without one; an instance is empty."""
    sizes = ((5, 40), (7, 23))
    samples = [
        sample_of(n, queries, points, count, confident=confident and count > 0)
        for n, ((queries, points), count) in enumerate(zip(sizes, instances))
    ]
    samples[0].targets[1] = False
    found = InfluencerSetLoss(num_classes=CLASSES, impl="plain", **options)(samples)
    expected = figures_by_loops(samples, log_odds=bool(options))
    assert set(found) == {"loss", *expected}
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value, rel=1e-4, abs=1e-6), name
        assert not found[name].requires_grad
    if confident and instances == (4, 3):
        assert expected["duplicate_rate"] > 0


def test_log_odds_are_against_no_object():
    """Query 0 is surer of the class than query 1, but even surer that there is nothing: query 1 owns the instance."""
    masks, targets = torch.tensor([[4.0, -4.0], [4.0, -4.0]]), torch.tensor([[True, False]])
    scores = torch.tensor([[0.5], [0.5]], requires_grad=True)
    sample = Sample([masks], targets, torch.tensor([0]), [torch.tensor([[5.0, 6.0], [3.0, -3.0]])], [scores])
    loss = InfluencerSetLoss(num_classes=1, class_cost="log_odds", impl="plain")([sample])["loss"]
    assert torch.autograd.grad(loss, scores)[0].flatten().ne(0).tolist() == [False, True]


def test_classification_by_hand():
    """One own query of class 1, one query with no object: weights 1 and 0.25, layers added, samples averaged."""
    masks, targets = torch.tensor([[9.0, -9.0], [-9.0, -9.0]]), torch.tensor([[True, False]])
    classes = torch.tensor([[0.2, 1.0, -0.5], [0.3, 0.0, 0.9]])
    sample = Sample([masks] * 2, targets, torch.tensor([1]), [classes, classes])
    options = dict(attr_weight=0, rep_weight=0, bg_weight=0, non_object_weight=0.25, loss_weight=[2.0, 1, 1, 1])
    loss = InfluencerSetLoss(num_classes=2, impl="plain", **options)([sample, sample])["loss"]
    log = classes.log_softmax(1)
    assert loss.item() == pytest.approx(2 * 2.0 * (-log[0, 1] - 0.25 * log[1, 2]).item() / 1.25, rel=1e-6)


def test_no_weight_for_no_object_and_no_instance_is_no_loss():
    sample = sample_of(0, 3, 8, 0)
    options = dict(bg_weight=0, non_object_weight=0.0)
    assert InfluencerSetLoss(num_classes=CLASSES, impl="plain", **options)([sample])["loss"].item() == 0


def test_samples_are_padded_to_the_largest_by_hand():
    samples = [sample_of(0, 2, 5, 3), sample_of(1, 4, 6, 1)]
    samples[0].targets[2] = False
    samples[0] = samples[0]._replace(query_masks=torch.tensor([[True, False], [True, True], [True, True]]))
    batch = line_up(samples, CLASSES)
    assert batch.classes.shape == (4, 4, CLASSES + 1) and batch.bce.shape == (4, 4, 3)
    assert batch.queries.tolist() == [[True, True, False, False], [True] * 4] * 2  # entry = layer x 2 + sample
    assert batch.present.tolist() == [[True, True, False], [True, False, False]] * 2
    none = [False] * 3
    assert batch.allowed[2].tolist() == [[True, True, False], [False, True, False], none, none]
    assert batch.allowed[3].tolist() == [[True, False, False]] * 4
    assert batch.labels.tolist() == [samples[0].labels.tolist(), [int(samples[1].labels[0]), 0, 0]] * 2
    for layer in range(2):
        assert torch.equal(batch.classes[2 * layer + 1], samples[1].classes[layer])
        assert torch.equal(batch.scores[2 * layer, :2], samples[0].scores[layer][:, 0])
        assert not batch.scores[2 * layer, 2:].any() and not batch.bce[2 * layer, 2:].any()
        outside = ~samples[1].targets.any(0)
        expected = samples[1].masks[layer].sigmoid()[:, outside].sum(1)
        torch.testing.assert_close(batch.outside[2 * layer + 1], expected)
        assert batch.outside_size.tolist()[2 * layer : 2 * layer + 2] == [
            int((~samples[0].targets.any(0)).sum()),
            int(outside.sum()),
        ]
    assert line_up([sample_of(0, 2, 5, 0, scores=())], CLASSES).scores is None
    assert line_up([sample_of(0, 2, 5, 0)], CLASSES).bce.shape == (2, 2, 1)  # never without a column


def test_a_label_out_of_range_is_named_before_it_is_used():
    samples = [sample_of(0, 2, 5, 3), sample_of(1, 4, 6, 2)]
    samples[1].labels[1] = -2
    with pytest.raises(ValueError, match=r"sample 1: labels: instance 1 has label -2, expected 0\.\.3"):
        line_up(samples, CLASSES)
    with pytest.raises(ValueError, match="sample 0: labels: instance 1 has label -2"):
        line_up([samples[1]] * 2, CLASSES, groups=2)


def test_splitting_keeps_rows_in_order():
    allowed = torch.arange(18).reshape(3, 6) % 2 == 0
    sample = sample_of(3, 6, 10, 3, query_masks=allowed)
    assert sample.split(1)[0] is sample
    parts = sample.split(3)
    assert len(parts) == 3
    for group, part in enumerate(parts):
        rows = slice(2 * group, 2 * group + 2)
        for whole, cut in ((sample.masks, part.masks), (sample.classes, part.classes), (sample.scores, part.scores)):
            assert len(cut) == 2 and all(torch.equal(a[rows], b) for a, b in zip(whole, cut))
        assert torch.equal(part.query_masks, allowed[:, rows]) and part.query_masks.is_contiguous()
        assert part.targets is sample.targets and part.labels is sample.labels
    assert sample._replace(query_masks=None).split(2)[1].query_masks is None


def test_contiguous_changes_no_value():
    sample = sample_of(3, 6, 10, 3, query_masks=torch.ones(6, 3).bool().t())
    odd = sample._replace(
        masks=[x.t().contiguous().t() for x in sample.masks],
        targets=sample.targets.t().contiguous().t(),
        classes=[x.t().contiguous().t() for x in sample.classes],
    )
    made = odd.contiguous()
    assert made.query_masks.is_contiguous() and made.targets.is_contiguous()
    for a, b in zip((*odd.masks, *odd.classes, *odd.scores), (*made.masks, *made.classes, *made.scores)):
        assert torch.equal(a, b) and b.is_contiguous()
    assert torch.equal(odd.targets, made.targets) and sample._replace(query_masks=None).contiguous().query_masks is None


def overlapping(rows, point):
    targets = torch.zeros(3, 9, dtype=torch.bool)
    targets[:, :3] = torch.eye(3).bool()
    targets[rows, point] = True
    return targets


@pytest.mark.parametrize(
    ("parts", "groups", "message"),
    [
        ({"masks": []}, 1, "sample 0: masks must hold one tensor for each layer, 1 of them as in sample 0, got 0"),
        (
            {"targets": overlapping([1, 2], 7)},
            1,
            r"sample 0: point 7 is in the instances \[1, 2\] of targets; a point may belong to one",
        ),
        ({"targets": [[True]]}, 1, "sample 0: targets must be a bool tensor .* got builtins.list; convert with masks"),
        ({"targets": torch.ones(9).bool()}, 1, r"sample 0: targets must be a bool tensor .* got torch.bool \(9,\)"),
        ({"labels": torch.zeros(3, dtype=torch.int32)}, 1, r"labels must be an int64 .* got torch.int32 \(3,\)"),
        ({"labels": torch.zeros(3, 1).long()}, 1, r"labels must be an int64 .* 3 rows of targets, got torch.int64 \(3"),
        ({"query_masks": [1]}, 1, "query_masks must be a bool tensor, got builtins.list"),
        ({}, 4, "sample 0: 6 queries do not divide into 4 groups of at least one"),
        ({"classes": [torch.zeros(6, 5), [1]]}, 1, r"sample 0: classes\[1\] must be a floating-point tensor, got bui"),
        ({"scores": [torch.zeros(6, 1), torch.zeros(6, 2)]}, 1, r"scores\[1\] must have shape \(6, 1\), got \(6, 2\)"),
    ],
)
def test_one_wrong_part(parts, groups, message):
    with pytest.raises(ValueError, match=message):
        check_samples([sample_of(0, 6, 9, 3, **parts)], CLASSES, groups)


def test_no_query_is_no_sample():
    sample = Sample([torch.zeros(0, 4)], torch.zeros(1, 4).bool(), torch.zeros(1).long(), [torch.zeros(0, 5)])
    with pytest.raises(ValueError, match="sample 0: 0 queries do not divide into 1 groups of at least one"):
        check_samples([sample], CLASSES)


def test_what_is_right_passes():
    several = [sample_of(0, 6, 9, 3), sample_of(1, 8, 5, 0), sample_of(2, 2, 7, 2)]
    check_samples(several, CLASSES)
    check_samples(several, CLASSES, groups=2)
    check_samples([sample_of(0, 6, 9, 3, scores=())], CLASSES)
    check_samples([sample_of(0, 6, 0, 3)], CLASSES)  # a scene without points
    with pytest.raises(ValueError, match="sample 1: scores must hold one tensor for each of 2 layers, got 0"):
        check_samples([several[0], several[1]._replace(scores=())], CLASSES)
    for layers in (1, 3):  # fewer than the first sample has, and more
        other = sample_of(1, 8, 5, 2, layers=layers)
        message = f"sample 1: masks must hold one tensor for each layer, 2 of them as in sample 0, got {layers}"
        with pytest.raises(ValueError, match=message):
            check_samples([several[0], other], CLASSES)


def test_skipping_needs_one_layer_only(caplog):
    broken = sample_of(0, 3, 8, 2, layers=1)
    broken.masks[0][1, 2] = float("inf")
    loss = InfluencerSetLoss(num_classes=CLASSES, nonfinite="skip", impl="plain")
    with caplog.at_level(logging.WARNING):
        assert loss([broken])["loss"].item() == 0
    assert "InfluencerSetLoss: samples [0] of 1 have outputs that are not finite; skipped" in caplog.text
    assert caplog.records[-1].levelno == logging.WARNING


def test_a_row_of_broken_steps_by_the_count():
    """Twenty may be left out, the next one raises; a good step begins the count anew."""
    said = []
    sieve = Sieve("Owner", lambda message, level: said.append(level))
    good, broken = sample_of(0, 3, 8, 2), sample_of(1, 3, 8, 2)
    broken.scores[1][0] = float("nan")
    assert nonfinite.IN_A_ROW == 20
    for _ in range(20):
        kept, nothing = sieve.split([good, broken])
        assert len(kept) == 1 and kept[0] is good and nothing.item() == 0 and nothing.dtype == torch.float32
    kept, nothing = sieve.split([good, good])
    assert len(kept) == 2 and nothing is None and sieve.row == 0 and said == [logging.WARNING] * 20
    for _ in range(20):
        sieve.split([broken, good])
    with pytest.raises(FloatingPointError, match=r"Owner: samples \[0\] of 2 .* in the 20 steps before: the run has"):
        sieve.split([broken, good])


def test_words_of_plain_samples():
    assert PLAIN.layer(2, 3) == "the last layer" and PLAIN.layer(0, 3) == "layer 0" and PLAIN.layer(0, 1) == PLAIN.last
    with pytest.raises(FloatingPointError, match="layer 1, sample 2, group 1: scores holds values"):
        raise PLAIN.finite_error(1, 3, 7, 2, groups=3)
    with pytest.raises(FloatingPointError, match="the last layer, sample 7: masks holds"):
        raise PLAIN.finite_error(2, 3, 7, 0)
    with pytest.raises(ValueError, match=r"sample 4: labels: instance 3 has label 9, expected 0\.\.4 \(num_classes=5"):
        raise PLAIN.label_error(4, 3, 9, 5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_classes": True}, "num_classes must be a positive integer, got True"),
        ({"num_classes": 1, "loss_weight": 3}, "loss_weight must hold 4 numbers .* got 3"),
        ({"num_classes": 1, "loss_weight": [1, 2, 3, True]}, "loss_weight must be a finite number >= 0, got True"),
        ({"num_classes": 1, "attr_weight": float("inf")}, "attr_weight must be a finite number >= 0, got inf"),
        ({"num_classes": 1, "rep_weight": None}, "rep_weight must be a finite number >= 0, got None"),
        ({"num_classes": 1, "impl": "fast"}, "impl"),
        ({"num_classes": 1, "zzz": 1}, r"unknown option 'zzz'\. Known options: recipe, num_classes, loss_weight"),
    ],
)
def test_options_that_are_refused(given, message):
    with pytest.raises(ValueError, match=f"InfluencerSetLoss: {message}"):
        SetLossOptions.from_kwargs(**given)


def test_options_at_their_limits_and_frozen():
    edge = dict(rep_margin=1, soft_share=1, temperature=1e-9, non_object_weight=0, num_classes=1)
    options = SetLossOptions.from_kwargs(**edge)
    assert (options.rep_margin, options.soft_share, options.class_price) == (1.0, 1.0, options.loss_weight[0])
    for name in ("rep_margin", "soft_share", "non_object_weight"):
        assert type(getattr(options, name)) is float
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.impl = "plain"
    other = options.changed("class_cost_weight", 3)
    assert other.class_price == 3.0 and other.rep_margin == 1.0 and options.class_cost_weight is None
    assert set(RECIPES) == {"nms_free"}


def test_defaults_are_those_of_the_docs():
    """What the README's table and the shipped configs rely on, typed from the docstring of the loss."""
    loss = SetLossOptions(num_classes=2)
    assert (loss.loss_weight, loss.non_object_weight, loss.score_others) == ((0.5, 1.0, 1.0, 0.5), 0.1, 0.0)
    assert (loss.iter_matcher, loss.impl, loss.nonfinite, loss.form) == (True, "auto", "raise", "influence")
