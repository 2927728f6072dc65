"""The loss on plain tensors: against the host's criterion, which it serves, and its own words."""

import subprocess
import sys

import pytest
import torch
from influencer_mmdet3d import InfluencerCriterion, InfluencerSetLoss, Sample
from scenes import leaves, make_batch

CLASSES = 13


def plain(pred, insts):
    layers = [*pred["aux_outputs"], pred]
    return [
        Sample(
            masks=[layer["masks"][index] for layer in layers],
            targets=inst.sp_masks,
            labels=inst.labels_3d,
            classes=[layer["cls_preds"][index] for layer in layers],
            scores=[layer["scores"][index] for layer in layers if layer["scores"][index] is not None],
            query_masks=getattr(inst, "query_masks", None),
        )
        for index, inst in enumerate(insts)
    ]


@pytest.mark.parametrize("impl", ["plain", "triton"])
@pytest.mark.parametrize("shape", [{}, {"scores": False, "query_masks": True}])
def test_it_is_the_criterion_bit_by_bit(impl, shape, device):
    if device.type != "cpu":
        pytest.skip("tests/gpu compares on a GPU")
    pred, insts = make_batch(layers=2, points=(30, 20), **shape)
    ours = InfluencerSetLoss(num_classes=CLASSES, impl=impl)(plain(pred, insts))
    theirs = InfluencerCriterion(num_classes=CLASSES, impl=impl)(pred, insts)
    assert {f"inst_{name}" for name in ours} == set(theirs)
    assert all(torch.equal(ours[name], theirs[f"inst_{name}"]) for name in ours)
    tensors = list(leaves(pred).values())
    for a, b in zip(torch.autograd.grad(ours["loss"], tensors), torch.autograd.grad(theirs["inst_loss"], tensors)):
        assert torch.equal(a, b)


def test_gradient_descent_finds_masks_classes_and_scores(generator):
    targets = torch.nn.functional.one_hot(torch.arange(60) // 20, 3).bool().T
    heads = [(0.1 * torch.randn(shape, generator=generator)).requires_grad_() for shape in ((8, 60), (8, 5), (8, 1))]
    sample = Sample([heads[0]], targets, torch.tensor([2, 0, 3]), [heads[1]], [heads[2]])
    loss, optimizer = InfluencerSetLoss(num_classes=4), torch.optim.Adam(heads, 0.1)
    for _ in range(200):
        optimizer.zero_grad()
        loss([sample])["loss"].backward()
        optimizer.step()
    label = heads[1].argmax(1)
    own = (label < 4).nonzero().flatten()
    assert sorted(label[own].tolist()) == [0, 2, 3]
    for query in own.tolist():
        instance = [2, 0, 3].index(int(label[query]))
        assert torch.equal(heads[0][query] > 0, targets[instance])
        assert heads[2][query].item() == pytest.approx(1, abs=0.05)


def test_groups_and_options():
    pred, insts = make_batch(queries=(12, 12), layers=2)
    loss = InfluencerSetLoss(num_classes=CLASSES, impl="plain")
    samples = plain(pred, insts)
    parts = [loss([sample.split(3)[group] for sample in samples])["loss"] for group in range(3)]
    torch.testing.assert_close(loss(samples, groups=3)["loss"], sum(parts) / 3)
    before = loss(samples)["loss"]
    loss.set_option("bg_weight", 5.0)
    assert loss(samples)["loss"] != before
    with pytest.raises(ValueError, match="InfluencerSetLoss: unknown option 'pilot_weight'"):
        loss.set_option("pilot_weight", 1.0)
    with pytest.raises(ValueError, match="InfluencerSetLoss: a recipe is chosen once"):
        loss.set_option("recipe", "nms_free")


def changed(**parts):
    return plain(*make_batch(query_masks=True))[1]._replace(**parts)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"targets": torch.ones(3, 45)}, r"sample 1: targets must be a bool tensor .* got torch.float32 \(3, 45\)"),
        ({"targets": torch.ones(3, 45).bool()}, r"sample 1: point 0 is in the instances \[0, 1, 2\] of targets"),
        ({"labels": torch.zeros(4).long()}, "one label for each of the 3 rows of targets, got torch.int64"),
        ({"labels": torch.zeros(3).numpy()}, "sample 1: labels must be an int64 tensor .* got numpy.ndarray"),
        ({"masks": [torch.zeros(9, 45)]}, "sample 1: masks must hold one tensor for each layer, 3 .* got 1"),
        ({"classes": [torch.zeros(9, 14)] * 2}, "sample 1: classes must hold one tensor for each of 3 layers, got 2"),
        ({"scores": []}, "sample 1: scores must hold one tensor for each of 3 layers, got 0"),
        ({"classes": [torch.zeros(9, 13)] * 3}, r"classes\[0\] must have shape \(9, 14\) \(num_classes=13 and one"),
        ({"scores": [torch.zeros(9)] * 3}, r"sample 1: scores\[0\] must have shape \(9, 1\), got \(9,\)"),
        ({"masks": [torch.zeros(9, 44)] * 3}, r"sample 1: masks\[0\] must have shape \(9, 45\), got \(9, 44\)"),
        ({"masks": [torch.zeros(9, 45).long()] * 3}, r"masks\[0\] must be a floating-point tensor, got torch.int64"),
        ({"query_masks": torch.ones(3, 9)}, r"query_masks must be a bool tensor, got torch.float32 \(3, 9\)"),
        ({"query_masks": torch.ones(9, 3).bool()}, r"query_masks must have shape \(3, 9\), got \(9, 3\)"),
        ({"labels": torch.tensor([0, 1, 13])}, r"sample 1: labels: instance 2 has label 13, expected 0\.\.12"),
    ],
)
def test_wrong_samples_say_what_and_where(parts, message):
    with pytest.raises(ValueError, match=message):
        InfluencerSetLoss(num_classes=CLASSES)([plain(*make_batch(query_masks=True))[0], changed(**parts)])


def test_the_batch_and_its_groups():
    with pytest.raises(ValueError, match="InfluencerSetLoss: the batch is empty"):
        InfluencerSetLoss(num_classes=CLASSES)([])
    with pytest.raises(ValueError, match="sample 1: 9 queries do not divide into 2 groups"):
        InfluencerSetLoss(num_classes=CLASSES)(plain(*make_batch()), groups=2)


def test_values_that_are_not_finite():
    samples = plain(*make_batch())
    samples[1].classes[1].data[0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="layer 1, sample 1: classes holds values that are not finite"):
        InfluencerSetLoss(num_classes=CLASSES)(samples)
    skipping = InfluencerSetLoss(num_classes=CLASSES, nonfinite="skip", impl="plain")
    alone = InfluencerSetLoss(num_classes=CLASSES, impl="plain")(samples[:1])["loss"]
    torch.testing.assert_close(skipping(samples)["loss"], alone)


def test_it_works_where_there_is_no_mmengine():
    code = (
        "import sys; sys.modules['mmengine'] = None\n"
        "import torch\n"
        "from influencer_mmdet3d import InfluencerSetLoss, Sample\n"
        "masks = torch.randn(4, 9, requires_grad=True)\n"
        "sample = Sample([masks], torch.ones(1, 9).bool(), torch.tensor([0]), [torch.randn(4, 3)])\n"
        "InfluencerSetLoss(num_classes=2)([sample])['loss'].backward()\n"
        "assert masks.grad.isfinite().all()\n"
        "try:\n"
        "    from influencer_mmdet3d import InfluencerCriterion\n"
        "except ImportError as error:\n"
        "    assert 'influencer_mmdet3d.InfluencerCriterion needs mmengine' in str(error), error\n"
        "else:\n"
        "    raise SystemExit('no error')\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
