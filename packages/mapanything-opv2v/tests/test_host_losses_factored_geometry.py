"""The geometry loss on the double of the host; equality with the real host is in tests/host."""

from __future__ import annotations

import pytest
import torch
from mapanything_opv2v.geometry import Cylinder, pinhole_rays
from mapanything_opv2v.losses import gradient_matching, log_depth

AROUND = torch.from_numpy(Cylinder(8, 4, 60.0, 0.0).rays()).float()[None]
K = [[4.0, 0, 3.6], [0, 4, 1.4], [0, 0, 1]]
AHEAD = torch.nn.functional.normalize(torch.from_numpy(pinhole_rays(K, (8, 4))).float(), dim=-1)[None]
TERM = "OPV2VFactoredGeometryScaleRegr3DPlusNormalGMLoss_gradient_matching"


@pytest.fixture
def make(double_host):
    from mapanything.train.losses import FactoredGeometryScaleRegr3DPlusNormalGMLoss, RobustRegressionLoss
    from mapanything_opv2v.host.losses.factored_geometry import OPV2VFactoredGeometryScaleRegr3DPlusNormalGMLoss

    classes = {
        True: OPV2VFactoredGeometryScaleRegr3DPlusNormalGMLoss,
        False: FactoredGeometryScaleRegr3DPlusNormalGMLoss,
    }
    return lambda ours=True, **options: classes[ours](RobustRegressionLoss(), **options)


def sample(rays, seed=0):
    generator = torch.Generator().manual_seed(seed)
    size = rays.shape[:3]
    truth, predicted = (1 + 20 * torch.rand(*size, 1, generator=generator) for _ in range(2))
    mask = torch.rand(size, generator=generator) < 0.8
    view = {
        "ray_directions_cam": rays,
        "pts3d_cam": truth * rays,
        "valid_mask": mask,
        "non_ambiguous_mask": mask,
        "is_synthetic": torch.tensor([True]),
    }
    return view, {"pts3d_cam": predicted * rays}


def both(*rays):
    pairs = [sample(item, seed) for seed, item in enumerate(rays)]
    return [view for view, _ in pairs], [pred for _, pred in pairs]


def test_pinhole_views_are_the_hosts(make):
    batch, preds = both(AHEAD, AHEAD)
    ours, host = (make(flag, gm_loss_weight=3.0) for flag in (True, False))
    assert torch.equal(ours.compute_loss(batch, preds)[0], host.compute_loss(batch, preds)[0])
    terms = [loss.with_reduction("none").compute_loss(batch, preds)[0] for loss in (ours, host)]
    assert all(torch.equal(a[0], b[0]) and a[2] == b[2] for a, b in zip(*terms, strict=True))


def own_terms(batch, preds, weight, closed):
    around = torch.tensor([True])
    return [
        weight
        * gradient_matching(
            log_depth(pred["pts3d_cam"], around), log_depth(view["pts3d_cam"], around), view["valid_mask"], closed
        )
        for view, pred in zip(batch, preds)
    ]


def test_a_panorama_gets_range_and_seam(make):
    batch, preds = both(AROUND, AROUND)
    expected = own_terms(batch, preds, 3.0, torch.tensor([True]))
    loss = make(gm_loss_weight=3.0)
    total, details = loss.compute_loss(batch, preds)
    rest, _ = make(False, gm_loss_weight=0.0).compute_loss(batch, preds)
    assert torch.isclose(total, rest + sum(expected))
    assert details[f"{TERM}_view2"] == expected[1].item()
    assert details[f"{TERM}_avg"] == pytest.approx(sum(expected).item() / 2)
    terms, _ = loss.with_reduction("none").compute_loss(batch, preds)
    assert [name for *_, name in terms] == ["cam_pts3d"] * 2 + ["gradient_matching"] * 2
    assert [term[0].item() for term in terms[2:]] == [item.item() for item in expected]
    assert loss.gm_loss_weight == 3.0 and loss._keep is None  # nothing is left behind


def test_an_open_panorama_has_no_seam(make):
    batch, preds = both(AROUND[:, :, 1:7])
    expected = own_terms(batch, preds, 1, torch.tensor([False]))
    assert make().with_reduction("none").compute_loss(batch, preds)[0][1][0] == expected[0]


def test_a_pinhole_view_beside_a_panorama_keeps_z(make):
    batch, preds = both(AROUND, AHEAD)
    terms, _ = make().with_reduction("none").compute_loss(batch, preds)
    no = torch.tensor([False])
    truth, predicted = batch[1]["pts3d_cam"], preds[1]["pts3d_cam"]
    expected = gradient_matching(log_depth(predicted, no), log_depth(truth, no), batch[1]["valid_mask"], no)
    assert terms[3][0] == expected


def test_real_data_may_be_left_out(make):
    batch, preds = both(AROUND)
    batch[0]["is_synthetic"] = torch.tensor([False])
    terms, details = make().with_reduction("none").compute_loss(batch, preds)
    assert terms[1][0] == 0 and f"{TERM}_avg" not in details
    terms, _ = (
        make(apply_normal_and_gm_loss_to_synthetic_data_only=False).with_reduction("none").compute_loss(batch, preds)
    )
    assert terms[1][0] > 0


def test_ambiguous_pixels_count_where_the_host_counts_them(make):
    batch, preds = both(AROUND)
    few = make(ambiguous_loss_value=0).with_reduction("none").compute_loss(batch, preds)[0][1][0]
    many = make(ambiguous_loss_value=1).with_reduction("none").compute_loss(batch, preds)[0][1][0]
    assert few != many


def test_what_it_refuses(make):
    batch, preds = both(AROUND)
    with pytest.raises(ValueError, match="depth_type_for_loss='depth_z' and a panorama in the batch"):
        make(depth_type_for_loss="depth_z").compute_loss(batch, preds)
    with pytest.raises(ValueError, match="needs at least two views, got one"):
        make(compute_pairwise_relative_pose_loss=True).compute_loss(batch, preds)
