"""`InfluencerCriterion`, a drop-in for the host's `inst_criterion`: `InfluencerSetLoss` in the host's format.

Shape legend: B samples, Q queries, N points, K instances, C classes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from mmengine.logging import print_log
from torch import Tensor

from influencer_mmdet3d.host.batch import WORDING, collect
from influencer_mmdet3d.host.groups import group_count, own_instance_only
from influencer_mmdet3d.host.options import CriterionOptions
from influencer_mmdet3d.loss.sample import Sample
from influencer_mmdet3d.loss.set_loss import InfluencerSetLoss


class InfluencerCriterion:
    """Instance criterion without bipartite matching.

    Parameters
    ----------
    **options
        See `influencer_mmdet3d.host.options.CriterionOptions`; `num_classes` is required. `recipe` names a set of
        them, see `influencer_mmdet3d.host.options.RECIPES`.

    Notes
    -----
    Plain object without parameters or buffers, as the host's criteria are. `InfluencerScheduleHook` changes options
    during training through `set_option`. What is learned is `influencer_mmdet3d.loss.set_loss.InfluencerSetLoss`.
    Groups of queries (see `influencer_mmdet3d.host.groups`) are supervised one by one and their losses are averaged.
    """

    def __init__(self, **options: Any) -> None:
        self._loss = InfluencerSetLoss.for_adapter(CriterionOptions.from_kwargs(**options), WORDING, _to_log)

    @property
    def options(self) -> CriterionOptions:
        """The options as they are now."""
        assert isinstance(self._loss.options, CriterionOptions)
        return self._loss.options

    def set_option(self, name: str, value: Any) -> None:
        """Change one option; raises ValueError as the constructor does."""
        self._loss.set_option(name, value)

    def __call__(self, pred: Mapping[str, Any], insts: Sequence[Any]) -> dict[str, Tensor]:
        """Return the loss and its parts.

        Parameters
        ----------
        pred : mapping
            The decoder's output: lists of B tensors `cls_preds` (Q, C + 1), `masks` (Q, N) logits, `scores` (Q, 1) or
            None, and `aux_outputs`, a list of the same for earlier layers. Q, N and K may differ between samples. Our
            own decoders add what `influencer_mmdet3d.host.groups` describes.
        insts : sequence
            B objects with `sp_masks` (K, N) bool with exclusive rows, `labels_3d` (K,) and, optionally, `query_masks`
            (K, Q) bool. K may be 0 and rows may be empty.

        Returns
        -------
        dict
            `inst_loss`, the total over layers, and detached diagnostics of the last layer, named without "loss" so
            that mmengine logs but does not add them. `inst_pilots` is the loss of denoising queries, which is part of
            the total.

        Raises
        ------
        ValueError, FloatingPointError
            As `InfluencerSetLoss` does, in the host's words.
        """
        samples = collect(pred, insts, self.options.num_classes)
        result = {f"inst_{name}": value for name, value in self._loss(samples, group_count(pred)).items()}
        if pred.get("pilots") is not None:
            pilots = self._loss(self._pilots(pred["pilots"], samples))["loss"]
            result["inst_loss"] = result["inst_loss"] + self.options.pilot_weight * pilots
            result["inst_pilots"] = pilots.detach().clone()
        return result

    def check_values(self) -> None:
        """Wait for the calls so far and raise what the next one would have reported."""
        self._loss.check_values()

    def _pilots(self, pred: Mapping[str, Any], samples: Sequence[Sample]) -> list[Sample]:
        """Return the samples of denoising queries: each may answer for its own instance alone."""
        insts = [SimpleNamespace(sp_masks=sample.targets, labels_3d=sample.labels) for sample in samples]
        for inst, masks in zip(insts, pred["masks"]):
            inst.query_masks = own_instance_only(len(inst.labels_3d), len(masks), masks.device)
        return collect(pred, insts, self.options.num_classes)


def _to_log(message: str, level: int = logging.INFO) -> None:
    print_log(message, logger="current", level=level)
