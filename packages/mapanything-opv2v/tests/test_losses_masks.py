from __future__ import annotations

import numpy as np
import torch
from mapanything_opv2v.losses import balanced_pos_weight, known_pixels, mask_loss, mask_shares


def test_shares_by_hand():
    logits = [torch.zeros(1, 1, 2), torch.full((1, 1, 2), np.log(3.0))]  # probabilities 1/2, 1/2, 3/4, 3/4
    masks = [torch.tensor([[[True, False]]]), torch.tensor([[[True, True]]])]
    valid = [torch.tensor([[[True, False]]]), torch.tensor([[[False, True]]])]
    shares = mask_shares(logits, masks, valid)  # the third pixel is unknown
    assert abs(shares.predicted - (0.5 + 0.5 + 0.75) / 3) < 1e-6 and abs(shares.true - 2 / 3) < 1e-6
    assert shares.valid == 0.5 and shares.known == 0.75


def test_known_is_a_depth_or_no_surface():
    mask, valid = torch.tensor([True, True, False]), torch.tensor([True, False, False])
    assert known_pixels(mask, valid).tolist() == [True, False, True]


def test_unknown_pixels_have_no_loss_and_no_gradient():
    logits = torch.tensor([[[0.0, 50.0, -50.0, 0.0]]], requires_grad=True)
    mask = torch.tensor([[[True, True, True, False]]])
    known = torch.tensor([[[True, False, False, True]]])
    loss = mask_loss(logits, mask, known, torch.tensor(3.0))
    loss.backward()
    assert abs(loss.item() - np.log(2) * (3 + 1) / 2) < 1e-6
    assert logits.grad[0, 0, 1:3].tolist() == [0, 0] and (logits.grad[0, 0, [0, 3]] != 0).all()
    nothing = mask_loss(logits, mask, torch.zeros_like(known), torch.tensor(3.0))
    assert nothing.item() == 0 and nothing.requires_grad
    assert balanced_pos_weight([mask], [known]) == 1.0 and balanced_pos_weight([mask]) == 1 / 3


def test_balance_by_hand():
    masks = [torch.tensor([[[True, False, False]]]), torch.tensor([[[False, True, False]]])]
    assert balanced_pos_weight(masks) == 2.0  # 4 false, 2 true


def test_a_missing_class_leaves_the_weight_at_one():
    assert balanced_pos_weight([torch.zeros(1, 2, 2, dtype=torch.bool)]) == 1
    assert balanced_pos_weight([torch.ones(1, 2, 2, dtype=torch.bool)]) == 1


def test_both_classes_weigh_the_same():
    masks = torch.rand(2, 9, 7, generator=torch.Generator().manual_seed(3)) < 0.2
    weight = balanced_pos_weight([masks[:1], masks[1:]])
    assert torch.isclose(weight * masks.sum(), (~masks).sum().float())
