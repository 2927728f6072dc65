"""A small stand-in for MapAnything's losses and model, written from the documented contract.

It has the names, signatures, keys and protocol that the plugin relies on, and only as much behaviour as makes a
difference to it. `tests/host` compares the plugin's classes on the real host.
"""

from __future__ import annotations

from copy import copy, deepcopy

import torch
from torch import nn


class MultiLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self._alpha, self._loss2 = 1, None

    def __mul__(self, alpha):
        weighted = copy(self)
        weighted._alpha = alpha
        return weighted

    __rmul__ = __mul__

    def __add__(self, other):
        first = last = copy(self)
        while last._loss2 is not None:
            last = last._loss2
        last._loss2 = other
        return first

    def __repr__(self):
        weight = "" if self._alpha == 1 else f"{self._alpha:g}*"
        return weight + self.get_name() + (f" + {self._loss2}" if self._loss2 else "")

    def forward(self, batch, preds, **kw):
        loss, details = self.compute_loss(batch, preds, **kw)
        loss = loss * self._alpha
        if self._loss2:
            other, more = self._loss2(batch, preds, **kw)
            loss, details = loss + other, details | more
        return loss, details


class BaseCriterion(nn.Module):
    def __init__(self, reduction="mean"):
        super().__init__()
        self.reduction = reduction


class RobustRegressionLoss(BaseCriterion):
    def __init__(self, alpha=0.5, scaling_c=0.25, reduction="mean"):
        super().__init__(reduction)

    def forward(self, a, b, factor=None):
        distance = (a - b).square().sum(-1)
        return distance if self.reduction == "none" else distance.mean()


class Criterion(nn.Module):
    def __init__(self, criterion=None):
        super().__init__()
        self.criterion = copy(criterion)

    def get_name(self):
        return f"{type(self).__name__}({self.criterion})"

    def with_reduction(self, mode="none"):
        other = deepcopy(self)
        other.criterion.reduction = mode
        return other


class FactoredGeometryScaleRegr3DPlusNormalGMLoss(Criterion, MultiLoss):
    """Camera points and gradient matching only; the second is z minus z, whatever the camera."""

    def __init__(
        self,
        criterion,
        norm_predictions=True,
        norm_mode="avg_dis",
        ambiguous_loss_value=0,
        loss_in_log=True,
        flatten_across_image_only=False,
        depth_type_for_loss="depth_along_ray",
        cam_frame_points_loss_weight=1,
        depth_loss_weight=1,
        ray_directions_loss_weight=1,
        pose_quats_loss_weight=1,
        pose_trans_loss_weight=1,
        scale_loss_weight=1,
        compute_absolute_pose_loss=True,
        compute_pairwise_relative_pose_loss=False,
        convert_predictions_to_view0_frame=False,
        compute_world_frame_points_loss=True,
        world_frame_points_loss_weight=1,
        apply_normal_and_gm_loss_to_synthetic_data_only=True,
        normal_loss_weight=1,
        gm_loss_weight=1,
    ):
        super().__init__(criterion)
        options = dict(locals())
        for name in ("self", "criterion", "__class__"):
            options.pop(name)
        vars(self).update(options)

    def get_all_info(self, batch, preds, dist_clip=None):
        valid = [view["valid_mask"].clone() for view in batch]
        ambiguous = [~view["non_ambiguous_mask"] & ~view["valid_mask"] for view in batch]
        return list(batch), list(preds), valid, ambiguous, None, None

    def compute_loss(self, batch, preds, **kw):
        truth, predicted, valid, *_ = self.get_all_info(batch, preds, **kw)
        points, steps, details = [], [], {}
        for i, (t, p) in enumerate(zip(truth, predicted)):
            points.append(self.criterion(p["pts3d_cam"].flatten(1, 2), t["pts3d_cam"].flatten(1, 2), factor="points"))
            gap = (p["pts3d_cam"] - t["pts3d_cam"])[..., 2].abs() * valid[i]
            steps.append(gap.mean() * self.gm_loss_weight)
            valid[i] = valid[i].flatten(1)  # the host changes its list too
            if steps[-1] > 0:
                details[f"{type(self).__name__}_gradient_matching_view{i + 1}"] = float(steps[-1])
        if points[0].ndim:
            terms = [(loss, mask, "cam_pts3d") for loss, mask in zip(points, valid)]
            return (*terms, *((loss, None, "gradient_matching") for loss in steps)), details
        return sum([*points, *steps]), details


class _Pixels(MultiLoss):
    """What the host's two reductions of pixel losses do here: the mean over each mask."""

    def __init__(self, pixel_loss, **options):
        super().__init__()
        self.pixel_loss, self.options = pixel_loss.with_reduction("none"), options

    def get_name(self):
        return f"{type(self).__name__}({self.pixel_loss})"

    def compute_loss(self, batch, preds, **kw):
        terms, details = self.pixel_loss(batch, preds, **kw)
        return sum((loss if mask is None else loss[mask]).mean() for loss, mask, _ in terms), details


class ConfAndExcludeTopNPercentPixelLoss(_Pixels):
    pass


class ExcludeTopNPercentPixelLoss(_Pixels):
    pass


class _Encoder(nn.Module):
    enc_embed_dim = 4

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, self.enc_embed_dim, 14, stride=14)


class MapAnything(nn.Module):
    """One linear layer after the encoder; every prediction depends on every view's features."""

    def __init__(self, name, pretrained_checkpoint_path=None, torch_hub_force_reload=False, **options):
        super().__init__()
        self.name, self.pretrained_checkpoint_path = name, pretrained_checkpoint_path
        self.class_init_args = {"name": name, "pretrained_checkpoint_path": pretrained_checkpoint_path}
        self.encoder, self.head = _Encoder(), nn.Linear(4, 1)
        self._load_pretrained_weights()

    def _load_pretrained_weights(self):
        if self.pretrained_checkpoint_path is not None:
            checkpoint = torch.load(self.pretrained_checkpoint_path, weights_only=False)
            self.load_state_dict(checkpoint["model"])

    def _encode_n_views(self, views):
        features = self.encoder.conv(torch.cat([view["img"] for view in views]))
        return features.chunk(len(views)), None

    def forward(self, views):
        torch.rand(3)  # the host draws which inputs to drop
        features, _ = self._encode_n_views(views)
        scale = torch.exp(self.head(torch.stack([item.mean((2, 3)) for item in features]).mean(0)))
        predictions = []
        for view in views:
            batch, _, height, width = view["img"].shape
            points = torch.ones(batch, height, width, 3) * scale[..., None, None]
            predictions.append({"pts3d": points, "metric_scaling_factor": scale})
        return predictions

    def infer(self, views, **options):
        for view in views:
            if unknown := set(view) - {"img", "data_norm_type"}:
                raise ValueError(f"invalid keys: {unknown}")
        return self.forward(views)


MODEL_CONFIGS = {"mapanything": {"class": MapAnything}}


def model_factory(model_str, **options):
    return MODEL_CONFIGS[model_str]["class"](**options)


LOSSES = (
    MultiLoss,
    BaseCriterion,
    RobustRegressionLoss,
    Criterion,
    FactoredGeometryScaleRegr3DPlusNormalGMLoss,
    ConfAndExcludeTopNPercentPixelLoss,
    ExcludeTopNPercentPixelLoss,
)
