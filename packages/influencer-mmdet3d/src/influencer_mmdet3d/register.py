"""Registration with mmengine, explicit and idempotent."""

from __future__ import annotations

from mmengine.registry import HOOKS, MODELS, Registry

from influencer_mmdet3d.host.criterion import InfluencerCriterion
from influencer_mmdet3d.host.schedule import InfluencerScheduleHook

# mmdet3d's registries are children of mmengine's and fall back to them, so that mmdet3d need not be imported here.
ENTRIES: tuple[tuple[Registry, type], ...] = ((MODELS, InfluencerCriterion), (HOOKS, InfluencerScheduleHook))


def register() -> None:
    """Put the package's names into mmengine's registries.

    Raises
    ------
    KeyError
        If another class already has one of the names.
    """
    for registry, cls in ENTRIES:
        holder = registry.module_dict.get(cls.__name__)
        if holder is cls:
            continue
        if holder is not None:
            raise KeyError(
                f"{cls.__name__} is already registered in {registry.name} by {holder.__module__}; influencer_mmdet3d "
                "does not overwrite it. Remove that module from custom_imports, or rename its class."
            )
        registry.register_module(name=cls.__name__, module=cls)
