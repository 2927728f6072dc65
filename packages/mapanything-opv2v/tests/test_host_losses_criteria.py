"""The losses in the host's protocol, on the double of the host."""

from __future__ import annotations

import logging
import math
import sys

import numpy as np
import pytest
import torch
from mapanything_opv2v.geometry import Cylinder


@pytest.fixture
def make(double_host):
    """Return a function that evaluates a criterion string where the host does."""
    from mapanything_opv2v.host.register import register

    register()
    return lambda text: eval(text, vars(sys.modules["mapanything.train.training"]))


RAYS = torch.from_numpy(Cylinder(8, 4, 60.0, 0.0).rays()).float()[None]


def view(**changes):
    """One sample, one view: a panorama of a surface 10 m away, the first column being sky."""
    surface = torch.ones(1, 4, 8, dtype=torch.bool)
    surface[..., 0] = False
    made = {
        "ray_directions_cam": RAYS,
        "depth_along_ray": torch.full((1, 4, 8, 1), 10.0) * surface[..., None],
        "pts3d": 10.0 * RAYS * surface[..., None],
        "pts3d_cam": 10.0 * RAYS * surface[..., None],
        "valid_mask": surface,
        "non_ambiguous_mask": surface,
        "camera_pose": torch.eye(4)[None],
        "is_synthetic": torch.tensor([True]),
        "agent_index": torch.tensor([0]),
    }
    return made | changes


def pred(range_m=10.0, logit=0.0, **changes):
    range_ = torch.as_tensor(range_m).expand(1, 4, 8, 1).clone().requires_grad_()
    points = range_ * RAYS
    made = {
        "depth_along_ray": range_,
        "pts3d_cam": points,
        "pts3d": points,
        "cam_quats": torch.tensor([[0.0, 0, 0, 1]]),
        "cam_trans": torch.zeros(1, 3),
        "metric_scaling_factor": torch.ones(1, 1),
        "non_ambiguous_mask_logits": torch.full((1, 4, 8), logit).requires_grad_(),
    }
    return made | changes


class TestMask:
    def test_by_hand(self, make):
        # p = 1/2 everywhere: log 2 a pixel; 28 true pixels of 32, weighted 3.
        loss, details = make("OPV2VNonAmbiguousMaskLoss(pos_weight=3)")([view(), view()], [pred(), pred()])
        expected = math.log(2) * (3 * 28 + 4) / 32
        assert math.isclose(loss.item(), 2 * expected, rel_tol=1e-6)  # a sum over views, as in the host
        assert math.isclose(details["OPV2VNonAmbiguousMaskLoss_mask_avg"], expected, rel_tol=1e-6)
        shares = {name: details[name] for name in ("pred_mask_mean", "gt_mask_mean", "valid_mask_ratio")}
        assert shares == {"pred_mask_mean": 0.5, "gt_mask_mean": 0.875, "valid_mask_ratio": 0.875}
        assert all(type(value) is float for value in details.values())
        assert not any("view" in name for name in shares)  # the host would hide them on the console

    def test_balanced(self, make):
        loss, _ = make("OPV2VNonAmbiguousMaskLoss(pos_weight='balanced')")([view()], [pred()])
        assert math.isclose(loss.item(), math.log(2) * (4 / 28 * 28 + 4) / 32, rel_tol=1e-6)

    def test_against_numpy(self, make):
        rng = np.random.default_rng(0)
        logits, mask = rng.normal(size=(1, 4, 8)), rng.random((1, 4, 8)) < 0.3
        p = 1 / (1 + np.exp(-logits))
        expected = -(2.5 * mask * np.log(p) + ~mask * np.log(1 - p)).mean()
        batch = [view(non_ambiguous_mask=torch.from_numpy(mask), valid_mask=torch.from_numpy(mask))]
        preds = [pred(non_ambiguous_mask_logits=torch.from_numpy(logits))]
        assert np.isclose(make("OPV2VNonAmbiguousMaskLoss(2.5)")(batch, preds)[0], expected)

    def test_the_alarm_rings_once_for_training_and_once_for_testing(self, make, caplog):
        loss = make("0.3 * OPV2VNonAmbiguousMaskLoss() + OPV2VMaskedDepthLoss()")
        batch, preds = [view()], [pred(logit=-4.0)]
        with caplog.at_level(logging.WARNING):
            loss(batch, [pred()])
            assert not caplog.records
            for _ in range(3):
                loss(batch, preds)
            with torch.no_grad():
                for _ in range(3):
                    loss(batch, preds)
        first, second = (record.getMessage() for record in caplog.records)
        assert "training: a positive share is below 0.05: gt_mask_mean=0.8750, pred_mask_mean=0.0180, " in first
        assert "valid_mask_ratio=0.8750" in first and "raise pos_weight (now 1.0)" in first
        assert "testing: a positive share" in second

    def test_the_alarm_rings_for_an_empty_truth(self, make, caplog):
        empty = view(non_ambiguous_mask=torch.zeros(1, 4, 8, dtype=torch.bool))
        make("OPV2VNonAmbiguousMaskLoss('balanced')")([empty], [pred()])
        (record,) = caplog.records
        assert "gt_mask_mean=0.0000" in record.getMessage() and "depth_root" in record.getMessage()

    def test_depth_from_lidar_teaches_no_sky_and_says_so(self, make, caplog):
        """One pixel in four has a depth, none is known to be sky: the other three do not count."""
        valid = torch.zeros(1, 4, 8, dtype=torch.bool)
        valid[:, ::2, ::2] = True
        sparse = view(valid_mask=valid, non_ambiguous_mask=torch.ones(1, 4, 8, dtype=torch.bool))
        made = pred()
        with caplog.at_level(logging.WARNING):
            loss, details = make("OPV2VNonAmbiguousMaskLoss(pos_weight=3)")([sparse], [made])
        loss.backward()
        assert math.isclose(loss.item(), 3 * math.log(2), rel_tol=1e-6)
        assert (made["non_ambiguous_mask_logits"].grad != 0).equal(valid)
        assert (details["valid_mask_ratio"], details["mask_known_ratio"], details["gt_mask_mean"]) == (0.25, 0.25, 1.0)
        (record,) = caplog.records
        said = record.getMessage()
        assert "a positive share is above 0.95: gt_mask_mean=1.0000" in said and "mask_known_ratio=0.2500" in said
        assert "LiDAR depth has no sky: use dense depth, or switch this loss off (loss.opv2v.mask_weight=0)" in said

    def test_a_prediction_of_surface_everywhere_rings_too(self, make, caplog):
        make("OPV2VNonAmbiguousMaskLoss()")([view()], [pred(logit=6.0)])
        (record,) = caplog.records
        assert "above 0.95: gt_mask_mean=0.8750, pred_mask_mean=0.9975" in record.getMessage()
        assert "lower pos_weight (now 1.0)" in record.getMessage()

    def test_only_the_first_process_warns(self, make, caplog, monkeypatch):
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
        make("OPV2VNonAmbiguousMaskLoss()")([view()], [pred(logit=-4.0)])
        assert not caplog.records

    @pytest.mark.parametrize("value", ["0", "-1", "True", "'even'", "None", "float('inf')"])
    def test_what_it_refuses(self, make, value):
        with pytest.raises(ValueError, match=r"pos_weight=.*expected a positive number or 'balanced'"):
            make(f"OPV2VNonAmbiguousMaskLoss(pos_weight={value})")


class TestMaskedDepth:
    def test_by_hand(self, make):
        loss, details = make("OPV2VMaskedDepthLoss(height_weight=0)")([view()], [pred(20.0)])
        assert math.isclose(loss.item(), math.log(21 / 11), rel_tol=1e-5)
        assert math.isclose(details["OPV2VMaskedDepthLoss_depth_avg"], math.log(21 / 11), rel_tol=1e-5)

    def test_height_counts_only_where_a_surface_has_no_depth(self, make):
        valid = torch.zeros(1, 4, 8, dtype=torch.bool)
        batch = [view(valid_mask=valid)]
        loss, details = make("OPV2VMaskedDepthLoss(height_weight=2, lowest_m=-1, highest_m=4)")(batch, [pred(100.0)])
        elevation = np.radians([22.5, 7.5, -7.5, -22.5])
        height = 100 * np.sin(elevation)  # 38, 13, -13, -38 m
        excess = np.maximum(height - 4, 0) + np.maximum(-1 - height, 0)
        expected = np.log1p(excess).mean()  # the sky column is left out, rows are alike
        assert math.isclose(details["OPV2VMaskedDepthLoss_height_avg"], expected, rel_tol=1e-5)
        assert math.isclose(loss.item(), 2 * expected, rel_tol=1e-5)

    def test_sky_and_truth_free_pixels_have_no_gradient(self, make):
        prediction = pred(30.0)
        loss, _ = make("OPV2VMaskedDepthLoss()")([view()], [prediction])
        loss.backward()
        gradient = prediction["depth_along_ray"].grad[..., 0]
        assert not gradient[..., 0].any() and (gradient[..., 1:] > 0).all()

    def test_no_pixel_at_all(self, make):
        nothing = torch.zeros(1, 4, 8, dtype=torch.bool)
        prediction = pred()
        loss, _ = make("OPV2VMaskedDepthLoss()")([view(valid_mask=nothing, non_ambiguous_mask=nothing)], [prediction])
        loss.backward()
        assert loss == 0 and not prediction["depth_along_ray"].grad.any()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("height_weight=-1", "height_weight=-1, expected 0 or more"),
            ("lowest_m=3, highest_m=3", "lowest_m=3 is not below highest_m=3"),
        ],
    )
    def test_what_it_refuses(self, make, text, message):
        with pytest.raises(ValueError, match=message):
            make(f"OPV2VMaskedDepthLoss({text})")


class TestAgreement:
    def two(self, index=1, **changes):
        return [view(), view(agent_index=torch.tensor([index]))], [pred(), pred(**changes)]

    def test_two_views_of_one_sphere_by_hand(self, make):
        # Both stand in the centre; the second believes the surface 10 % nearer. Columns beside the sky's are not
        # surrounded by surface; rounding decides about column 1, whose points fall onto pixel centres.
        batch, preds = self.two(range_m=10 * math.exp(-0.1))
        loss, details = make("OPV2VAgentAgreementLoss(softness=0.1, tolerance=0.25)")(batch, preds)
        assert math.isclose(loss.item(), 0.5 + 0.5, rel_tol=1e-4)  # both orders
        assert 5 / 7 <= details["agreement_shared_ratio"] <= 1
        assert math.isclose(details["OPV2VAgentAgreementLoss_avg"], 0.5, rel_tol=1e-4)

    def test_it_is_symmetric(self, make):
        batch, preds = self.two(range_m=10.9, cam_trans=torch.tensor([[1.0, 0.1, 0.5]]))
        loss = make("OPV2VAgentAgreementLoss()")
        assert torch.isclose(loss(batch, preds)[0], loss(batch[::-1], preds[::-1])[0])

    def test_hidden_points_say_nothing(self, make):
        batch, preds = self.two(range_m=2.0)  # the second sees a wall, the first what lies behind it
        loss, details = make("OPV2VAgentAgreementLoss()")(batch, preds)
        assert loss == 0 and details["agreement_shared_ratio"] == 0

    def test_where_the_true_depths_differ_nothing_is_compared(self, make):
        batch, preds = self.two(range_m=10 * math.exp(-0.1))
        lower = torch.zeros(1, 4, 8, 1)
        lower[:, 2:] = 1
        batch[1]["depth_along_ray"] = batch[1]["depth_along_ray"] * (1 - 0.1 * lower)  # 9 m instead of 10
        batch[1]["pts3d"] = batch[1]["pts3d"] * (1 - 0.1 * lower)
        loss = make("OPV2VAgentAgreementLoss()")
        full = loss(*self.two(range_m=10 * math.exp(-0.1)))[1]["agreement_shared_ratio"]
        half = loss(batch, preds)[1]["agreement_shared_ratio"]
        assert 0.2 * full < half < 0.6 * full
        batch[1]["valid_mask"] = torch.zeros(1, 4, 8, dtype=torch.bool)  # not known: taken for visible
        assert loss(batch, preds)[1]["agreement_shared_ratio"] == full

    def test_views_of_one_agent_are_not_compared(self, make):
        batch, preds = self.two(index=0, range_m=5.0)
        loss, details = make("OPV2VAgentAgreementLoss()")(batch, preds)
        loss.backward()
        assert loss == 0 and details["agreement_shared_ratio"] == 0

    def test_samples_of_a_batch_are_told_apart(self, make):
        def twice(item):
            return {key: torch.cat([value, value]) for key, value in item.items()}

        batch, preds = self.two(range_m=10 * math.exp(-0.1))
        batch, preds = [twice(item) for item in batch], [twice(item) for item in preds]
        batch[1]["agent_index"] = torch.tensor([0, 1])  # the first sample shows one vehicle twice
        loss, details = make("OPV2VAgentAgreementLoss()")(batch, preds)
        assert math.isclose(loss.item(), 1.0, rel_tol=1e-4) and details["agreement_shared_ratio"] > 0.7

    def test_a_single_view(self, make):
        prediction = pred()
        loss, _ = make("OPV2VAgentAgreementLoss()")([view()], [prediction])
        loss.backward()
        assert loss == 0

    def test_what_it_refuses(self, make):
        for option in ("softness=0", "tolerance=-1"):
            with pytest.raises(ValueError, match=rf"{option.split('=')[0]}=.*expected a positive number"):
                make(f"OPV2VAgentAgreementLoss({option})")
        batch, preds = self.two()
        del batch[1]["agent_index"]
        with pytest.raises(ValueError, match="view 1 has no agent_index; use the OPV2V datasets"):
            make("OPV2VAgentAgreementLoss()")(batch, preds)


def test_losses_add_up_with_their_weights(make):
    batch = [view(), view(agent_index=torch.tensor([1]))]
    preds = [pred(12.0), pred(9.0)]
    parts = {
        "OPV2VNonAmbiguousMaskLoss('balanced')": 0.3,
        "OPV2VMaskedDepthLoss()": 2,
        "OPV2VAgentAgreementLoss()": 0.5,
    }
    together, details = make(" + ".join(f"{weight} * {text}" for text, weight in parts.items()))(batch, preds)
    apart = sum(weight * make(text)(batch, preds)[0] for text, weight in parts.items())
    assert torch.isclose(together, apart)
    assert {"pred_mask_mean", "agreement_shared_ratio", "OPV2VMaskedDepthLoss_height_avg"} <= set(details)


def test_names_show_the_options(make):
    text = repr(
        make("0.3 * OPV2VNonAmbiguousMaskLoss('balanced') + OPV2VMaskedDepthLoss() + OPV2VAgentAgreementLoss()")
    )
    assert text == (
        "0.3*OPV2VNonAmbiguousMaskLoss(pos_weight='balanced') + "
        "OPV2VMaskedDepthLoss(height_weight=0.1, lowest_m=-6.0, highest_m=40.0) + "
        "OPV2VAgentAgreementLoss(softness=0.1, tolerance=0.25)"
    )
