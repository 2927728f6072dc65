"""The demo's encoder, decoder and segmentor: oracles, equivariance, gradients."""

import itertools

import pytest
import torch
from influencer_mmdet3d.demo.decoder import MaskedQueryDecoder, farthest_points
from influencer_mmdet3d.demo.encoder import VoxelUNet, fourier, pool, voxelise
from influencer_mmdet3d.demo.segmentor import DemoSegmentor

INFLUENCER = {"type": "InfluencerCriterion", "num_classes": 4}
HUNGARIAN = {"type": "DemoHungarianCriterion", "num_classes": 4}


def room(seed, count=200):
    generator = torch.Generator().manual_seed(seed)
    xyz = torch.rand(count, 3, generator=generator) * torch.tensor([3.0, 4.0, 2.5])
    return torch.cat([xyz, torch.rand(count, 3, generator=generator) * 2 - 1], 1)


def small(criterion=INFLUENCER, **options):
    import influencer_mmdet3d.demo.hungarian  # noqa: F401  registers the criterion

    torch.manual_seed(0)
    decoder = {"num_queries": 12, "width": 16, "num_layers": 2, "heads": 2}
    return DemoSegmentor(criterion, num_classes=4, encoder={"width": 8, "voxel": 0.4}, decoder=decoder, **options)


def test_voxelise_by_hand():
    grid, voxel = voxelise(torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]))
    assert grid.cells.tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]]
    assert voxel.tolist() == [0, 1, 0, 2]
    assert [sorted(set(row.tolist())) for row in grid.neighbours] == [[0, 1, 3], [0, 1, 3], [2, 3]]
    assert grid.neighbours[:, 13].tolist() == [0, 1, 2]  # the middle of the 27 is the voxel itself


def test_neighbours_against_a_dictionary():
    cells = torch.cat([torch.randint(0, 2, (300, 1)), torch.randint(0, 6, (300, 3))], 1)
    grid, voxel = voxelise(cells)
    known = {tuple(cell): number for number, cell in enumerate(grid.cells.tolist())}
    assert len(known) == len({tuple(cell) for cell in cells.tolist()})
    assert [known[tuple(cell)] for cell in cells.tolist()] == voxel.tolist()
    steps = list(itertools.product((-1, 0, 1), repeat=3))
    for cell, row in zip(grid.cells.tolist(), grid.neighbours.tolist()):
        sample, *place = cell
        wanted = [(sample, *(a + b for a, b in zip(place, step))) for step in steps]
        assert row == [known.get(near, len(known)) for near in wanted]


def test_pool_is_the_mean_of_each_group():
    features, group = torch.randn(50, 3), torch.randint(0, 6, (50,))
    pooled = pool(features, group, 8)
    for number in range(8):
        members = features[group == number]
        wanted = members.mean(0) if len(members) else torch.zeros(3)
        torch.testing.assert_close(pooled[number], wanted)


def test_fourier_has_the_stated_wavelengths():
    values = fourier(torch.tensor([[4.0, 0.0, 1.0]]), 2)
    assert values.shape == (1, 12)
    # bands of x, y, z in turn; wavelength 16 m and 8 m
    angles = 2 * torch.pi * torch.tensor([4 / 16, 4 / 8, 0, 0, 1 / 16, 1 / 8])
    torch.testing.assert_close(values[0], torch.cat([angles.sin(), angles.cos()]))


def test_farthest_points_against_a_loop():
    xyz = torch.rand(2, 40, 3)
    found = farthest_points(xyz, 8)
    for sample in range(2):
        chosen = [0]
        for _ in range(7):
            gaps = torch.cdist(xyz[sample], xyz[sample, chosen]).min(1).values
            chosen.append(int(gaps.argmax()))
        assert found[sample].tolist() == chosen


def test_encoder_follows_the_order_of_points_and_ignores_other_rooms():
    torch.manual_seed(0)
    encoder = VoxelUNet(width=8, out_channels=16, voxel=0.4)
    first, second = room(1), room(2)
    order = torch.randperm(len(first))
    both = encoder(torch.stack([first, second]))
    torch.testing.assert_close(encoder(first[order].unsqueeze(0))[0], both[0, order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoder(second.unsqueeze(0))[0], both[1], atol=1e-5, rtol=1e-4)


def test_encoder_sees_neighbours_but_not_the_far_end():
    torch.manual_seed(0)
    encoder = VoxelUNet(width=8, out_channels=16, voxel=0.2)
    line = torch.zeros(1, 400, 6)
    line[0, :, 0] = torch.arange(400) * 0.05  # 20 m, three levels reach about 8 m
    changed = line.clone()
    changed[0, 0, 3] = 1.0
    difference = (encoder(changed) - encoder(line)).abs().amax(-1)[0]
    assert difference[4:16].max() > 1e-5
    assert difference[-40:].max() == 0


def test_decoder_gives_the_hosts_pred():
    torch.manual_seed(0)
    decoder = MaskedQueryDecoder(4, num_queries=12, width=16, num_layers=2, heads=2)
    points = torch.stack([room(1), room(2)])
    pred = decoder(torch.randn(2, 200, 16), points[..., :3])
    assert len(pred["aux_outputs"]) == 2
    for layer in (pred, *pred["aux_outputs"]):
        assert layer["cls_preds"].shape == (2, 12, 5)
        assert layer["masks"].shape == (2, 12, 200)
        assert layer["scores"].shape == (2, 12, 1)


def test_decoder_starts_from_given_seeds():
    torch.manual_seed(0)
    decoder = MaskedQueryDecoder(4, num_queries=12, width=16, num_layers=2, heads=2)
    features, xyz = torch.randn(1, 200, 16), room(1)[None, :, :3]
    seeds = farthest_points(xyz, 12)
    whole, few = decoder(features, xyz), decoder(features, xyz, seeds[:, :5])
    torch.testing.assert_close(decoder(features, xyz, seeds)["masks"], whole["masks"])
    torch.testing.assert_close(few["aux_outputs"][0]["masks"], whole["aux_outputs"][0]["masks"][:, :5])
    assert few["masks"].shape == (1, 5, 200)


def test_masked_attention_looks_inside_the_mask_only():
    torch.manual_seed(0)
    decoder = MaskedQueryDecoder(4, num_queries=12, width=16, num_layers=1, heads=2)
    features, xyz = torch.randn(1, 200, 16), room(1)[None, :, :3]
    before = decoder(features, xyz)
    query = 3
    outside = before["aux_outputs"][0]["masks"][0, query] <= 0
    assert outside.any() and not outside.all()
    seeds = farthest_points(xyz, 12)[0]
    free = torch.tensor([i for i in outside.nonzero().flatten().tolist() if i not in seeds.tolist()])
    source = []
    hook = decoder.cross[0].register_forward_hook(lambda module, inputs, output: source.append(output))
    decoder(features, xyz)
    decoder.source.register_forward_hook(lambda module, inputs, output: output.index_fill(1, free, 7.0))
    decoder(features, xyz)
    hook.remove()
    torch.testing.assert_close(source[0][0, query], source[1][0, query])
    assert not torch.allclose(source[0], source[1])


@pytest.mark.parametrize("criterion", [INFLUENCER, HUNGARIAN])
def test_loss_reaches_every_parameter(criterion):
    model = small(criterion)
    instance = torch.arange(200) // 50
    losses = model([room(1), room(2)], [instance % 4, instance % 3], [instance, instance], mode="loss")
    losses["inst_loss"].backward()
    # keys without a softmax-relevant gradient: the last layer's seeds are indices, everything else learns
    silent = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert [name for name in silent if not name.endswith("key.bias")] == []


def test_autocast_stays_finite():
    model = small()
    instance = torch.arange(200) // 50
    with torch.autocast("cpu", torch.bfloat16):
        losses = model([room(1), room(2)], [instance, instance], [instance, instance], mode="loss")
    losses["inst_loss"].backward()
    assert all(value.grad.isfinite().all() for value in model.parameters() if value.grad is not None)


def test_predict_mode_keeps_what_the_metric_needs():
    model = small(test={"min_points": 1, "min_score": -1e9})
    instance = torch.arange(200) // 50
    (result,) = model([room(1)], [instance], [instance], ["room"], mode="predict")
    assert result["name"] == "room"
    assert result["instance"] is instance
    found = result["found"]
    assert found.masks.shape == (len(found.labels), 200)
    assert len(found.scores) == len(found.labels) > 0


def test_misuse():
    model = small()
    with pytest.raises(ValueError, match=r"same number of points, got \[200, 100\]"):
        model([room(1), room(1, 100)])
    with pytest.raises(ValueError, match="mode must be 'tensor', 'loss' or 'predict', got 'train'"):
        model([room(1)], mode="train")
    with pytest.raises(ValueError, match="needs semantic and instance"):
        model([room(1)], mode="loss")
