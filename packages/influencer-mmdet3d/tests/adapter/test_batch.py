import pytest
import torch
from influencer_mmdet3d.host.batch import WORDING, collect
from influencer_mmdet3d.loss.padded import check_values
from scenes import make_batch


def changed(key, value, layer=None):
    """A batch with one entry of sample 1 replaced."""
    pred, insts = make_batch()
    (pred if layer is None else pred["aux_outputs"][layer])[key][1] = value
    return pred, insts


def test_lines_up_layers_and_samples():
    pred, insts = make_batch(query_masks=True)
    samples = collect(pred, insts, 13)
    assert [len(s.masks) for s in samples] == [3, 3]
    assert samples[1].masks[-1] is pred["masks"][1] and samples[1].masks[0] is pred["aux_outputs"][0]["masks"][1]
    assert samples[0].query_masks is insts[0].query_masks and len(samples[0].scores) == 3


def test_scores_may_be_missing():
    pred, insts = make_batch(scores=False)
    assert not collect(pred, insts, 13)[0].scores


def test_no_auxiliary_layers():
    pred, insts = make_batch(layers=1)
    del pred["aux_outputs"]
    assert len(collect(pred, insts, 13)[0].masks) == 1


def test_layer_names():
    assert WORDING.layer(0, 3) == "aux_outputs[0]" and WORDING.layer(2, 3) == "the last layer"


@pytest.mark.parametrize(
    "batch, message",
    [
        (
            changed("masks", torch.zeros(9, 44), 1),
            r"aux_outputs\[1\], sample 1: masks must have shape \(9, 45\).*\(9, 44\)",
        ),
        (changed("masks", torch.zeros(9, 44)), r"sample 1: masks must have shape \(9, 45\), got \(9, 44\)"),
        (
            changed("cls_preds", torch.zeros(9, 20)),
            r"cls_preds must have shape \(9, 14\) \(num_classes=13 and one column",
        ),
        (changed("scores", torch.zeros(9)), r"the last layer, sample 1: scores must have shape \(9, 1\), got \(9,\)"),
        (changed("scores", None), "sample 1: scores are None in 1 of 3 layers"),
        (
            changed("masks", torch.zeros(9, 45, dtype=torch.long)),
            "masks must be a floating-point tensor, got torch.int64",
        ),
    ],
)
def test_wrong_predictions_name_layer_sample_and_key(batch, message):
    with pytest.raises(ValueError, match=message):
        collect(*batch, 13)


def test_missing_keys_and_samples():
    pred, insts = make_batch()
    with pytest.raises(ValueError, match="the last layer: masks holds 2 samples, insts 1"):
        collect({**pred, "cls_preds": pred["cls_preds"][:1], "aux_outputs": []}, insts[:1], 13)
    with pytest.raises(ValueError, match="the last layer: no 'scores' in pred"):
        collect({"masks": pred["masks"], "cls_preds": pred["cls_preds"]}, insts, 13)


@pytest.mark.parametrize(
    "key, value, message",
    [
        (
            "sp_masks",
            torch.ones(3, 45, dtype=torch.long),
            r"insts\[1\].sp_masks must be a bool tensor.*torch.int64 \(3, 45\)",
        ),
        (
            "query_masks",
            torch.ones(3, 8, dtype=torch.bool),
            r"sample 1: query_masks must have shape \(3, 9\), got \(3, 8\)",
        ),
        ("labels_3d", torch.zeros(4, dtype=torch.long), r"one integer for each of the 3 rows of sp_masks"),
        ("labels_3d", torch.zeros(3), r"labels_3d must hold one integer.*got torch.float32"),
        ("sp_masks", None, r"insts\[1\] has no sp_masks"),
    ],
)
def test_wrong_instances(key, value, message):
    pred, insts = make_batch()
    setattr(insts[1], key, value)
    with pytest.raises(ValueError, match=message):
        collect(pred, insts, 13)


def test_values():
    pred, insts = make_batch()
    fine = [torch.ones(3, dtype=torch.bool)] * 2
    samples = collect(pred, insts, 13)
    check_values(samples, fine, 13, wording=WORDING)
    with pytest.raises(FloatingPointError, match=r"aux_outputs\[1\], sample 0: masks holds values that are not finite"):
        check_values(samples, [torch.tensor([True, False, True]), fine[1]], 13, wording=WORDING)
    insts[1].labels_3d[2] = 13
    with pytest.raises(ValueError, match=r"insts\[1\].labels_3d: instance 2 has label 13, expected 0..12"):
        check_values(collect(pred, insts, 13), fine, 13, wording=WORDING)


def test_scores_of_one_sample_only():
    pred, insts = make_batch()
    for layer in (pred, *pred["aux_outputs"]):
        layer["scores"][1] = None
    with pytest.raises(ValueError, match=r"scores are None for samples \[1\] of 2 only; give them for all or for none"):
        collect(pred, insts, 13)


def test_no_query():
    pred, insts = make_batch(queries=(12, 0))
    with pytest.raises(ValueError, match="sample 1: the decoder gave no query"):
        collect(pred, insts, 13)


@pytest.mark.parametrize("key", ["labels_3d", "sp_masks", "query_masks"])
def test_numpy_targets(key):
    pred, insts = make_batch(query_masks=True)
    setattr(insts[1], key, getattr(insts[1], key).numpy())
    with pytest.raises(
        ValueError, match=rf"insts\[1\]\.{key} must be a torch tensor, got numpy\.ndarray; convert with"
    ):
        collect(pred, insts, 13)


def test_overlapping_rows():
    pred, insts = make_batch()
    insts[0].sp_masks[:, 7] = False
    insts[0].sp_masks[[1, 3], 7] = True
    with pytest.raises(ValueError, match=r"insts\[0\]\.sp_masks: point 7 is in the instances \[1, 3\]; a point may"):
        collect(pred, insts, 13)


@pytest.mark.parametrize(("key", "shape"), [("sp_masks", (3, 45, 1)), ("sp_masks", (45,)), ("query_masks", (3, 9, 1))])
def test_masks_of_other_dimensions(key, shape):
    pred, insts = make_batch(query_masks=True)
    setattr(insts[1], key, torch.zeros(shape, dtype=torch.bool))
    with pytest.raises(ValueError, match=rf"insts\[1\]\.{key} must be a bool tensor"):
        collect(pred, insts, 13)


def test_too_few_labels():
    pred, insts = make_batch()
    insts[1].labels_3d = insts[1].labels_3d[:2]
    with pytest.raises(ValueError, match="one integer for each of the 3 rows of sp_masks"):
        collect(pred, insts, 13)
