"""What a checkpoint says about the run that wrote it, and what of that must hold when the run goes on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

KEY = "mapanything_opv2v"
"""Where a checkpoint keeps its record."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """Where a run is, and what it runs on. Plain values, so that any checkpoint can be loaded safely."""

    epoch: int
    """Number of the last finished epoch, from 0; -1 before the first."""
    global_step: int
    """Batches that each process has trained on since the run began, resumes included."""
    steps_per_epoch: int | None
    """Batches of an epoch on each process; None if it was not observed."""
    steps_fixed: bool | None
    """Whether `FixedSteps` holds them on any number of GPUs."""
    dataset_length: int | None
    """Scenes in the training set, whatever number of samples an epoch draws."""
    world_size: int
    """Processes, one GPU each."""
    epochs: float
    """`train_params.epochs`, over which the learning rate falls."""
    host_commit: str
    """MapAnything's commit, with `+changes` where files of it were edited."""
    plugin_version: str
    """Version of this package."""
    config: dict[str, Any]
    """The whole config, resolved."""

    def to_dict(self) -> dict[str, Any]:
        """Return the plain form kept in a checkpoint."""
        return asdict(self)

    @classmethod
    def from_checkpoint(cls, checkpoint: dict[str, Any]) -> RunRecord | None:
        """Return the record in a checkpoint; None if MapAnything wrote it without the launcher."""
        values = checkpoint.get(KEY)
        if values is None:
            return None
        missing = {field.name for field in fields(cls)} - set(values)
        if missing:
            raise ValueError(f"the checkpoint's record {KEY!r} lacks {', '.join(sorted(missing))}")
        return cls(**{field.name: values[field.name] for field in fields(cls)})


def refusals(saved: RunRecord, now: RunRecord) -> list[str]:
    """Return why a run must not go on from a checkpoint: its epochs would be others than those it has done."""
    found = []
    if _differ(saved.dataset_length, now.dataset_length):
        found.append(
            f"the training set has {now.dataset_length} scenes, the checkpoint's had {saved.dataset_length}: files "
            "were added or lost, or the dataset options are others"
        )
    if _differ(saved.steps_per_epoch, now.steps_per_epoch):
        cause = ""
        if saved.world_size != now.world_size and not now.steps_fixed:
            cause = f" (MapAnything divides by the GPUs: {saved.world_size} then, {now.world_size} now)"
        found.append(
            f"an epoch has {now.steps_per_epoch} steps, the checkpoint's had {saved.steps_per_epoch}{cause}: the "
            f"learning rate would follow another schedule; set dataset.steps_per_epoch={saved.steps_per_epoch} in an "
            "experiment config of this package"
        )
    return found


def notices(saved: RunRecord, now: RunRecord) -> list[str]:
    """Return what is different from the checkpoint's run, and what that changes."""
    found = []
    if saved.world_size != now.world_size:
        steps = "stay the same" if saved.steps_per_epoch == now.steps_per_epoch else "change"
        found.append(
            f"the checkpoint was trained by {saved.world_size} processes, this run has {now.world_size}: a step draws "
            f"{now.world_size / saved.world_size:g} times as many sets, so gradients are averaged over as many more, "
            f"and an epoch covers as much more of the data; steps an epoch and the learning rate's course {steps}; "
            "MapAnything does not scale the learning rate itself"
        )
    if saved.epochs != now.epochs:
        found.append(
            f"train_params.epochs is {now.epochs:g}, was {saved.epochs:g}: the learning rate jumps to the new course"
        )
    if saved.host_commit != now.host_commit:
        found.append(f"MapAnything is at {now.host_commit}, was at {saved.host_commit}")
    if saved.plugin_version != now.plugin_version:
        found.append(f"mapanything-opv2v is {now.plugin_version}, was {saved.plugin_version}")
    return found


def _differ(saved: object, now: object) -> bool:
    return None not in (saved, now) and saved != now
