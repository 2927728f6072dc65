"""Our decoders beside the host's own: the same outputs for one set, sets that do not see each other."""

import copy

import oneformer3d  # noqa: F401  registers the host's classes
import pytest
import torch
from influencer_mmdet3d.host.decoders import InfluencerQueryDecoder, InfluencerScanNetQueryDecoder
from influencer_mmdet3d.host.models import InfluencerS3DISOneFormer3D
from influencer_mmdet3d.host.sets import Scene
from mmdet3d.registry import MODELS
from oneformer3d.query_decoder import QueryDecoder, ScanNetQueryDecoder

COMMON = dict(
    num_layers=2, in_channels=8, d_model=16, num_heads=2, hidden_dim=32, dropout=0.0, activation_fn="gelu",
    iter_pred=True, attn_mask=True, fix_attention=True,
)  # fmt: skip
S3DIS = dict(COMMON, num_instance_queries=10, num_semantic_queries=3, num_classes=4, objectness_flag=True)
SCANNET = dict(
    COMMON, num_instance_queries=0, num_semantic_queries=0, num_instance_classes=4, num_semantic_classes=5,
    num_semantic_linears=1, objectness_flag=False,
)  # fmt: skip
POINTS = (60, 45)


@pytest.fixture
def x(generator):
    return [torch.randn(count, 8, generator=generator) for count in POINTS]


def heads(out):
    return [value for key in ("cls_preds", "masks", "scores") for value in out[key] if value is not None]


def every_layer(out):
    return [value for layer in (*out["aux_outputs"], out) for value in heads(layer)]


def scene(generator, instances=(3, 2)):
    masks = [torch.arange(n) % 7 == torch.arange(k)[:, None] for n, k in zip(POINTS, instances)]
    return Scene([torch.rand(count, 3, generator=generator) for count in POINTS], masks)


def test_the_first_of_learned_sets_is_the_hosts(x):
    ours = InfluencerQueryDecoder(**S3DIS, groups=3)
    theirs = QueryDecoder(**S3DIS)
    missing, unexpected = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert not missing and unexpected == ["group_query.weight"]
    wanted = theirs(x)
    out = ours(x)
    assert out["groups"] == 3 and "starts" not in out
    for got, want in zip(every_layer(out), every_layer(wanted)):
        assert len(got) == 3 * 10 + 3
        torch.testing.assert_close(torch.cat([got[:10], got[30:]]), want)
    ours.eval()
    theirs.eval()
    predicted = ours(x)
    assert "groups" not in predicted
    assert all(torch.equal(a, b) for a, b in zip(every_layer(predicted), every_layer(theirs(x))))


@pytest.mark.parametrize("changed", [1, 2])
def test_a_set_does_not_see_the_others(x, changed):
    decoder = InfluencerQueryDecoder(**S3DIS, groups=3)
    before = every_layer(decoder(x))
    with torch.no_grad():
        decoder.group_query.weight[10 * (changed - 1) : 10 * changed] *= torch.arange(16)
    mine = slice(10 * changed, 10 * (changed + 1))
    for a, b in zip(before, every_layer(decoder(x))):
        assert not torch.allclose(a[mine], b[mine])
        b[mine] = a[mine]
        torch.testing.assert_close(a, b)


def test_a_wrong_set_would_show(x):
    """The test above with sets that do see each other: it must notice."""
    decoder = InfluencerQueryDecoder(**S3DIS, groups=3)
    decoder._apart = decoder._together = lambda *_: None
    for layer in decoder.self_attn_layers:
        layer._forward_pre_hooks.clear()
        layer._forward_hooks.clear()
    before = decoder(x)["masks"][0]
    with torch.no_grad():
        decoder.group_query.weight[:10] *= torch.arange(16)
    assert not torch.allclose(before[:10], decoder(x)["masks"][0][:10])


def test_queries_start_from_voxels_far_apart(x, generator):
    decoder = InfluencerQueryDecoder(**S3DIS, start="voxels", groups=3)
    where = scene(generator)
    decoder.scene = where
    out = decoder(x)
    for starts, xyz in zip(out["starts"], where.coordinates):
        assert starts.shape == (30,) and len(set(starts[:10].tolist())) == 10
        cell = torch.cdist(xyz, xyz[starts[:10]]).argmin(1)
        for group in (1, 2):
            assert cell[starts[10 * group : 10 * (group + 1)]].tolist() == list(range(10))
    assert decoder.num_queries == 13
    with pytest.raises(ValueError, match="start='voxels' needs the voxels' coordinates.*InfluencerS3DISOneFormer3D"):
        decoder(x)
    decoder.eval()
    decoder.scene = where
    first = decoder(x)
    assert [len(starts) for starts in first["starts"]] == [10, 10] and first["masks"][0].shape == (13, 60)
    order = torch.randperm(60, generator=generator)
    decoder.scene = Scene([where.coordinates[0][order], where.coordinates[1]])
    again = decoder([x[0][order], x[1]])
    torch.testing.assert_close(again["masks"][0], first["masks"][0][:, order])


def test_a_checkpoint_of_the_host_keeps_its_semantic_queries():
    theirs = QueryDecoder(**S3DIS)
    ours = InfluencerQueryDecoder(**S3DIS, start="voxels")
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not unexpected and all(name.startswith("query_proj") for name in missing)
    assert torch.equal(ours.query.weight, theirs.query.weight[-3:])


def test_a_checkpoint_of_the_host_fills_the_first_of_learned_sets():
    theirs, ours = QueryDecoder(**S3DIS), InfluencerQueryDecoder(**S3DIS, groups=3)
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not unexpected and missing == ["group_query.weight"]
    assert torch.equal(ours.query.weight, theirs.query.weight)


def test_the_first_of_superpoint_sets_is_the_hosts(x):
    ours = InfluencerScanNetQueryDecoder(**SCANNET, groups=3)
    theirs = ScanNetQueryDecoder(**SCANNET)
    theirs.load_state_dict(ours.state_dict())  # every name fits
    queries = [features[:20] for features in x]
    wanted, out = theirs(x, queries), ours(x, queries)
    for got, want in zip(every_layer(out), every_layer(wanted)):
        assert len(got) == 60
        torch.testing.assert_close(got[:20], want)
    for a, b in zip(out["sem_preds"], wanted["sem_preds"]):
        torch.testing.assert_close(a, b)
    ours.eval()
    assert [len(starts) for starts in out["starts"]] == [40, 40]
    for features, starts, masks in zip(x, out["starts"], out["masks"]):
        alone = copy.deepcopy(theirs)([features], [features[starts[20:]]])  # the third set, by the host alone
        torch.testing.assert_close(alone["masks"][0], masks[40:])


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("family", ["s3dis", "scannet"])
def test_pilots_do_not_touch_the_others(x, generator, groups, family):
    if family == "s3dis":
        decoder = InfluencerQueryDecoder(**S3DIS, start="voxels", groups=groups, pilots=True)
        queries, rows, keep = None, 10 * groups + 3, 10
    else:
        decoder = InfluencerScanNetQueryDecoder(**SCANNET, groups=groups, pilots=True)
        queries, rows, keep = [features[:20] for features in x], 20 * groups, 20
    decoder.scene = where = scene(generator, instances=(3, 0))
    torch.manual_seed(1)
    out = decoder(x, queries)
    assert [len(masks) for masks in out["masks"]] == [rows, rows]
    assert [masks.shape for masks in out["pilots"]["masks"]] == [(3, 60), (1, 45)]
    assert len(out["pilots"]["aux_outputs"]) == 2
    decoder.pilots = False
    decoder.scene = where
    torch.manual_seed(1)
    alone = decoder(x, queries)
    for a, b in zip(every_layer(out), every_layer(alone)):
        torch.testing.assert_close(a[:keep], b[:keep])
    decoder.pilots = True
    with pytest.raises(ValueError, match="needs the instances of a training step|needs the voxels' coordinates"):
        decoder(x, queries)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 0}, "groups must be a positive integer, got 0"),
        ({"pilots": True}, "pilots start from voxels, give start='voxels' too"),
        ({"start": "far"}, r"start must be one of \('learned', 'voxels'\), got 'far'"),
        ({"start": "voxels", "pilots": True, "pilot_noise": 1.0}, r"pilot_noise must be in \[0, 1\), got 1.0"),
    ],
)
def test_misuse(options, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(type="InfluencerQueryDecoder", **S3DIS, **options))


def test_registered_names_build_our_classes():
    assert isinstance(MODELS.build(dict(type="InfluencerScanNetQueryDecoder", **SCANNET)), ScanNetQueryDecoder)
    assert InfluencerS3DISOneFormer3D.__mro__[1].__name__ == "S3DISOneFormer3D"
    with pytest.raises(ValueError, match="queries are superpoints"):
        InfluencerScanNetQueryDecoder(**{**SCANNET, "num_semantic_queries": 3})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["s3dis", "scannet"])
def test_autocast(x, generator, dtype, family):
    if family == "s3dis":
        decoder, queries = InfluencerQueryDecoder(**S3DIS, start="voxels", groups=2, pilots=True), None
    else:
        decoder = InfluencerScanNetQueryDecoder(**SCANNET, groups=2, pilots=True)
        queries = [features[:20] for features in x]
    decoder.scene = scene(generator)
    with torch.autocast("cpu", dtype):
        out = decoder(x, queries)
    every = every_layer(out) + out.get("sem_preds", [])
    sum(value.float().sum() for value in every).backward()
    assert all(parameter.grad is not None for parameter in decoder.parameters())


def test_without_predictions_of_every_layer(x):
    """iter_pred=False: the host predicts after its last layer alone, and sets stay apart all the same."""
    options = {**S3DIS, "iter_pred": False, "attn_mask": False}
    ours, theirs = InfluencerQueryDecoder(**options, groups=3), QueryDecoder(**options)
    theirs.load_state_dict(ours.state_dict(), strict=False)
    out, wanted = ours(x), theirs(x)
    assert out["groups"] == 3 and "aux_outputs" not in out
    for got, want in zip(heads(out), heads(wanted)):
        assert len(got) == 3 * 10 + 3
        torch.testing.assert_close(torch.cat([got[:10], got[30:]]), want)
