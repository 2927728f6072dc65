"""A host's model with a checkpoint's weights, which segments points that have no labels.

What the host's `test` does to a scene is done here to arrays: the test pipeline's steps on points, the data
preprocessor, the model's own prediction. Steps that read files or labels are left out.
Shape letters: ``M`` points, ``K`` instances.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from influencer_mmdet3d.host.checkpoint import kernels_fit, read_checkpoint
from influencer_mmdet3d.host.trial import compare
from influencer_mmdet3d.host.verify import check_imports, load_config

NO_POINTS = ("LoadPointsFromFile", "LoadAnnotations3D", "LoadAnnotations3D_", "PointSegClassMapping",
             "SwapChairAndFloor", "AddSuperPointAnnotations", "Pack3DDetInputs_", "Pack3DDetInputs",
             "PointInstClassMapping_")  # fmt: skip
"""Steps of test pipelines that read files, labels or superpoints, or pack what there is."""


@dataclass(frozen=True)
class Found:
    """What the model says of points.

    Attributes
    ----------
    masks : ndarray of bool, shape (K, M)
    labels : ndarray of int64, shape (K,)
        Index into the model's classes of instances.
    scores : ndarray of float32, shape (K,)
    semantic : ndarray of int64, shape (M,), or None
        Index into the model's classes of points.
    """

    masks: npt.NDArray[np.bool_]
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    semantic: npt.NDArray[np.int64] | None


class Segmentor:
    """A model ready to segment.

    Parameters
    ----------
    config, checkpoint : Path
        As the host's `test` takes them.
    device : str
        'cuda', 'cuda:1', 'cpu', ...
    trust : bool
        Load the checkpoint even if it can run code.
    head : str, optional
        Which of two data sets' heads, for the host's instance-only model.

    Raises
    ------
    ValueError
        If the config does not build, or the checkpoint does not fit it.
    """

    def __init__(
        self, config: Path, checkpoint: Path, device: str, *, trust: bool = False, head: str | None = None
    ) -> None:
        self.cfg = load_config(config, ("oneformer3d",))
        check_imports(self.cfg)
        from mmengine.registry import MODELS, init_default_scope

        init_default_scope(self.cfg.get("default_scope", "mmdet3d"))
        weights = read_checkpoint(checkpoint, trust=trust)
        if not kernels_fit(weights, checkpoint):
            raise ValueError(
                f"checkpoint {checkpoint}: its sparse-conv kernels would not fit once mmdet3d has permuted them. "
                f"Repair it: influencer-mmdet3d fix-checkpoint {checkpoint} REPAIRED.pth"
            )
        with _quiet():
            try:
                self.model = MODELS.build(copy.deepcopy(self.cfg.model))
            except Exception as error:  # the registries and the host raise whatever they like
                raise ValueError(f"{config}: the model does not build: {type(error).__name__}: {error}") from error
            if (misfit := compare(self.model, weights, checkpoint)) is not None:
                raise ValueError(
                    f"{misfit}. They would silently stay random: this checkpoint belongs to another config. Name the "
                    "one that it was trained with, as written in the .py file beside the checkpoint"
                )
            _load(self.model, weights)
        self.progress = {key: weights["meta"][key] for key in ("epoch", "iter") if key in weights.get("meta", {})}
        self.model = self.model.to(device).eval()
        self.device = device
        self.head = self._choose_head(head)
        self.classes, self.semantic_classes = _names(self.cfg, self.model, self.head)
        self.steps = _steps(self.cfg)
        self.voxel = float(self.model.voxel_size)
        self.topk = int(self.model.test_cfg.topk_insts)

    @property
    def needs_superpoints(self) -> bool:
        """Whether the model classifies superpoints, as those for ScanNet do."""
        return any(base.__name__ == "ScanNetOneFormer3DMixin" for base in type(self.model).__mro__)

    @property
    def score(self) -> float:
        """The score from which the host itself shows an instance, in its panoptic result."""
        return float(self.model.test_cfg.get("pan_score_thr", 0.4))

    def _choose_head(self, head: str | None) -> str | None:
        heads = [getattr(self.model, f"prefix_{k}dataset", None) for k in (1, 2)]
        known = [name for name in heads if name]
        if not known:
            if head is not None:
                raise ValueError(f"--head {head}: this model has one head only; leave --head out")
            return None
        if head not in known:
            raise ValueError(f"this model has a head for each of two data sets: choose one with --head {known}")
        return head

    def __call__(self, points: npt.NDArray[np.float32], superpoint: npt.NDArray[np.int64] | None = None) -> Found:
        """Segment points.

        Parameters
        ----------
        points : ndarray of float32, shape (M, 6)
            x, y, z in metres near the origin, colours 0 to 255.
        superpoint : ndarray of int64, shape (M,), optional
            From 0 without gaps, for a model that needs them.
        """
        from mmdet3d.structures import Det3DDataSample, PointData
        from mmdet3d.structures.points import DepthPoints

        with _quiet(), torch.no_grad():
            results: dict[str, Any] = {
                "points": DepthPoints(torch.from_numpy(points), points_dim=6, attribute_dims={"color": [3, 4, 5]})
            }
            for step in self.steps:
                results = step(results)
            sample = Det3DDataSample(gt_pts_seg=PointData())
            if superpoint is not None:
                sample.gt_pts_seg = PointData(sp_pts_mask=torch.from_numpy(superpoint.copy()))
            if self.head is not None:
                sample.set_metainfo({"lidar_path": self.head})
            self.model.test_cfg["topk_insts"] = min(self.topk, self._candidates(superpoint))
            batch = {"inputs": {"points": [results["points"].tensor.float()]}, "data_samples": [sample]}
            said = self.model.test_step(batch)[0].pred_pts_seg
        masks = said.pts_instance_mask
        masks = masks[0] if isinstance(masks, (list, tuple)) else masks
        semantic = said.get("pts_semantic_mask")
        return Found(
            _numpy(masks).astype(bool),
            _numpy(said.instance_labels).astype(np.int64),
            _numpy(said.instance_scores).astype(np.float32),
            None if semantic is None else _numpy(semantic[0]).astype(np.int64),
        )

    def _candidates(self, superpoint: npt.NDArray[np.int64] | None) -> int:
        """Return how many (query, class) pairs there are; the host stops where it is asked for more."""
        decoder = self.model.decoder
        if superpoint is not None:
            return (int(superpoint.max()) + 1) * len(self.classes)
        if self.head is not None:
            number = 1 if self.head == self.model.prefix_1dataset else 2
            return int(getattr(decoder, f"num_queries_{number}dataset")) * len(self.classes)
        return (int(decoder.num_queries) - int(self.model.test_cfg.get("num_sem_cls", 0))) * len(self.classes)


def _numpy(values: Any) -> npt.NDArray[Any]:
    return values.cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _load(model: Any, checkpoint: dict[str, Any]) -> None:
    """Load weights as mmengine does; spconv's hooks turn the kernels around where the metadata says so."""
    from mmengine.runner.checkpoint import load_state_dict

    source = checkpoint.get("state_dict", checkpoint)
    state: Any = OrderedDict((key.removeprefix("module."), value) for key, value in source.items())
    metadata = getattr(source, "_metadata", {})
    state._metadata = OrderedDict((key.removeprefix("module."), value) for key, value in metadata.items())
    load_state_dict(model, state, strict=False)


def _steps(cfg: Any) -> list[Any]:
    """Return the test pipeline's steps that change points."""
    from mmengine.registry import TRANSFORMS

    if not cfg.get("test_dataloader"):
        raise ValueError("the config has no test_dataloader, which says how points are prepared")
    listed: list[Any] = []
    for step in cfg.test_dataloader.dataset.pipeline:
        if step.type == "MultiScaleFlipAug3D":
            if step.get("flip") or step.get("pts_scale_ratio", 1) != 1:
                raise ValueError(f"predict knows no flips or scales in the test pipeline: {dict(step)}")
            listed += step.transforms
        else:
            listed.append(step)
    steps = []
    for step in listed:
        if step.type not in NO_POINTS:
            try:
                steps.append(TRANSFORMS.build(copy.deepcopy(step)))
            except Exception as error:  # the registries raise whatever they like
                raise ValueError(f"step {step.type} of the test pipeline does not build: {error}") from error
    return steps


def _names(cfg: Any, model: Any, head: str | None) -> tuple[list[str], list[str]]:
    """Return the names of the classes of instances and of points."""
    if head is not None:
        count = int(model.num_classes_1dataset if head == model.prefix_1dataset else model.num_classes_2dataset)
        return _fitting(cfg.get(f"class_names_{head}"), count), []
    evaluator: Any = cfg.get("test_evaluator") or {}
    evaluator = evaluator[0] if isinstance(evaluator, (list, tuple)) else evaluator
    meta = evaluator.get("metric_meta") or {}
    names = list(meta.get("classes") or ())[:-1]  # the last one is 'unlabeled'
    stuff = list(model.test_cfg.get("stuff_classes") or ())
    count = int(model.num_classes)
    semantic = int(cfg.model.criterion.get("num_semantic_classes", count))
    things = [name for index, name in enumerate(names) if index not in stuff]
    return _fitting(names if len(names) == count else things, count), _fitting(names, semantic)


def _fitting(names: Sequence[str] | None, count: int) -> list[str]:
    """Return names if there are as many as the model has classes, else numbers."""
    return list(names) if names and len(names) == count else [f"class {number}" for number in range(count)]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what the host and its libraries say of every scene."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
