"""MapAnything up to its pose head, for a start (`+experiment=opv2v_start`)."""

from __future__ import annotations

import math
from typing import Any

import torch
from mapanything.models import MapAnything
from torch import nn

from mapanything_opv2v.host.losses.start import POINTS
from mapanything_opv2v.losses import UNIT_M

MODEL_NAME = "opv2v_start"
"""The model's name in the host's `MODEL_CONFIGS` and in configs."""

_LAYER = "patch_points"


class OPV2VStart(MapAnything):
    """MapAnything without its dense and scale heads, and a linear layer that tells where each patch is.

    The heads that do not run keep their weights, are not trained and are saved, so that a checkpoint holds a whole
    MapAnything beside the layer `patch_points`. A plain MapAnything's weights load, too. Without weights the scale head
    begins at `UNIT_M`, so that the next stage begins with the movements in metres that the start has learned.

    Parameters
    ----------
    **options
        The host's.

    Raises
    ------
    ValueError
        If the model has no pose head, or is asked for predictions.
    """

    def __init__(self, **options: Any) -> None:
        path = options.pop("pretrained_checkpoint_path", None)
        super().__init__(pretrained_checkpoint_path=None, **options)
        if self.pred_head_type != "dpt+pose":
            raise ValueError(
                f"{type(self).__name__}: model.pred_head is {self.pred_head_type!r}, which has no pose head; a start "
                "takes 'dpt+pose' (model/pred_head=dpt_pose_scale)"
            )
        if self.scale_adaptor.mode == "exp":
            nn.init.constant_(self.scale_head.output_proj.bias, math.log(UNIT_M))  # weights that load replace it
        self.patch_points = nn.Linear(self.info_sharing.dim, 3)
        self.register_load_state_dict_pre_hook(_add_missing)
        self.pretrained_checkpoint_path = path
        self.class_init_args |= {"pretrained_checkpoint_path": path}
        self._load_pretrained_weights()
        for module in (self.dense_head, self.scale_head):
            module.requires_grad_(False)

    def forward(self, views: list[dict[str, Any]], **_: Any) -> list[dict[str, torch.Tensor]]:
        """Return poses and points of patches, both in view 0's axes: see `OPV2VStartLoss`."""
        from uniception.models.info_sharing.base import MultiViewTransformerInput
        from uniception.models.prediction_heads.base import PredictionHeadInput

        kind, count = views[0]["img"].device.type, len(views)
        features, registers = self._encode_n_views(views)
        with torch.autocast(kind, enabled=False):
            features = self._encode_and_fuse_optional_geometric_inputs(views, features)
        shared = self.info_sharing(
            MultiViewTransformerInput(
                features=features,
                additional_input_tokens_per_view=registers,
                additional_input_tokens=self.scale_token[None, :, None].repeat(len(views[0]["img"]), 1, 1),
            )
        )
        last = shared if self.info_sharing_return_type == "no_intermediate_features" else shared[0]
        with torch.autocast(kind, enabled=False):
            seen = torch.cat(last.features).float()
            told = self.pose_head(PredictionHeadInput(last_feature=seen)).decoded_channels
            points = self.patch_points(seen.permute(0, 2, 3, 1))
        return [
            {"cam_trans": pose[:, :3] * UNIT_M, "cam_quats": pose[:, 3:], POINTS: where}
            for pose, where in zip(told.chunk(count), points.chunk(count))
        ]

    def infer(self, *_: Any, **__: Any) -> list[dict[str, torch.Tensor]]:
        """Refuse: a start has learned no ranges."""
        raise ValueError(
            f"{type(self).__name__}: a start predicts no ranges; train on from its weights, for example "
            "+experiment=opv2v_cylindrical model.pretrained=CHECKPOINT, and predict with what comes out"
        )


def _add_missing(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let weights of a plain MapAnything load: the layer of the points keeps its values."""
    for name, value in module.state_dict().items():
        if name.startswith(f"{_LAYER}."):
            state.setdefault(prefix + name, value.detach())
