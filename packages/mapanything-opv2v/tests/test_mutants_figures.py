"""Small faults of figures and losses that a mutation run found unseen: each test names values by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mapanything_opv2v.evaluation import metrics, results
from mapanything_opv2v.evaluation.options import CloudOptions
from mapanything_opv2v.losses import agreement, masks, metric_depth, rays, scale


def test_unknown_and_sky_have_no_range_to_compare():
    figures = metrics.range_figures(np.array([5.0, 9, 9]), np.array([4.0, 0, -1]))
    assert figures["depth_pixels"] == 1 and figures["depth_rmse_m"] == pytest.approx(1)
    assert figures["depth_within_25pct"] == 0  # 1.25 itself is not within


def test_within_25_percent_counts_both_ways():
    figures = metrics.range_figures(np.array([5.1, 2.0, 4.0, 4.9]), np.full(4, 4.0))
    assert figures["depth_within_25pct"] == pytest.approx(0.5)


def test_masks_of_no_pixel_and_of_one():
    none = metrics.mask_figures(np.zeros(0, bool), np.zeros(0, bool))
    assert none["mask_pred_share"] is None and none["mask_iou"] is None and none["mask_true_share"] is None
    one = metrics.mask_figures(np.ones(1, bool), np.ones(1, bool))
    assert one["mask_iou"] == one["mask_true_share"] == one["mask_accuracy"] == 1


def test_defaults_and_limits_of_clouds():
    options = CloudOptions()
    assert (options.voxel_m, options.cell_m, options.extent_m, options.max_range_m) == (0.2, 0.4, 70.0, 70.0)
    assert CloudOptions(cell_m=70.0).cell_m == 70
    with pytest.raises(ValueError, match=r"max_range_m=inf: expected a positive number of metres"):
        CloudOptions(max_range_m=math.inf)


@pytest.mark.parametrize(("count", "warns"), [(6, True), (5, False)])
def test_most_frames_are_more_than_half(count, warns):
    said = results.scale_warning({"frames": 10, "scale_applied": {"twice": count}})
    assert (said is not None) is warns


def test_a_pixel_with_a_range_is_known_whatever_its_mask():
    mask, valid = torch.tensor([True, True, False, False]), torch.tensor([True, False, True, False])
    assert masks.known_pixels(mask, valid).tolist() == [True, False, True, True]


def test_shares_of_one_known_pixel_and_of_none():
    logits = [torch.tensor([[[math.log(3.0), 0.0]]])]
    mask, valid = [torch.ones(1, 1, 2, dtype=torch.bool)], [torch.tensor([[[True, False]]])]
    shares = masks.mask_shares(logits, mask, valid)
    assert (shares.predicted, shares.true, shares.valid, shares.known) == pytest.approx((0.75, 1, 0.5, 0.5))
    nothing = masks.mask_shares(logits, mask, [torch.zeros(1, 1, 2, dtype=torch.bool)])
    assert (nothing.predicted, nothing.true, nothing.known) == (0, 0, 0)


def test_the_loss_of_one_known_pixel_is_its_own():
    logits, known = torch.tensor([0.0, 5.0]), torch.tensor([True, False])
    found = masks.mask_loss(logits, torch.tensor([True, True]), known, torch.tensor(1.0))
    assert found.item() == pytest.approx(math.log(2))


def test_one_true_pixel_is_enough_to_balance():
    assert masks.balanced_pos_weight([torch.tensor([True, False, False, False])]).item() == 3


def test_negative_predictions_count_as_zero():
    gap = metric_depth.log_depth_gap(torch.tensor([-0.5, -3.0]), torch.tensor([3.0, 3.0]))
    assert gap.tolist() == pytest.approx([math.log(4)] * 2)


def test_the_size_of_a_scene_of_one_point_and_of_none():
    points = torch.tensor([[[[3.0, 0, 4.0], [1, 1, 1]]]], requires_grad=True)
    size, known = scale.scene_size([points], [torch.tensor([[[True, False]]])])
    assert size.item() == pytest.approx(5) and known.tolist() == [True]
    size, known = scale.scene_size([points], [torch.zeros(1, 1, 2, dtype=torch.bool)])
    assert size.item() == 1 and known.tolist() == [False]
    (gradient,) = torch.autograd.grad(size.sum(), points)
    assert torch.isfinite(gradient).all()


def test_closed_panoramas_in_large_batches_of_few_rows():
    azimuth = torch.linspace(-math.pi, math.pi, 9)[:-1] + math.pi / 8
    row = torch.stack([azimuth.sin(), torch.zeros(8), azimuth.cos()], dim=-1)
    assert rays.closes(row.expand(64, 2, 8, 3)).all()
    assert not rays.closes(row[:5].expand(64, 2, 5, 3)).any()


def test_half_a_pixel_beside_the_image_is_still_seen():
    x, y = torch.meshgrid(torch.tensor([-1.0, 0, 1]), torch.tensor([-1.0, 0, 1]), indexing="xy")
    image = torch.stack([x, y, torch.ones(3, 3)], dim=-1)[None]
    places = torch.tensor([[[-1.5, 0, 1], [1.5, 0, 1], [0, -1.5, 1], [0, 1.5, 1], [-1.6, 0, 1]]])
    u, v, seen = rays.project(image, places)
    assert u[0, :2].tolist() == [-0.5, 2.5] and v[0, 2:4].tolist() == [-0.5, 2.5]
    assert seen[0].tolist() == [True, False, True, False, False]


@pytest.mark.parametrize("shape", [(4,), (2, 4), (2, 3, 4)])
def test_rotations_of_quaternions_of_any_shape(shape):
    quaternion = torch.tensor([0.0, 0, 2, 2]).expand(shape)  # a quarter turn about z, of any length
    found = agreement.rotations(quaternion)
    expected = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    assert found.shape == (*shape[:-1], 3, 3) and torch.allclose(found, expected.expand_as(found), atol=1e-6)
