from __future__ import annotations

import numpy as np
import torch
from mapanything_opv2v.losses import balanced_pos_weight, mask_shares


def test_shares_by_hand():
    logits = [torch.zeros(1, 1, 2), torch.full((1, 1, 2), np.log(3.0))]  # probabilities 1/2, 1/2, 3/4, 3/4
    masks = [torch.tensor([[[True, False]]]), torch.tensor([[[True, True]]])]
    valid = [torch.tensor([[[True, False]]]), torch.tensor([[[False, False]]])]
    shares = mask_shares(logits, masks, valid)
    assert abs(shares.predicted - 0.625) < 1e-6 and shares.true == 0.75 and shares.valid == 0.25


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
