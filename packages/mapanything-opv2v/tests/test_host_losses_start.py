"""The start's loss in the host's protocol, on the double of the host."""

from __future__ import annotations

import logging
import math
import sys

import pytest
import torch
from mapanything_opv2v.losses import bent
from test_host_losses_criteria import RAYS, view


@pytest.fixture
def make(double_host):
    from mapanything_opv2v.host.register import register

    register()
    return lambda text: eval(text, vars(sys.modules["mapanything.train.training"]))


def moved(metres):
    pose = torch.eye(4)[None].clone()
    pose[:, 2, 3] = metres
    return pose


def told(pose, scale=1.0):
    """What a model that knows the pose says of the panorama of `view`, in patches of 2 x 2 pixels."""
    points = (10.0 * RAYS)[:, 1::2, 1::2] + pose[:, None, None, :3, 3]
    return {
        "cam_trans": scale * pose[:, :3, 3],
        "cam_quats": torch.tensor([[0.0, 0, 0, 2]]),
        "bent_points": bent(points).clone().requires_grad_(),
    }


def test_the_truth_costs_nothing_and_an_error_is_told_in_metres(make):
    loss = make("OPV2VStartLoss()")
    views = [view(), view(camera_pose=moved(3.0))]
    total, details = loss(views, [told(moved(0.0)), told(moved(3.0))])
    assert float(total) == pytest.approx(0, abs=1e-6) and details["position_error_m"] == pytest.approx(0, abs=1e-6)
    assert details["heading_error_deg"] == pytest.approx(0, abs=1e-3) and details["patches_known_ratio"] == 1.0
    total, details = loss(views, [told(moved(0.0)), told(moved(3.0), scale=6.0)])
    bent_error = math.log1p(18 / 5) - math.log1p(3 / 5)
    assert details["position_error_m"] == pytest.approx(15) and float(total) == pytest.approx(bent_error - 0.05)


def test_a_turn_by_hand(make):
    """A quarter turn of the second view: 2 sin^2 45 degrees = 1; its points are where the first one's are."""
    turned = torch.eye(4)[None].clone()
    turned[0, :3, :3] = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    pred = told(moved(0.0))
    pred["bent_points"] = bent((10.0 * RAYS)[:, 1::2, 1::2] @ turned[0, :3, :3].T)
    total, details = make("OPV2VStartLoss()")([view(), view(camera_pose=turned)], [told(moved(0.0)), pred])
    assert float(total) == pytest.approx(1.0, abs=1e-5) and details["heading_error_deg"] == pytest.approx(90, abs=1e-3)
    assert details["OPV2VStartLoss_pose_quats_avg_avg"] == pytest.approx(0.5, abs=1e-5)  # mean over views


def test_the_weight_of_points(make):
    wrong = told(moved(0.0))
    wrong["bent_points"] = wrong["bent_points"].detach() + 1.0
    totals = [
        float(make(f"OPV2VStartLoss(points_weight={w})")([view(), view()], [told(moved(0.0)), wrong])[0])
        for w in (0, 1, 2)
    ]
    assert totals[0] == pytest.approx(0, abs=1e-6) and totals[1] == pytest.approx(3 * 0.95)
    assert totals[2] == pytest.approx(2 * totals[1])
    assert make("OPV2VStartLoss(points_weight=2)").get_name() == "OPV2VStartLoss(points_weight=2)"


def test_what_is_farther_than_100_m_is_not_asked(make):
    away = view(depth_along_ray=torch.full((1, 4, 8, 1), 101.0))
    _, details = make("OPV2VStartLoss()")([away, view()], [told(moved(0.0)), told(moved(0.0))])
    assert details["patches_known_ratio"] == 0.5


def test_samples_without_depth_are_told_once(make, caplog):
    unknown = torch.zeros(1, 4, 8, dtype=torch.bool)
    loss, views = make("OPV2VStartLoss()"), [view(valid_mask=unknown), view(valid_mask=unknown)]
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            total, _ = loss(views, [told(moved(0.0)), told(moved(0.0))])
    assert math.isfinite(float(total))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 and said[0].startswith("OPV2VStartLoss: 0.0 % of the patches have a known point")


@pytest.mark.parametrize("weight", [-1, float("inf"), True])
def test_a_weight_that_could_not_act_is_refused(make, weight):
    with pytest.raises(ValueError, match=r"^OPV2VStartLoss: points_weight=.*, expected 0 or more$"):
        make("OPV2VStartLoss")(points_weight=weight)


def test_one_view_and_other_models_are_refused(make):
    with pytest.raises(ValueError, match=r"^OPV2VStartLoss: samples have 1 view; it takes two: dataset.num_views=2"):
        make("OPV2VStartLoss()")([view()], [told(moved(0.0))])
    with pytest.raises(ValueError, match="^OPV2VStartLoss: the model tells no points of patches; use model=opv2v_star"):
        make("OPV2VStartLoss()")([view(), view()], [{}, {}])
