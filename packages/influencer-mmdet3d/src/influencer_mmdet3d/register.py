"""Registration with mmengine, explicit and idempotent."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from mmengine.registry import HOOKS, MODELS, Registry

from influencer_mmdet3d.host.criterion import InfluencerCriterion
from influencer_mmdet3d.host.schedule import InfluencerScheduleHook


def _later(module: str, name: str) -> Callable[..., Any]:
    """Return a function that builds a class which extends the host's and so needs the host on the path."""

    def build(**options: Any) -> Any:
        try:
            found = importlib.import_module(f"influencer_mmdet3d.host.{module}")
        except ImportError as error:
            raise ImportError(
                f"{name} extends a class of the host, which cannot be imported: {error}. "
                "`influencer-mmdet3d doctor` says what is missing"
            ) from error
        return getattr(found, name)(**options)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"Build `influencer_mmdet3d.host.{module}.{name}`."
    return build


# mmdet3d's registries are children of mmengine's and fall back to them, so that mmdet3d need not be imported here.
ENTRIES: tuple[tuple[Registry, Any], ...] = (
    (MODELS, InfluencerCriterion),
    (HOOKS, InfluencerScheduleHook),
    (MODELS, _later("decoders", "InfluencerQueryDecoder")),
    (MODELS, _later("decoders", "InfluencerScanNetQueryDecoder")),
    (MODELS, _later("models", "InfluencerS3DISOneFormer3D")),
    (MODELS, _later("models", "InfluencerScanNetOneFormer3D")),
)


def register() -> None:
    """Put the package's names into mmengine's registries.

    Raises
    ------
    KeyError
        If another class already has one of the names.
    """
    for registry, entry in ENTRIES:
        holder = registry.module_dict.get(entry.__name__)
        if holder is entry:
            continue
        if holder is not None:
            raise KeyError(
                f"{entry.__name__} is already registered in {registry.name} by {holder.__module__}; influencer_mmdet3d "
                "does not overwrite it. Remove that module from custom_imports, or rename its class."
            )
        registry.register_module(name=entry.__name__, module=entry)
