"""What `InfluencerCriterion` is timed against: the host's criterion and literal loops of the geometric mean."""

from __future__ import annotations

import importlib
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from geomean import GeomeanCriterion
from influencer_mmdet3d import InfluencerCriterion
from mmengine.config import ConfigDict

Criterion = Callable[[dict[str, Any], list[Any]], dict[str, torch.Tensor]]
NAMES = (
    "influence triton", "influence graph", "autograd alone", "influence plain", "geomean", "host Hungarian",
    "literal loops",
)  # fmt: skip
NEEDS_GPU = NAMES[:2]


def build(name: str, num_classes: int) -> Criterion:
    """Return a competitor by its name in `NAMES`; "influence graph" is "influence triton", to be captured.

    "autograd alone" computes nothing: what torch itself needs to take that many tensors and hand back their gradients.

    Raises
    ------
    FileNotFoundError
        If the host is asked for and ONEFORMER3D_ROOT does not name its checkout.
    """
    if name == "geomean":
        return _each_group(GeomeanCriterion(num_classes))
    if name.startswith("influence"):
        return InfluencerCriterion(num_classes=num_classes, impl="plain" if name.endswith("plain") else "triton")
    if name == "autograd alone":
        return _Nothing()
    if name == "literal loops":
        return _each_group(literal_loops)
    costs = [
        dict(type="QueryClassificationCost", weight=0.5),
        dict(type="MaskBCECost", weight=1.0),
        dict(type="MaskDiceCost", weight=1.0),
    ]
    criterion = host_criteria().InstanceCriterion(
        matcher=ConfigDict(type="HungarianMatcher", costs=costs),
        loss_weight=[0.5, 1.0, 1.0, 0.5],
        non_object_weight=0.05,
        num_classes=num_classes,
        fix_dice_loss_weight=True,
        iter_matcher=True,
        fix_mean_loss=True,
    )
    return _each_group(criterion)


def _each_group(criterion: Criterion) -> Criterion:
    """Let a criterion that knows no groups take each group of queries for a sample."""

    def parts(layer: dict[str, Any], groups: int) -> dict[str, Any]:
        return {key: [part for x in layer[key] for part in x.chunk(groups)] for key in ("cls_preds", "masks", "scores")}

    def call(pred: dict[str, Any], insts: list[Any]) -> dict[str, torch.Tensor]:
        groups = pred["groups"]
        aux = [parts(layer, groups) for layer in pred["aux_outputs"]]
        return criterion({**parts(pred, groups), "aux_outputs": aux}, [inst for inst in insts for _ in range(groups)])

    return call


class _Nothing:
    """A criterion of one differentiable function, whose gradients were made before the first step."""

    def __init__(self) -> None:
        self.gradients: list[torch.Tensor] = []

    def __call__(self, pred: dict[str, Any], insts: list[Any]) -> dict[str, torch.Tensor]:
        layers = [*pred["aux_outputs"], pred]
        heads = [head for key in ("masks", "cls_preds", "scores") for layer in layers for head in layer[key]]
        if not self.gradients:
            self.gradients = [torch.zeros_like(head) for head in heads]
        return {"inst_loss": _HandBack.apply(self.gradients, *heads)}


class _HandBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradients: list[torch.Tensor], *heads: torch.Tensor) -> torch.Tensor:
        ctx.gradients = gradients
        return heads[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, d_loss: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return None, *ctx.gradients


def host_criteria() -> types.ModuleType:
    """Import the host's criteria alone: its package imports spconv and MinkowskiEngine, which criteria do not use."""
    folder = Path(os.environ.get("ONEFORMER3D_ROOT", "")) / "oneformer3d"
    if not (folder / "instance_criterion.py").is_file():
        raise FileNotFoundError("the host's criterion needs ONEFORMER3D_ROOT=<checkout of filaPro/oneformer3d>")
    if "oneformer3d" not in sys.modules:
        from mmdet3d.registry import MODELS, TASK_UTILS  # the host's need alone

        for registry in (MODELS, TASK_UTILS):
            registry._imported = True  # a build would import all of mmdet3d, and with it compiled ops
        package = types.ModuleType("oneformer3d")
        package.__path__ = [str(folder)]
        sys.modules["oneformer3d"] = package
    return importlib.import_module("oneformer3d.instance_criterion")


def literal_loops(pred: dict[str, Any], insts: list[Any]) -> dict[str, torch.Tensor]:
    """The formula of `geomean.py` as a reader would first write it: loops over layers, samples, instances and pairs."""
    total = torch.zeros(())
    for layer in [*pred["aux_outputs"], pred]:
        for classes, logits, inst in zip(layer["cls_preds"], layer["masks"], insts):
            prob = logits.float().sigmoid()
            profiles, attraction, mean_logits = [], [], []
            for mask in inst.sp_masks:
                log_prob = torch.log(prob[:, mask] + 1e-6).mean(1)
                profiles.append(log_prob.exp())
                attraction.append(-torch.logsumexp(log_prob, 0))
                mean_logits.append(logits[:, mask].float().mean(1))
            hinge = []
            for i in range(len(profiles)):
                for j in range(i):
                    hinge.append((1.0 - (profiles[i] - profiles[j]).norm()).clamp_min(0))
            outside = ~inst.sp_masks.any(0)
            best, instance = torch.stack(mean_logits, 1).max(1)
            none = classes.shape[1] - 1
            label = torch.where(best > 0, inst.labels_3d[instance], torch.full_like(instance, none))
            total = total.to(prob) + (
                torch.stack(attraction).mean()
                + 0.1 * torch.stack(hinge).mean()
                + 0.1 * (prob[:, outside].mean() if outside.any() else 0.0)
                + 0.5 * F.cross_entropy(classes.float(), label)
            )
    return {"inst_loss": total}
