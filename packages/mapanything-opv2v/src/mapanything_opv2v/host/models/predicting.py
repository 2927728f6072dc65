"""A data set through the real model: samples in, predictions of frames out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, default_collate

from mapanything_opv2v.evaluation.baselines import Truth
from mapanything_opv2v.host.data.base import OPV2VBase
from mapanything_opv2v.host.data.cylindrical import CylindricalBase
from mapanything_opv2v.host.datasets import DATASETS
from mapanything_opv2v.host.models.from_checkpoint import LoadedModel
from mapanything_opv2v.host.models.inference import View, as_given, frame_predictions, predict, sample_truth, whose
from mapanything_opv2v.kinds import PANORAMA_SIZE, PINHOLE_SIZE
from mapanything_opv2v.predictions import FrameMeta, FramePredictions
from mapanything_opv2v.rawdata import boxes
from mapanything_opv2v.samples import choose, perturb
from mapanything_opv2v.samples.loading import SampleError
from mapanything_opv2v.samples.perturb import Perturbation

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which samples are predicted."""

    root: Path
    depth_root: Path | None = None
    dataset: str = "OPV2VCoopDataset"
    """One of this package's dataset classes."""
    split: str = "test"
    num_views: int = 4
    resolution: tuple[int, int] | None = None
    """Width and height; None is `kinds.PINHOLE_SIZE` or `kinds.PANORAMA_SIZE`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further options of the dataset class."""

    def provenance(self) -> dict[str, Any]:
        """Return what changes a sample, as plain values; where the tree lies does not."""
        names = ("dataset", "split", "num_views", "resolution", "options")
        return {name: getattr(self, name) for name in names}


def open_dataset(data: DataOptions, data_norm_type: str) -> OPV2VBase:
    """Return the data set, every sample fixed, no augmentation.

    Raises
    ------
    ValueError
        If the class or an option is unknown, or an option would change samples from run to run.
    """
    if data.dataset not in DATASETS:
        raise ValueError(f"dataset {data.dataset!r}: expected one of {', '.join(DATASETS)}")
    for name in ("variable_num_views", "transform", "data_norm_type", "aug_crop"):
        if name in data.options:
            raise ValueError(f"option {name}: evaluation fixes it itself, leave it out")
    cls = DATASETS[data.dataset]
    size = data.resolution or (PANORAMA_SIZE if issubclass(cls, CylindricalBase) else PINHOLE_SIZE)
    dataset = cls(
        ROOT=data.root,
        depth_root=data.depth_root,
        split=data.split,
        num_views=data.num_views,
        resolution=size,
        transform="imgnorm",
        data_norm_type=data_norm_type,
        **{"seed": 0, **data.options},
    )
    if dataset.seed is None:
        raise ValueError("option seed=None: evaluation needs the same samples every time, give an integer")
    return dataset


_ONE_SEQUENCE = ("main_agent", "include_agents", "max_scenes")
"""Options that name agents of single sequences, or cut a split short: they say nothing of another split."""


def split_truths(data: DataOptions, data_norm_type: str, split: str, samples: int) -> list[Truth]:
    """Return what is true of samples spread evenly over a split, made with the same options.

    Raises
    ------
    ValueError
        If the split is not there, or lacks files.
    """
    kept = {name: value for name, value in data.options.items() if name not in _ONE_SEQUENCE}
    dataset = open_dataset(replace(data, split=split, options=kept), data_norm_type)
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(samples, len(dataset))).astype(int))
    return [sample_truth(dataset.sample(int(index))) for index in chosen]


class _Samples(Dataset):
    """Samples by position, each with the vehicles of its frame; an error takes the place of a bad one."""

    def __init__(self, dataset: OPV2VBase, indices: Sequence[int], perturbation: Perturbation) -> None:
        self.dataset, self.indices, self.perturbation = dataset, indices, perturbation

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[int, list[View] | SampleError, dict[int, np.ndarray]]:
        index = self.indices[position]
        try:
            vehicles = self.dataset.vehicles(index)
            views = perturbed(self.dataset.sample(index), self.perturbation, self.dataset.sample_name(index))
            return index, views, {key: boxes.box_corners(v) for key, v in vehicles.items()}
        except SampleError as error:
            return index, error, {}


def perturbed(views: list[View], perturbation: Perturbation, name: str) -> list[View]:
    """Return a sample's views without those of missing vehicles; wrong poses, if any, stand under `given_pose`."""
    agents, _ = whose([str(view["instance"]) for view in views])
    if perturbation.drop_agents:
        kept = perturb.kept_views(agents, perturbation.drop_agents, choose.sample_rng(name, "missing vehicles"))
        views, agents = [views[k] for k in kept], tuple(agents[k] for k in kept)
    if perturbation.pose_noise:
        poses = np.stack([np.asarray(view["camera_pose"]) for view in views])
        wrong = perturb.noisy_poses(poses, agents, perturbation.pose_noise, choose.sample_rng(name, "pose noise"))
        views = [{**view, "given_pose": pose.astype(np.float32)} for view, pose in zip(views, wrong)]
    return views


def _collate(samples: list[Any]) -> tuple[list[tuple[int, dict[int, np.ndarray]]], list[View], list[tuple[int, str]]]:
    """Return (index, boxes) of the good samples, their collated views, and (index, message) of the bad ones."""
    good = [sample for sample in samples if not isinstance(sample[1], SampleError)]
    bad = [(index, str(error)) for index, error, _ in samples if isinstance(error, SampleError)]
    views = default_collate([views for _, views, _ in good]) if good else []
    return [(index, corners) for index, _, corners in good], views, bad


def predict_samples(
    loaded: LoadedModel,
    dataset: OPV2VBase,
    indices: Sequence[int],
    *,
    on_failure: Callable[[str, str], None],
    inputs: Sequence[str] = (),
    precision: str = "fp32",
    batch_size: int = 1,
    loader_workers: int = 0,
    perturbation: Perturbation | None = None,
) -> Iterator[tuple[str, FramePredictions]]:
    """Yield the name and the predictions of every sample, in order.

    Parameters
    ----------
    loaded, dataset
        From `load_model` and `open_dataset`.
    indices : sequence of int
        Which samples.
    on_failure : callable
        Called with name and message for a sample that cannot be read or whose predictions are not finite.
    inputs, precision
        See `inference.predict`.
    batch_size : int
        Samples at a time.
    loader_workers : int
        Processes that read samples; 0 reads in this one.
    perturbation : Perturbation, optional
        What goes wrong with samples; the data set knows of `time_offset` itself (`open_dataset`).
    """
    perturbation = perturbation or Perturbation()
    perturbation.check(cooperative=dataset.cooperative, inputs=inputs, batch_size=batch_size)
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: expected at least 1")
    loader = DataLoader(
        _Samples(dataset, indices, perturbation), batch_size=batch_size, num_workers=loader_workers, collate_fn=_collate
    )
    for good, views, bad in loader:
        for index, message in bad:
            on_failure(dataset.sample_name(index), message)
        preds = predict(loaded.model, [as_given(view) for view in views], inputs, precision) if good else []
        for row, (index, corners) in enumerate(good):
            name = dataset.sample_name(index)
            meta = _meta(name, loaded, dataset, inputs)
            try:
                yield name, frame_predictions(views, preds, row, meta, corners, is_metric=loaded.is_metric)
            except ValueError as error:
                on_failure(name, str(error))


def _meta(name: str, loaded: LoadedModel, dataset: OPV2VBase, inputs: Sequence[str]) -> FrameMeta:
    split, sequence, rest = name.split("/")
    frame, _, main = rest.rpartition("_agent")
    panorama = isinstance(dataset, CylindricalBase)
    return FrameMeta(
        split=split,
        sequence=sequence,
        frame=frame,
        layout=dataset.layout,
        agents=(int(main),),
        cameras=None if panorama else (0,),  # the views say which; see frame_predictions
        cylinder=dataset.cylinder if isinstance(dataset, CylindricalBase) else None,
        inputs=tuple(inputs),
        checkpoint=loaded.name,
        checkpoint_sha256=loaded.sha256,
        config=loaded.config,
        commit=loaded.host_commit,
    )
