"""The demo's model: encoder, decoder and a criterion from the config, as the host puts them together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor

from influencer_mmdet3d.demo.dataset import instance_masks
from influencer_mmdet3d.demo.decoder import MaskedQueryDecoder, farthest_points
from influencer_mmdet3d.demo.encoder import VoxelUNet
from influencer_mmdet3d.demo.predict import Prediction, predict


@dataclass(frozen=True)
class Targets:
    """What the criteria read of the host's instance data; `query_masks` (K, Q) are the start masks."""

    sp_masks: Tensor
    labels_3d: Tensor
    query_masks: Tensor | None = None


@MODELS.register_module()
class DemoSegmentor(BaseModel):
    """A small query segmentor on points.

    Parameters
    ----------
    criterion : dict
        Config of the criterion, called as ``criterion(pred, insts)`` like the host's ``inst_criterion``.
    num_classes : int
        Instance classes.
    encoder, decoder : dict, optional
        Further arguments of `VoxelUNet` and `MaskedQueryDecoder`.
    test : dict, optional
        Further arguments of `predict`.
    start_masks : bool
        Tell the criterion in training which queries start inside which instance, as the host does for ScanNet. An
        instance without such a query is open to all. A criterion that has no use for it ignores it.
    """

    def __init__(
        self,
        criterion: dict[str, Any],
        num_classes: int = 13,
        encoder: dict[str, Any] | None = None,
        decoder: dict[str, Any] | None = None,
        test: dict[str, Any] | None = None,
        start_masks: bool = False,
    ) -> None:
        super().__init__()
        width = (decoder or {}).get("width", 64)
        self.encoder = VoxelUNet(out_channels=width, **(encoder or {}))
        self.decoder = MaskedQueryDecoder(num_classes, **(decoder or {}))
        self.criterion = MODELS.build(criterion)
        self.test, self.start_masks = dict(test or {}), start_masks

    def forward(
        self,
        points: list[Tensor],
        semantic: list[Tensor] | None = None,
        instance: list[Tensor] | None = None,
        name: list[str] | None = None,
        mode: str = "tensor",
    ) -> Any:
        """Return losses (mode 'loss'), predictions for every room ('predict') or the decoder's output ('tensor').

        Parameters
        ----------
        points : list of Tensor
            B x (N, 6): metres from the room's corner, colours -1 to 1; the same N in a batch.
        semantic, instance : list of Tensor, optional
            B x (N,): labels, and instances from 0 without gaps.
        name : list of str, optional
            Names of the rooms.
        mode : {'tensor', 'loss', 'predict'}
            What to return.
        """
        if len({len(sample) for sample in points}) != 1:
            raise ValueError(f"rooms of a batch need the same number of points, got {[len(p) for p in points]}")
        stacked = torch.stack(points)
        seeds = farthest_points(stacked[..., :3], self.decoder.num_queries)
        pred = self.decoder(self.encoder(stacked), stacked[..., :3], seeds)
        if mode == "tensor":
            return pred
        if mode == "predict":
            layers = zip(pred["cls_preds"], pred["masks"], pred["scores"])
            found: list[Prediction] = [predict(*heads, **self.test) for heads in layers]
            return [
                {
                    "name": name[i] if name else str(i),
                    "semantic": semantic[i],
                    "instance": instance[i],
                    "found": found[i],
                }
                if semantic is not None and instance is not None
                else {"name": name[i] if name else str(i), "found": found[i]}
                for i in range(len(points))
            ]
        if mode != "loss":
            raise ValueError(f"mode must be 'tensor', 'loss' or 'predict', got {mode!r}")
        if semantic is None or instance is None:
            raise ValueError("mode 'loss' needs semantic and instance")
        insts = [self._targets(*room) for room in zip(instance, semantic, seeds)]
        return self.criterion(_as_lists(pred), insts)

    def _targets(self, instance: Tensor, semantic: Tensor, seeds: Tensor) -> Targets:
        """Return the instances of one room (N,), with start masks if they are asked for."""
        masks, labels = instance_masks(instance, semantic)
        if not self.start_masks:
            return Targets(masks, labels)
        inside = masks[:, seeds]
        return Targets(masks, labels, inside | ~inside.any(1, keepdim=True))


def _as_lists(pred: dict[str, Any]) -> dict[str, Any]:
    """Turn batched heads into the host's lists of samples."""
    layers = [{key: list(layer[key]) for key in ("cls_preds", "masks", "scores")} for layer in
              (*pred["aux_outputs"], pred)]  # fmt: skip
    return {**layers[-1], "aux_outputs": layers[:-1]}
