import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from influencer_mmdet3d import InfluencerCriterion, mask_influencer_loss
from scenes import leaves, make_batch


def literal(pred, insts, o):
    """The documented total, layer by layer and sample by sample, from the public functions."""
    layers = [*pred["aux_outputs"], pred]
    weight = torch.ones(o.num_classes + 1)
    weight[-1] = o.non_object_weight
    filled = [i for i, inst in enumerate(insts) if inst.sp_masks.any()]
    total = 0.0
    for layer in layers:
        source = layer if o.iter_matcher else layers[-1]
        for i, inst in enumerate(insts):
            classes, masks = layer["cls_preds"][i].float(), layer["masks"][i].float()
            present = inst.sp_masks.any(1)
            targets, labels = inst.sp_masks[present], inst.labels_3d[present]
            assert o.iter_matcher  # the shared assignment has a test of its own
            cost = -o.class_price * source["cls_preds"][i].float().softmax(-1)[:, labels]
            terms, found = mask_influencer_loss(
                masks, targets, temperature=o.temperature, soft_share=o.soft_share, rep_margin=o.rep_margin,
                bce_weight=o.loss_weight[1], dice_weight=o.loss_weight[2], class_cost=cost,
            )  # fmt: skip
            label = torch.full((len(classes),), o.num_classes)
            errors = []
            for k, q in enumerate(found.own[0].tolist()):
                if q < 0:
                    continue
                label[q] = labels[k]
                p, t = masks[q].sigmoid(), targets[k].float()
                iou = ((p * t).sum() / (p + t - p * t).sum()).detach()
                if layer["scores"][i] is not None:
                    errors.append((layer["scores"][i].float()[q, 0] - iou).square())
            if layer["scores"][i] is not None and (label == o.num_classes).any():
                others = layer["scores"][i].float()[label == o.num_classes].square().mean()
                total = total + o.loss_weight[3] * o.score_others * others / len(insts)
            total = total + o.loss_weight[0] * F.cross_entropy(classes, label, weight) / len(insts)
            total = total + o.bg_weight * terms.background / len(insts)
            if i in filled:
                total = total + (o.attr_weight * terms.attraction + o.rep_weight * terms.repulsion) / len(filled)
                if errors:
                    total = total + o.loss_weight[3] * torch.stack(errors).mean() / len(filled)
    return total


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"loss_weight": [0.3, 2.0, 0.7, 1.5], "attr_weight": 2.0, "rep_weight": 3.0, "bg_weight": 5.0},
        {"temperature": 0.5, "soft_share": 0.9, "rep_margin": 0.95, "non_object_weight": 1.0},
        {"class_cost_weight": 2.0, "score_others": 3.0},
    ],
)
@pytest.mark.parametrize("instances", [(4, 3), (5, 0), (15, 2)])
def test_matches_the_public_functions(options, instances):
    criterion = InfluencerCriterion(num_classes=13, **options)
    pred, insts = make_batch(instances=instances)
    if instances[1]:
        insts[1].sp_masks[0] = False  # an empty row
    ours = criterion(pred, insts)["inst_loss"]
    theirs = literal(pred, insts, criterion.options)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    names, tensors = zip(*leaves(pred).items())
    for name, a, b in zip(
        names, torch.autograd.grad(ours, tensors), torch.autograd.grad(theirs, tensors, allow_unused=True)
    ):
        expected = torch.zeros_like(a) if b is None else b
        torch.testing.assert_close(a, expected, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_shared_assignment_is_the_last_layers():
    """With equal layers nothing changes; with different ones, the last layer's targets are used everywhere."""
    shared, each = (InfluencerCriterion(num_classes=13, iter_matcher=flag) for flag in (False, True))
    pred, insts = make_batch()
    equal = {**pred, "aux_outputs": [{k: v for k, v in pred.items() if k != "aux_outputs"}] * 2}
    torch.testing.assert_close(shared(equal, insts)["inst_loss"], each(equal, insts)["inst_loss"])
    assert shared(pred, insts)["inst_loss"] != each(pred, insts)["inst_loss"]
    gradient = torch.autograd.grad(shared(pred, insts)["inst_loss"], pred["aux_outputs"][0]["cls_preds"][0])[0]
    last = torch.autograd.grad(each(pred, insts)["inst_loss"], pred["cls_preds"][0])[0]
    # the sign of the class gradient shows the target: negative at the target's column
    assert torch.equal(gradient.argmin(1), last.argmin(1))


def test_query_masks_choose_the_queries():
    pred, insts = make_batch(layers=1, queries=(6,), points=(40,), instances=(3,), query_masks=True)
    insts[0].query_masks[:] = False
    insts[0].query_masks[0, 4] = True  # instance 0 by query 4 only, the others by none
    out = InfluencerCriterion(num_classes=13, loss_weight=[1.0, 0.0, 0.0, 0.0], bg_weight=0)(pred, insts)
    weight = torch.ones(14)
    weight[-1] = 0.1
    label = torch.full((6,), 13)
    label[4] = insts[0].labels_3d[0]
    torch.testing.assert_close(out["inst_loss"], F.cross_entropy(pred["cls_preds"][0], label, weight))
    assert out["inst_own_query_share"].item() == pytest.approx(1 / 3)


def test_no_query_inside_any_instance():
    pred, insts = make_batch(query_masks=True)
    for inst in insts:
        inst.query_masks[:] = False
    loss = InfluencerCriterion(num_classes=13)(pred, insts)["inst_loss"]
    loss.backward()
    assert loss.isfinite() and all(value.grad.isfinite().all() for value in leaves(pred).values())


@pytest.mark.parametrize("instances", [(4, 3), (0, 3), (0, 0)])
@pytest.mark.parametrize("scores", [True, False])
def test_every_output_gets_a_gradient(instances, scores):
    """What DDP with find_unused_parameters=False needs, even in a step without instances."""
    pred, insts = make_batch(instances=instances, scores=scores)
    InfluencerCriterion(num_classes=13)(pred, insts)["inst_loss"].backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in leaves(pred).values())


@pytest.mark.parametrize("dtype, tolerance", [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_half_precision(dtype, tolerance):
    pred, insts = make_batch(dtype=dtype)
    wide, _ = make_batch()
    for half, full in zip(leaves(pred).values(), leaves(wide).values()):
        full.data.copy_(half.data)
    criterion = InfluencerCriterion(num_classes=13)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = criterion(pred, insts)["inst_loss"]
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, criterion(wide, insts)["inst_loss"])
    loss.backward()
    criterion(wide, insts)["inst_loss"].backward()
    for half, full in zip(leaves(pred).values(), leaves(wide).values()):
        torch.testing.assert_close(half.grad.float(), full.grad, rtol=tolerance, atol=tolerance)


def test_input_is_not_changed():
    pred, insts = make_batch(query_masks=True)
    before, targets = copy.deepcopy(pred), copy.deepcopy(insts)
    InfluencerCriterion(num_classes=13)(pred, insts)["inst_loss"].backward()
    assert all(torch.equal(a, b) for a, b in zip(leaves(pred).values(), leaves(before).values()))
    assert all(
        torch.equal(a.sp_masks, b.sp_masks) and torch.equal(a.labels_3d, b.labels_3d) for a, b in zip(insts, targets)
    )


def test_what_mmengine_adds_up_and_what_it_logs():
    pred, insts = make_batch()
    out = InfluencerCriterion(num_classes=13)(pred, insts)
    assert [key for key in out if "loss" in key] == ["inst_loss"]
    assert set(out) == {"inst_loss", "inst_attraction", "inst_repulsion", "inst_background", "inst_own_query_share",
                        "inst_duplicate_rate", "inst_objectness"}  # fmt: skip
    assert all(value.ndim == 0 for value in out.values())
    assert all(not value.requires_grad for key, value in out.items() if key != "inst_loss")


def test_duplicate_rate_hand_computed():
    masks = torch.tensor([[True] * 4 + [False] * 4, [False] * 4 + [True] * 4])
    good = torch.where(masks, 9.0, -9.0)
    pred, insts = make_batch(layers=1, queries=(3,), points=(8,), instances=(2,), classes=2)
    insts[0].sp_masks = masks
    insts[0].labels_3d = torch.tensor([0, 1])
    pred["masks"] = [good[[0, 0, 1]]]
    pred["cls_preds"] = [torch.tensor([[5.0, 0.0, 0.0], [5.0, 0.0, 0.0], [0.0, 5.0, 0.0]])]
    assert InfluencerCriterion(num_classes=2)(pred, insts)["inst_duplicate_rate"].item() == pytest.approx(1 / 3)


def test_options_act():
    """Every scalar option changes the loss."""
    pred, insts = make_batch()
    base = InfluencerCriterion(num_classes=13)
    value = base(pred, insts)["inst_loss"].item()
    changes = {"non_object_weight": 0.5, "attr_weight": 2.0, "rep_weight": 2.0, "bg_weight": 2.0, "rep_margin": 0.5}
    changes.update(temperature=0.5, soft_share=0.9, iter_matcher=False)
    changes.update(class_cost_weight=5.0, score_others=1.0)
    for name, new in changes.items():
        base.set_option(name, new)
        assert base(pred, insts)["inst_loss"].item() != pytest.approx(value, rel=1e-6), name
        base = InfluencerCriterion(num_classes=13)


def two_queries(**changes):
    """Two queries with the same mask on one of two points; the first says class 1, the second the instance's 0."""
    logits = torch.tensor([[4.0, -4.0], [4.0, -4.0]])
    pred = dict(masks=[logits], cls_preds=[torch.tensor([[0.0, 3.0, 0.0], [3.0, 0.0, 0.0]])], aux_outputs=[])
    pred["scores"] = [torch.tensor([[0.5], [0.4]], requires_grad=True)]
    insts = [SimpleNamespace(sp_masks=torch.tensor([[True, False]]), labels_3d=torch.tensor([0]))]
    loss = InfluencerCriterion(num_classes=2, loss_weight=[0.5, 1.0, 1.0, 0.5], **changes)(pred, insts)["inst_loss"]
    return loss, torch.autograd.grad(loss, pred["scores"][0])[0].flatten()


def test_scores_of_other_queries_hand_computed():
    """The first query owns nothing: 0.5 x 2 x 0.5^2, with slope 0.5 x 2 x 2 x 0.5."""
    (loss, slopes), (more, more_slopes) = two_queries(), two_queries(score_others=2.0)
    assert (more - loss).item() == pytest.approx(0.25)
    assert slopes[0] == 0 and more_slopes[0].item() == pytest.approx(1.0) and more_slopes[1] == slopes[1] != 0


def test_class_cost_weight_hand_computed():
    """Masks are the same: the cost's class decides, and without it the first query is the instance's own."""
    assert two_queries(class_cost_weight=0.5)[0] == two_queries()[0]
    assert two_queries(class_cost_weight=0.0)[1][1] == 0 and two_queries(class_cost_weight=0.0)[1][0] != 0


def test_log_odds_hand_computed():
    """Both queries are sure of the class to 1e-4: by probability the better mask decides, by odds 12 against 10."""
    logits = torch.tensor([[2.0, -4.0], [4.0, -4.0]])
    pred = dict(masks=[logits], cls_preds=[torch.tensor([[12.0, 0.0], [10.0, 0.0]])], aux_outputs=[])
    pred["scores"] = [torch.tensor([[0.5], [0.4]], requires_grad=True)]
    insts = [SimpleNamespace(sp_masks=torch.tensor([[True, False]]), labels_3d=torch.tensor([0]))]
    trained = {}
    for class_cost in ("probability", "log_odds"):
        loss = InfluencerCriterion(num_classes=1, class_cost=class_cost)(pred, insts)["inst_loss"]
        trained[class_cost] = torch.autograd.grad(loss, pred["scores"][0])[0].flatten().ne(0).tolist()
    assert trained == {"probability": [False, True], "log_odds": [True, False]}


def test_set_option_checks():
    with pytest.raises(ValueError, match="unknown option 'bgweight'"):
        InfluencerCriterion(num_classes=13).set_option("bgweight", 1.0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("key", ["masks", "cls_preds", "scores"])
def test_not_finite_names_layer_and_sample(bad, key):
    pred, insts = make_batch()
    pred["aux_outputs"][1][key][0].data[2, 0] = bad
    with pytest.raises(
        FloatingPointError, match=rf"aux_outputs\[1\], sample 0: {key} holds values that are not finite"
    ):
        InfluencerCriterion(num_classes=13)(pred, insts)


def test_label_out_of_range():
    pred, insts = make_batch()
    insts[0].labels_3d[1] = -1
    with pytest.raises(ValueError, match=r"insts\[0\].labels_3d: instance 1 has label -1, expected 0..12"):
        InfluencerCriterion(num_classes=13)(pred, insts)


def test_empty_batch():
    with pytest.raises(ValueError, match="the batch is empty"):
        InfluencerCriterion(num_classes=13)({"cls_preds": [], "masks": [], "scores": []}, [])


def test_large_scene_in_half_precision():
    """120,000 points overflow fp16 sums, which the host's matching cost makes."""
    pred, insts = make_batch(layers=1, queries=(4,), points=(120_000,), instances=(2,), dtype=torch.float16)
    loss = InfluencerCriterion(num_classes=13)(pred, insts)["inst_loss"]
    loss.backward()
    assert loss.isfinite() and pred["masks"][0].grad.isfinite().all()


def test_mask_terms_are_means_over_samples_with_a_query_inside_an_instance():
    """A sample none of whose queries lies in an instance has nothing to attract, and must not halve the others."""
    pred, insts = make_batch(3, layers=1, query_masks=True)
    insts[0].query_masks[:, 0] = False
    insts[0].query_masks[0, 0] = True
    insts[1].query_masks[:] = False
    alone = {key: pred[key][:1] for key in ("cls_preds", "masks", "scores")}

    def attraction(pred, insts):
        with_, without = (
            InfluencerCriterion(num_classes=13, impl="plain", attr_weight=weight)(pred, insts)["inst_loss"].item()
            for weight in (1.0, 0.0)
        )
        return with_ - without

    assert attraction(pred, insts) == pytest.approx(attraction(alone, insts[:1]), rel=1e-4)
