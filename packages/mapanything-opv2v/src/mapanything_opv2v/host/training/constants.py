"""Deviation that tells a stage that does not learn: the loss on `validate` beside that of a constant."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from mapanything_opv2v.evaluation import baselines
from mapanything_opv2v.host.training.patching import TRAINING, Patches, deviation
from mapanything_opv2v.host.training.run_state import RunState
from mapanything_opv2v.losses import bent

logger = logging.getLogger(__name__)

SAMPLES = 64
"""Training samples that the constant is fitted on, spread over the split."""

POSE_TERMS = {"pose_trans_avg_avg": "positions", "pose_quats_avg_avg": "rotations"}
"""Ends of the names of the losses of poses; a sum can fall while these stay where they are."""

NO_BETTER = 0.9
"""A term above this share of the constant's has learned next to nothing from the images."""

WARN_FROM = 2
"""Epochs that a run has before a loss above the constant's is a warning; before, and in a shorter run, it is a line."""

_SURE = 6.0
"""Logit of a pixel that the constant takes for a surface."""


@deviation(
    where=f"{TRAINING}:build_dataset, {TRAINING}:test_one_epoch",
    host="says the loss on the validation set, and nothing that it could be compared with",
    ours="beside it the loss of a constant that sees no image, fitted on the training split; a warning if that is less",
)
def constant_baseline(state: RunState, patches: Patches) -> None:
    """Compare every validation with the constant's; only the log is changed."""
    known: dict[str, dict[str, float]] = {}
    training: list[Any] = []

    def keep_training_set(host: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(host)
        def build_dataset(*arguments: Any, **options: Any) -> Any:
            loader = host(*arguments, **options)
            if not inspect.signature(host).bind(*arguments, **options).arguments["test"]:
                training.append(loader.dataset)
            return loader

        return build_dataset

    def compare(host: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(host)
        def test_one_epoch(*arguments: Any, **options: Any) -> dict[str, float]:
            results: dict[str, float] = host(*arguments, **options)
            call = inspect.signature(host).bind(*arguments, **options)
            call.apply_defaults()
            name, epoch = str(call.arguments["prefix"]), int(call.arguments["epoch"])
            if name not in known:
                known[name] = _loss_of_constant(host, call, training)
            if state.is_first and known[name]:
                _tell(name, epoch, results["loss_avg"], known[name]["loss_avg"])
                _tell_poses(name, epoch, results, known[name])
            return results

        return test_one_epoch

    patches.wrap(TRAINING, "build_dataset", keep_training_set)
    patches.wrap(TRAINING, "test_one_epoch", compare)


def _tell(name: str, epoch: int, loss: float, constant: float) -> None:
    """Log the comparison; `epoch` epochs are behind the run."""
    text = f"{name} after {epoch} epochs: loss {loss:.4g}, of a constant that sees no image {constant:.4g}"
    if loss < constant or epoch < WARN_FROM:
        logger.info("%s", text)
    else:
        logger.warning(
            "%s: the model has learned less than that so far. Look at learning rate and warm-up (--print-lr), samples "
            "of a step, weights to start from, and the data (`mapanything-opv2v check`)",
            text,
        )


def _tell_poses(name: str, epoch: int, results: dict[str, float], constant: dict[str, float]) -> None:
    """Warn of losses of poses that stand at the constant's, whatever the sum says."""
    for end, what in POSE_TERMS.items():
        for term in (term for term in results if term.endswith(end)):
            loss, other = results[term], constant.get(term, 0.0)
            if epoch >= WARN_FROM and other > 0 and loss > NO_BETTER * other:
                logger.warning(
                    "%s after %d epochs: loss of %s %.4g, of a constant that sees no image %.4g: the model has not "
                    "learned from the images where its views are, though the sum may fall. Train longer, or start "
                    "from weights that know poses (model.pretrained)",
                    *(name, epoch, what, loss, other),
                )


def _loss_of_constant(
    host: Callable[..., Any], call: inspect.BoundArguments, training: Sequence[Any]
) -> dict[str, float]:
    """Return the constant's losses, by the host's own validation; none, and a warning, if there can be none."""
    try:
        constant = baselines.fit(_truths(training))
        model = ConstantModel(constant)
        options = {**call.arguments, "model": model, "log_writer": None}
        losses = {key: float(value) for key, value in host(**options).items()}
        return losses if np.isfinite(losses["loss_avg"]) else {}
    except ValueError as error:
        logger.warning("no constant to compare the validation with: %s", error)
        return {}


def _truths(training: Sequence[Any]) -> Iterator[baselines.Truth]:
    from mapanything_opv2v.host.data.base import OPV2VBase
    from mapanything_opv2v.host.data.fixed_steps import leaves

    sets = [leaf for dataset in training for leaf in leaves(dataset) if isinstance(leaf, OPV2VBase)]
    for leaf in sets:
        from mapanything_opv2v.host.models.inference import sample_truth

        count = min(len(leaf), max(1, SAMPLES // len(sets)))
        for index in np.linspace(0, len(leaf) - 1, count).astype(int):
            yield sample_truth(leaf.typical_sample(int(index)))


class ConstantModel(torch.nn.Module):
    """Says of every batch what `baselines.Constant` says, in the form of MapAnything's predictions."""

    def __init__(self, constant: baselines.Constant) -> None:
        super().__init__()
        self.constant = constant

    def forward(self, views: Sequence[dict[str, Any]]) -> list[dict[str, torch.Tensor]]:
        """Return predictions; only the names of the views are looked at."""
        from mapanything_opv2v.host.models.inference import whose

        batch, device = len(views[0]["instance"]), views[0]["img"].device
        names = [whose([str(view["instance"][row]) for view in views]) for row in range(batch)]
        chosen = np.array([[self.constant._row(role) for role in baselines.roles(*name)] for name in names])
        return [self._view(chosen[:, view], view == 0, device) for view in range(len(views))]

    def _view(self, chosen: np.ndarray, first: bool, device: torch.device) -> dict[str, torch.Tensor]:
        poses = self.constant.T_view0_view[chosen].copy()
        if first:
            poses[:] = np.eye(4)
        rays, ranges = self.constant.rays[chosen], self.constant.range_m[chosen][..., None]
        points = rays * ranges
        scale = float(self.constant.range_m.mean())
        made = {
            "pts3d": points @ poses[:, None, :3, :3].transpose(0, 1, 3, 2) + poses[:, None, None, :3, 3],
            "pts3d_cam": points,
            "ray_directions": rays,
            "depth_along_ray": ranges,
            "cam_trans": poses[:, :3, 3],
            "cam_quats": Rotation.from_matrix(poses[:, :3, :3]).as_quat(),
            "metric_scaling_factor": np.full((len(chosen), 1), scale),
            "conf": np.ones(ranges.shape[:-1]),
            "non_ambiguous_mask_logits": np.where(self.constant.mask[chosen], _SURE, -_SURE),
        }
        made["bent_points"] = np.asarray(bent(torch.from_numpy(made["pts3d"])))
        tensors = {name: torch.tensor(value, dtype=torch.float32, device=device) for name, value in made.items()}
        return {**tensors, "non_ambiguous_mask": tensors["non_ambiguous_mask_logits"] > 0}
