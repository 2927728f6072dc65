"""A frozen teacher inside a loss: the student keeps the teacher's metric scale.

Both names can stand in a criterion string, so that no training loop needs to know of the teacher. The host optimises
and saves its model only; a criterion's weights are neither trained nor in its checkpoints.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mapanything.train.losses import MultiLoss
from torch import nn

from mapanything_opv2v.checkpoints import storage
from mapanything_opv2v.losses import scene_size

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

Views = list[dict[str, Any]]


class OPV2VTeacher(nn.Module):
    """A model of the host that only predicts: loaded once, always in eval mode, without gradients.

    It draws its random numbers from a stream of its own, so that the student's run is the same with and without it.

    Parameters
    ----------
    checkpoint : str or Path
        A checkpoint of the host (its key `model`) or a state dict; tensors and plain values only, no code is run.
    model_str : str
        A name of the host's model factory.
    model_config : dict
        The model's constructor arguments, as in the host's model configs. `pretrained_checkpoint_path` is not used.
    amp_dtype : str
        `fp32`, `bf16` or `fp16`: precision of its forward pass.

    Raises
    ------
    ValueError
        No checkpoint, an unknown `amp_dtype`, or weights that do not fit the model.
    FileNotFoundError
        No such checkpoint.
    """

    def __init__(
        self, *, checkpoint: str | Path | None, model_str: str, model_config: Mapping[str, Any], amp_dtype: str = "bf16"
    ) -> None:
        super().__init__()
        if amp_dtype not in _DTYPES:
            raise ValueError(f"{type(self).__name__}: amp_dtype={amp_dtype!r}, expected one of {', '.join(_DTYPES)}")
        if checkpoint is None:
            raise ValueError(f"{type(self).__name__}: no checkpoint; set loss.opv2v.teacher.checkpoint=PATH")
        self.checkpoint, self.dtype = str(checkpoint), _DTYPES[amp_dtype]
        if not Path(checkpoint).is_file():
            raise FileNotFoundError(f"{type(self).__name__}: checkpoint={checkpoint} is not a file")
        from mapanything.models import model_factory

        arguments = {**copy.deepcopy(dict(model_config)), "pretrained_checkpoint_path": None}
        with torch.random.fork_rng(devices=[]):
            self.model = model_factory(model_str, **arguments)
        loaded = storage.load(checkpoint, map_location="cpu")
        try:
            self.model.load_state_dict(loaded.get("model", loaded))
        except RuntimeError as error:
            raise ValueError(
                f"{type(self).__name__}: the weights of {checkpoint} are not those of {model_str} with this "
                f"model_config; give the teacher's own. {error}"
            ) from error
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> OPV2VTeacher:
        """Stay in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, batch: Views) -> Views:
        """Return the teacher's predictions for the student's batch."""
        device = batch[0]["img"].device
        devices = [device] if device.type == "cuda" else []
        with (
            torch.random.fork_rng(devices=devices),
            torch.autocast(device.type, dtype=self.dtype, enabled=self.dtype is not torch.float32),
        ):
            return self.model([dict(view) for view in batch])


class OPV2VScaleDistillationLoss(MultiLoss):
    """The student's scene has the metric size of the teacher's.

    ``|log s - log t|``, mean over samples. s and t are the mean distances, metres, of the student's and the
    teacher's points from view 0, over the pixels that show a surface (`non_ambiguous_mask`) of all views. The factor
    alone would not do: what it multiplies may have another size in the student than in the teacher. As in the host's
    scale loss, gradients reach the student's `metric_scaling_factor` only, never its geometry. No true depth is used.

    Parameters
    ----------
    teacher : nn.Module
        Takes the batch and returns the host's predictions; an `OPV2VTeacher`.
    """

    def __init__(self, teacher: nn.Module) -> None:
        super().__init__()
        self.teacher = teacher.requires_grad_(False).eval()

    def get_name(self) -> str:
        """Return the name with the teacher's file."""
        return f"{type(self).__name__}({type(self.teacher).__name__}({getattr(self.teacher, 'checkpoint', '')!r}))"

    def train(self, mode: bool = True) -> OPV2VScaleDistillationLoss:
        """Leave the teacher in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def compute_loss(self, batch: Views, preds: Views, **kw: Any) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the mean over samples and what is logged."""
        with torch.no_grad():
            taught = self.teacher(batch)
        masks = [view["non_ambiguous_mask"] for view in batch]
        factor = preds[0]["metric_scaling_factor"]
        points = [pred["pts3d"].detach() / factor.detach()[..., None, None] for pred in preds]
        raw_size, known = scene_size(points, masks)
        teacher_size, _ = scene_size([pred["pts3d"].float() for pred in taught], masks)
        ratio = torch.log(raw_size * factor[:, 0]) - torch.log(teacher_size)
        number = known.sum().clamp(min=1)
        loss = torch.where(known, ratio.abs(), torch.zeros_like(ratio)).sum() / number
        mean_ratio = torch.where(known, ratio.detach(), torch.zeros_like(ratio)).sum() / number
        return loss, {type(self).__name__: float(loss.detach()), "scale_student_to_teacher": float(mean_ratio.exp())}
