"""The demo's dataset, matching, prediction, metric and comparison, each against a hand-made or brute-force case."""

import importlib.util
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from influencer_mmdet3d.data.rooms import CLASSES
from influencer_mmdet3d.data.synthetic import write_s3dis
from influencer_mmdet3d.demo import metric
from influencer_mmdet3d.demo.compare import WRONG, prediction, truth
from influencer_mmdet3d.demo.dataset import DemoRoomDataset, collate, instance_masks
from influencer_mmdet3d.demo.hungarian import DemoHungarianCriterion
from influencer_mmdet3d.demo.predict import Prediction, predict


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    root = tmp_path_factory.mktemp("rooms")
    write_s3dis(root, areas=[1], rooms_per_area=3, seed=0, points_per_room=1_500, objects=(5, 8))
    return root


def test_samples_depend_on_seed_and_index_only(rooms):
    samples = DemoRoomDataset(str(rooms), [1], num_points=300, length=10, seed=5)
    later = samples[7]
    again = DemoRoomDataset(str(rooms), [1], num_points=300, length=10, seed=5)[7]
    other = DemoRoomDataset(str(rooms), [1], num_points=300, length=10, seed=6)[7]
    assert len(samples) == 10
    assert later["name"] == "Area_1_room_2"
    assert torch.equal(later["points"], again["points"])
    assert not torch.equal(later["points"], other["points"])


def test_samples_keep_geometry_and_labels(rooms):
    sample = DemoRoomDataset(str(rooms), [1], num_points=600, length=40, seed=0)[30]
    whole = DemoRoomDataset(str(rooms), [1])[0]
    assert whole["points"].shape == (1500, 6)
    assert sample["points"][:, :3].min(0).values.tolist() == [0, 0, 0]
    assert sample["points"][:, 3:].abs().max() <= 1
    # turned, mirrored and stretched by up to 10 %: the sorted extents keep their ratio
    extent, wanted = (torch.sort(np_extent(room)[:2]).values for room in (sample, whole))
    ratio = (extent / wanted).tolist()
    assert 0.85 < ratio[0] < 1.15 and ratio[0] == pytest.approx(ratio[1], abs=0.03)
    for number in sample["instance"].unique():
        assert len(sample["semantic"][sample["instance"] == number].unique()) == 1
    assert sample["instance"].unique().tolist() == list(range(int(sample["instance"].max()) + 1))


def np_extent(room):
    return room["points"][:, :3].max(0).values - room["points"][:, :3].min(0).values


def test_dataset_refuses(rooms, tmp_path):
    with pytest.raises(ValueError, match="num_points=9999, but a room in .* has only 1500 points"):
        DemoRoomDataset(str(rooms), [1], num_points=9999)
    with pytest.raises(ValueError, match=r"has no rooms in areas \[\]"):
        DemoRoomDataset(str(rooms), [])


def test_collate_and_masks():
    batch = collate([{"points": 1, "name": "a"}, {"points": 2, "name": "b"}])
    assert batch == {"points": [1, 2], "name": ["a", "b"]}
    masks, labels = instance_masks(torch.tensor([0, 1, 1, 2]), torch.tensor([4, 7, 7, 0]))
    assert masks.int().tolist() == [[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
    assert labels.tolist() == [4, 7, 0]


def pred_of(classes, masks, scores):
    return {"cls_preds": [classes], "masks": [masks], "scores": [scores], "aux_outputs": []}


def test_hungarian_against_all_assignments():
    torch.manual_seed(0)
    queries, points, instances, classes = 5, 30, 3, 4
    logits, masks, scores = torch.randn(queries, classes + 1), torch.randn(queries, points), torch.randn(queries, 1)
    wanted = F.one_hot(torch.arange(points) % 4, 4).T[:instances].bool()
    inst = SimpleNamespace(sp_masks=wanted, labels_3d=torch.tensor([1, 0, 3]))
    weight = (0.5, 1.0, 1.0, 0.5)

    def pair(query, instance):
        target = wanted[instance].float()
        p = masks[query].sigmoid()
        bce = F.binary_cross_entropy_with_logits(masks[query], target)
        dice = 1 - (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)
        return bce, dice, (p * target).sum() / (p + target - p * target).sum()

    def cost(query, instance):
        bce, dice, _ = pair(query, instance)
        return bce + dice - 0.5 * logits[query].softmax(0)[inst.labels_3d[instance]]

    best = min(itertools.permutations(range(queries), instances), key=lambda order: sum(map(cost, order, range(3))))
    labels = torch.full((queries,), classes)
    labels[list(best)] = inst.labels_3d
    class_weight = torch.tensor([1.0, 1, 1, 1, 0.05])
    parts = [pair(query, instance) for instance, query in enumerate(best)]
    expected = weight[0] * F.cross_entropy(logits, labels, class_weight)
    expected += torch.stack([bce + dice for bce, dice, _ in parts]).mean()
    iou = torch.stack([part[2] for part in parts])
    expected += weight[3] * (scores[list(best), 0] - iou).square().mean()
    found = DemoHungarianCriterion(classes, weight)(pred_of(logits, masks, scores), [inst])
    assert found.keys() == {"inst_loss"}
    torch.testing.assert_close(found["inst_loss"], expected)


def test_hungarian_sums_layers_and_means_samples():
    torch.manual_seed(0)
    inst = SimpleNamespace(sp_masks=F.one_hot(torch.arange(20) // 10, 2).T.bool(), labels_3d=torch.tensor([0, 1]))
    one = pred_of(torch.randn(4, 3), torch.randn(4, 20), torch.randn(4, 1))
    criterion = DemoHungarianCriterion(2)
    single = criterion(one, [inst])["inst_loss"]
    twice = {key: value * 2 for key, value in one.items()}
    torch.testing.assert_close(criterion(twice, [inst, inst])["inst_loss"], single)
    deeper = {**one, "aux_outputs": [one, one]}
    torch.testing.assert_close(criterion(deeper, [inst])["inst_loss"], 3 * single)


def test_hungarian_without_instances_keeps_the_graph():
    inst = SimpleNamespace(sp_masks=torch.zeros(0, 20, dtype=torch.bool), labels_3d=torch.zeros(0, dtype=torch.long))
    heads = [torch.randn(4, 3), torch.randn(4, 20), torch.randn(4, 1)]
    for head in heads:
        head.requires_grad_()
    loss = DemoHungarianCriterion(2)(pred_of(*heads), [inst])["inst_loss"]
    loss.backward()
    assert heads[0].grad.any() and heads[1].grad is not None and heads[2].grad is not None
    with pytest.raises(ValueError, match=r"loss_weight must hold 4 numbers .* got \[1.0\]"):
        DemoHungarianCriterion(2, [1.0])


def heads_of(rows, points=40):
    """Build heads from (class or None, score, slice of points)."""
    classes, masks, scores = torch.full((len(rows), 4), -9.0), torch.full((len(rows), points), -9.0), []
    for number, (label, score, where) in enumerate(rows):
        classes[number, 3 if label is None else label] = 9.0
        masks[number, where] = 9.0
        scores.append([score])
    return classes, masks, torch.tensor(scores)


def test_predict_ranks_suppresses_and_cuts():
    rows = [
        (0, 0.5, slice(0, 20)),
        (0, 0.9, slice(0, 18)),  # better, nearly the same mask and class: suppresses the first
        (1, 0.8, slice(0, 20)),  # another class: stays
        (2, 0.7, slice(30, 33)),  # too small
        (None, 0.9, slice(20, 40)),  # no object
        (0, -0.4, slice(20, 40)),  # negative score
    ]
    found = predict(*heads_of(rows), top=10, min_points=5, min_score=0.02)
    assert found.labels.tolist() == [0, 1]
    assert found.masks.sum(1).tolist() == [18, 20]
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.8]), atol=1e-3, rtol=0)
    assert len(predict(*heads_of(rows), top=10, min_points=5, nms_iou=1.0, min_score=0.02).labels) == 3
    assert len(predict(*heads_of(rows), top=1, min_points=5).labels) == 1
    assert len(predict(*heads_of([(None, 0.5, slice(0, 20))])).labels) == 0


def test_predict_matrix_nms_lowers_duplicates_by_hand():
    rows = [
        (0, 0.9, slice(0, 20)),
        (0, 0.8, slice(0, 16)),  # IoU 0.8 with the best
        (0, 0.7, slice(4, 16)),  # IoU 0.6 with the best, 0.75 with the second, itself a duplicate
        (1, 0.6, slice(0, 20)),  # another class
    ]
    left = predict(*heads_of(rows), nms="none", min_points=5)
    torch.testing.assert_close(left.scores, torch.tensor([0.9, 0.8, 0.7, 0.6]), atol=1e-3, rtol=0)
    found = predict(*heads_of(rows), nms="matrix", min_points=5)
    # (1 - 0.8) / (1 - 0) for the second; min(1 - 0.6, (1 - 0.75) / (1 - 0.8)) for the third
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.6, 0.7 * 0.4, 0.8 * 0.2]), atol=2e-3, rtol=0)
    assert found.masks.sum(1).tolist() == [20, 20, 12, 16]
    assert found.labels.tolist() == [0, 1, 0, 0]
    assert len(predict(*heads_of(rows), nms="matrix", min_points=5, min_score=0.2).labels) == 3
    assert len(predict(*heads_of([(None, 0.5, slice(0, 20))]), nms="matrix").labels) == 0
    with pytest.raises(ValueError, match="nms must be one of .* got 'soft'"):
        predict(*heads_of(rows), nms="soft")


def scene(found):
    """Two tables of 60 points, a floor of 100."""
    semantic = torch.tensor([7] * 120 + [1] * 100)
    instance = torch.tensor([0] * 60 + [1] * 60 + [2] * 100)
    return {"name": "scene", "semantic": semantic, "instance": instance, "found": found}


def found_of(*rows):
    masks = torch.zeros(len(rows), 220, dtype=torch.bool)
    for number, (_, _, start, stop) in enumerate(rows):
        masks[number, start:stop] = True
    labels = torch.tensor([row[0] for row in rows], dtype=torch.long)
    return Prediction(masks, labels, torch.tensor([row[1] for row in rows], dtype=torch.float))


def test_average_precision_by_hand():
    perfect = scene(found_of((7, 0.9, 0, 60), (7, 0.8, 60, 120), (1, 0.7, 120, 220)))
    values = metric.average_precision([perfect], CLASSES)
    assert (values["ap"], values["ap50"], values["ap25"]) == pytest.approx((1, 1, 1))
    assert {key for key in values if "/" in key} == {"ap50/floor", "ap50/table"}
    # one of two tables found, no floor: AP50 of tables 0.5 (recall 0.5 at precision 1), of floors 0
    half = scene(found_of((7, 0.9, 0, 60)))
    values = metric.average_precision([half], CLASSES)
    assert values["ap50/table"] == pytest.approx(0.5)
    assert values["ap50/floor"] == 0
    assert values["ap50"] == pytest.approx(0.25)
    # a mask of IoU 0.68 counts at 0.50, 0.55, 0.60 and 0.65 of the nine thresholds from 0.50 to 0.90
    loose = scene(found_of((7, 0.9, 0, 60), (7, 0.8, 60, 120), (1, 0.7, 120, 188)))
    assert metric.average_precision([loose], CLASSES)["ap"] == pytest.approx((1 + 4 / 9) / 2)
    # tables have 60 points: with a limit of 80 only the floor counts, and its mask is too small
    assert metric.average_precision([loose], CLASSES, min_points=80)["ap50"] == 0


def test_average_precision_with_a_numpy_without_in1d(monkeypatch):
    monkeypatch.delattr(np, "in1d", raising=False)
    monkeypatch.setattr(metric, "scannet_eval", metric.scannet_eval.__wrapped__)
    perfect = scene(found_of((7, 0.9, 0, 60), (7, 0.8, 60, 120), (1, 0.7, 120, 220)))
    assert metric.average_precision([perfect], CLASSES)["ap"] == pytest.approx(1)


def test_a_wrong_class_is_no_hit():
    values = metric.average_precision([scene(found_of((8, 0.9, 0, 60), (7, 0.5, 60, 120)))], CLASSES)
    assert values["ap25"] == pytest.approx(0.25)  # tables 0.5, floor 0; chairs have no truth and do not count


def test_metric_keeps_the_rooms_of_the_last_evaluation():
    one = metric.DemoInstanceMetric(CLASSES)
    one.process(None, [scene(found_of((7, 0.9, 0, 60)))])
    values = one.evaluate(1)
    assert values["val/ap50"] == pytest.approx(0.25)
    assert [room["name"] for room in one.rooms] == ["scene"]


def test_metric_without_mmdet3d(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install --no-deps mmdet3d==1.4.0"):
        metric.scannet_eval.__wrapped__()


def test_metric_does_not_import_mmdet3d():
    import sys

    metric.scannet_eval()
    assert "mmdet3d" not in sys.modules or hasattr(sys.modules["mmdet3d"], "__version__")


def test_comparison_by_hand():
    shown = prediction(
        scene(
            found_of(
                (7, 0.9, 0, 55),  # table 0
                (7, 0.1, 60, 120),  # table 1, but the room has three instances and this is the fourth mask
                (8, 0.7, 60, 120),  # wrong class
                (1, 0.6, 110, 220),  # floor; points 110 to 119 belong to a better mask
            )
        )
    )
    assert (shown.matched, shown.missed, shown.wrong) == (2, 1, 1)
    assert shown.instance[:55].tolist() == [0] * 55
    assert shown.instance[55:60].tolist() == [-1] * 5
    assert shown.instance[60:120].tolist() == [WRONG] * 60
    assert shown.instance[120:].tolist() == [2] * 100
    assert np.unique(shown.label[60:120]).tolist() == [8]
    assert np.unique(shown.label[55:60]).tolist() == [255]
    assert shown.scores == pytest.approx({0: 0.9, WRONG: 0.7, 2: 0.6})


def test_a_second_mask_for_an_instance_is_wrong():
    shown = prediction(scene(found_of((7, 0.9, 0, 55), (7, 0.8, 0, 60))))
    assert (shown.matched, shown.missed, shown.wrong) == (1, 2, 1)
    assert shown.instance[55:60].tolist() == [WRONG] * 5


def test_truth_and_nothing():
    true = truth(scene(found_of()))
    assert true.matched == 3 and np.unique(true.label).tolist() == [1, 7]
    nothing = prediction(scene(found_of()))
    assert (nothing.matched, nothing.missed, nothing.wrong) == (0, 3, 0)
    assert (nothing.instance == -1).all() and (nothing.label == 255).all()
