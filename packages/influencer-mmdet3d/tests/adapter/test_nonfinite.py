"""Samples that are not finite: left out, logged, and the end of the run when they do not cease."""

import copy

import pytest
import torch
from influencer_mmdet3d import InfluencerCriterion
from influencer_mmdet3d.loss.nonfinite import IN_A_ROW
from scenes import leaves, make_batch


def spoilt(key="masks", sample=1, layer=0):
    pred, insts = make_batch(1)
    with torch.no_grad():
        pred["aux_outputs"][layer][key][sample][0, 0] = float("inf")
    return pred, insts


def alone(batch, index):
    pred, insts = batch

    def cut(layer):
        return {key: [layer[key][index]] for key in ("cls_preds", "masks", "scores")}

    return {**cut(pred), "aux_outputs": [cut(layer) for layer in pred["aux_outputs"]]}, [insts[index]]


@pytest.mark.parametrize("key", ["masks", "cls_preds", "scores"])
def test_the_others_count_as_if_they_were_alone(key):
    pred, insts = spoilt(key)
    criterion = InfluencerCriterion(num_classes=13, nonfinite="skip", impl="plain")
    loss = criterion(pred, insts)["inst_loss"]
    expected = InfluencerCriterion(num_classes=13, impl="plain")(*alone((pred, insts), 0))["inst_loss"]
    assert loss.item() == pytest.approx(expected.item())
    loss.backward()
    grads = {name: leaf.grad for name, leaf in leaves(pred).items()}
    assert all(grad is not None and bool(grad.isfinite().all()) for grad in grads.values())
    assert not grads["0.masks.1"].any() and grads["0.masks.0"].any()
    with pytest.raises(FloatingPointError, match=f"aux_outputs.0., sample 1: {key} holds"):
        InfluencerCriterion(num_classes=13, impl="plain")(pred, insts)


def test_a_batch_without_a_finite_sample_counts_nothing():
    pred, insts = spoilt(sample=0)
    pred, insts = alone((pred, insts), 0)
    loss = InfluencerCriterion(num_classes=13, nonfinite="skip")(pred, insts)["inst_loss"]
    loss.backward()
    assert loss.item() == 0 and all(not leaf.grad.any() for leaf in leaves(pred).values())


def test_too_many_in_a_row_raise_and_a_good_step_resets():
    criterion, good = InfluencerCriterion(num_classes=13, nonfinite="skip"), make_batch(1)
    for _ in range(IN_A_ROW):
        criterion(*spoilt())
    criterion(*good)
    for _ in range(IN_A_ROW):
        criterion(*spoilt())
    with pytest.raises(FloatingPointError, match=r"samples \[1\] of 2 .* the run has diverged"):
        criterion(*spoilt())
    assert copy.deepcopy(criterion).options.nonfinite == "skip"
