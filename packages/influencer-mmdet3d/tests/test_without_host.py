"""docs/without-host.md: its blocks are run, and its adapters meet stand-ins with the public models' formats."""

import re
from pathlib import Path

import pytest
import torch
from influencer_mmdet3d import InfluencerSetLoss, Sample

PAGE = Path(__file__).parents[3] / "docs" / "influencer-mmdet3d" / "without-host.md"
QUERIES, CLASSES, POINTS, LAYERS = 12, 4, (40, 30), 3


@pytest.fixture(scope="module")
def shown():
    """Everything that the page's blocks define, run in their order."""
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S):
        exec(compile(block, str(PAGE), "exec"), names)
    return names


class Queries(torch.nn.Module):
    """A set of learned queries over fixed points: the smallest model with the heads of the public ones."""

    def __init__(self, generator):
        super().__init__()
        size = (LAYERS, QUERIES)

        def weight(*shape):
            return torch.nn.Parameter(0.3 * torch.randn(*size, *shape, generator=generator))

        self.masks = torch.nn.ParameterList([weight(points) for points in POINTS])
        self.classes, self.scores, self.boxes = weight(CLASSES + 1), weight(1), weight(3)

    def heads(self, layer):
        together = [x[layer].expand(len(POINTS), -1, -1) for x in (self.classes, self.scores, self.boxes)]
        return [x[layer] for x in self.masks], *together


class Mask3D(Queries):
    """`pred_logits` (B, Q, C + 1) and `pred_masks`, a list of (N, Q)."""

    def forward(self):
        layers = []
        for layer in range(LAYERS):
            masks, classes, _, _ = self.heads(layer)
            layers.append({"pred_logits": classes, "pred_masks": [x.T for x in masks]})
        return {**layers[-1], "aux_outputs": layers[:-1], "sampled_coords": None, "backbone_features": None}


class SPFormer(Queries):
    """`labels` (B, Q, C + 1), `scores` (B, Q, 1) and `masks`, a list of (Q, superpoints)."""

    boxes_too = False

    def forward(self):
        layers = []
        for layer in range(LAYERS):
            masks, classes, scores, boxes = self.heads(layer)
            layers.append({"labels": classes, "masks": masks, "scores": scores})
            if self.boxes_too:
                layers[-1]["bboxes"] = boxes
        return {**layers[-1], "aux_outputs": layers[:-1]}


class MAFT(SPFormer):
    boxes_too = True


class Instances:
    """SPFormer's targets: a length, `gt_labels`, `gt_spmasks`, and MAFT's `gt_bboxes`; an empty one has none."""

    def __init__(self, masks, labels):
        self.count = len(labels)
        if self.count:
            self.gt_spmasks, self.gt_labels = masks.int(), labels
            self.gt_bboxes = torch.arange(6.0 * self.count).view(self.count, 6) / 10

    def __len__(self):
        return self.count


def scenes(last_is_empty=False):
    masks = [torch.nn.functional.one_hot(torch.arange(n) // 10, n // 10).bool().T for n in POINTS]
    labels = [torch.tensor([0, 3, 3, 1]), torch.tensor([2, 0, 1])]
    if last_is_empty:
        masks[1], labels[1] = masks[1][:0], labels[1][:0]
    return masks, labels


def samples(model, masks, labels, scores=True):
    made = []
    for index in range(len(POINTS)):
        parts = [model.heads(layer) for layer in range(LAYERS)]
        heads = ([part[0][index] for part in parts], [part[1][index] for part in parts], [x[2][index] for x in parts])
        made.append(Sample(heads[0], masks[index], labels[index], heads[1], heads[2] if scores else ()))
    return made


def mask3d_targets(masks, labels):
    return [{"masks": mask, "labels": label} for mask, label in zip(masks, labels)]


def test_mask3d_gets_the_plain_loss(shown, generator):
    model, (masks, labels) = Mask3D(generator), scenes()
    expected = InfluencerSetLoss(num_classes=CLASSES)(samples(model, masks, labels, scores=False))["loss"]
    ignored = masks[0].any(0, keepdim=True) & False
    targets = mask3d_targets(masks, labels)
    targets[0] = {"masks": torch.cat([masks[0], ignored]), "labels": torch.cat([labels[0], torch.tensor([253])])}
    loss = shown["Mask3DLoss"](CLASSES)(model(), targets)["loss_influencer"]
    torch.testing.assert_close(loss, expected)
    targets = [{"segment_mask": target["masks"], "labels": target["labels"]} for target in targets]
    torch.testing.assert_close(shown["Mask3DLoss"](CLASSES)(model(), targets, "segment_mask")["loss_influencer"], loss)


@pytest.mark.parametrize("empty", [False, True])
def test_spformer_gets_the_plain_loss(shown, generator, empty):
    model, (masks, labels) = SPFormer(generator), scenes(empty)
    expected = InfluencerSetLoss(num_classes=CLASSES)(samples(model, masks, labels))["loss"]
    loss, log = shown["SPFormerLoss"](CLASSES)(model(), [Instances(*scene) for scene in zip(masks, labels)])
    torch.testing.assert_close(loss, expected)
    assert log["loss"] == pytest.approx(expected.item()) and "own_query_share" in log


def test_maft_adds_the_distance_of_centres(shown, generator):
    """One layer, one query that fits: its centre is (0, 0, 0) and the instance's (0, 0.1, 0.2), so 0.3."""
    model = MAFT(generator)
    pred = {key: value for key, value in model().items() if key != "aux_outputs"}
    pred = {key: value[:1] for key, value in pred.items()}
    masks = scenes()[0][0][:1]
    pred["masks"] = [torch.where(torch.arange(QUERIES)[:, None] == 5, 9.0 * (2 * masks - 1.0), -9.0)]
    pred["bboxes"] = torch.ones(1, QUERIES, 3)
    pred["bboxes"][0, 5] = 0
    inst = [Instances(masks, torch.tensor([0]))]
    with_, without = (shown["MAFTLoss"](CLASSES, center_weight=weight)(pred, inst)[0] for weight in (2.0, 0.0))
    assert (with_ - without).item() == pytest.approx(0.6)


@pytest.mark.parametrize("name", ["Mask3D", "SPFormer", "MAFT"])
def test_each_trains_and_reaches_every_head(shown, generator, name):
    model, (masks, labels) = globals()[name](generator), scenes()
    loss = shown[f"{name}Loss"](CLASSES)
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    targets = mask3d_targets(masks, labels) if name == "Mask3D" else [Instances(*s) for s in zip(masks, labels)]
    for step in range(150):
        optimizer.zero_grad()
        out = loss(model(), targets)
        total = out["loss_influencer"] if name == "Mask3D" else out[0]
        total.backward()
        if step == 0:
            used = {"Mask3D": ("masks", "classes"), "SPFormer": ("masks", "classes", "scores")}
            for head in used.get(name, ("masks", "classes", "scores", "boxes")):
                assert all(p.grad.isfinite().all() and p.grad.any() for k, p in model.named_parameters() if head in k)
        optimizer.step()
    for index, targets_of in enumerate(masks):
        found = model.masks[index][-1] > 0
        assert all(any(torch.equal(row, target) for row in found) for target in targets_of)
