"""One voxel size in the whole config: the host writes it twice, and training would quietly use the second one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

ELASTIC = "ElasticTransfrom"
"""The host's step that turns points into voxels before training; its name is spelled so there."""


def check_voxels(cfg: Any) -> None:
    """Compare the model's voxel size with that of the training pipelines.

    Raises
    ------
    ValueError
        If they differ. The host trains on the voxels of the pipeline and tests on those of the model: such a model
        sees rooms of another scale in training than in the test, and finds nothing.
    """
    size = (cfg.get("model") or {}).get("voxel_size")
    dataset = (cfg.get("train_dataloader") or {}).get("dataset")
    if size is None or not dataset:
        return
    for place, step in _elastic_steps(dataset, "train_dataloader.dataset"):
        if abs(float(step["voxel_size"]) - float(size)) > 1e-9:
            raise ValueError(
                f"model.voxel_size is {size:g} m and {place}.voxel_size ({ELASTIC}) is {step['voxel_size']:g} m: the "
                "host would train on voxels of the second size and test on those of the first, and find nothing. "
                f"Set both, e.g. --cfg-options model.voxel_size={size:g} {place}.voxel_size={size:g}"
            )


def _elastic_steps(dataset: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield each such step whose voxels reach the model, with its place in the config, through wrapped datasets."""
    pipeline = dataset.get("pipeline") or []
    packed = {key for step in pipeline for key in step.get("keys") or ()}
    for number, step in enumerate(pipeline):
        if step["type"] == ELASTIC and "elastic_coords" in packed:
            yield f"{place}.pipeline.{number}", step
    for number, part in enumerate(dataset.get("datasets") or []):
        yield from _elastic_steps(part, f"{place}.datasets.{number}")
    if "dataset" in dataset:
        yield from _elastic_steps(dataset["dataset"], f"{place}.dataset")
