"""Matching-free 3D instance segmentation for OneFormer3D, and a loss for any other model.

Importing this package registers `InfluencerCriterion` and `InfluencerScheduleHook` with mmengine, which is what
`custom_imports` in a config relies on. Where there is no mmengine there is nothing to register with, and the names that
need none, `InfluencerSetLoss` above all, work without. The names below are the package's public face and stay when
files move; those that are not needed for the registration are imported when they are asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from influencer_mmdet3d.data.check import check_dataset
    from influencer_mmdet3d.data.clouds import read_cloud
    from influencer_mmdet3d.data.formats import FORMATS
    from influencer_mmdet3d.data.rooms import make_room
    from influencer_mmdet3d.data.synthetic import write_s3dis, write_scannet
    from influencer_mmdet3d.host.criterion import InfluencerCriterion
    from influencer_mmdet3d.host.options import CriterionOptions
    from influencer_mmdet3d.host.schedule import InfluencerScheduleHook
    from influencer_mmdet3d.host.verify import verify
    from influencer_mmdet3d.loss.embedding import EmbeddingInfluencerLoss, embedding_influencer_terms
    from influencer_mmdet3d.loss.losses import MaskInfluencerLoss, mask_influencer_loss
    from influencer_mmdet3d.loss.sample import Sample
    from influencer_mmdet3d.loss.set_loss import InfluencerSetLoss
    from influencer_mmdet3d.predict.results import read_predictions
    from influencer_mmdet3d.predict.superpoints import superpoints
    from influencer_mmdet3d.register import register

__version__ = version("influencer-mmdet3d")
__all__ = [
    "FORMATS",
    "CriterionOptions",
    "EmbeddingInfluencerLoss",
    "InfluencerCriterion",
    "InfluencerScheduleHook",
    "InfluencerSetLoss",
    "MaskInfluencerLoss",
    "Sample",
    "check_dataset",
    "embedding_influencer_terms",
    "make_room",
    "mask_influencer_loss",
    "read_cloud",
    "read_predictions",
    "register",
    "superpoints",
    "verify",
    "write_s3dis",
    "write_scannet",
]
_LATER = {
    "CriterionOptions": "host.options",
    "InfluencerCriterion": "host.criterion",
    "InfluencerScheduleHook": "host.schedule",
    "InfluencerSetLoss": "loss.set_loss",
    "MaskInfluencerLoss": "loss.losses",
    "Sample": "loss.sample",
    "mask_influencer_loss": "loss.losses",
    "EmbeddingInfluencerLoss": "loss.embedding",
    "embedding_influencer_terms": "loss.embedding",
    "FORMATS": "data.formats",
    "check_dataset": "data.check",
    "read_cloud": "data.clouds",
    "make_room": "data.rooms",
    "write_s3dis": "data.synthetic",
    "write_scannet": "data.synthetic",
    "read_predictions": "predict.results",
    "superpoints": "predict.superpoints",
    "verify": "host.verify",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
    except ModuleNotFoundError as error:
        raise ImportError(f"{__name__}.{name} needs {error.name}: install it, e.g. pip install {error.name}") from error


def __dir__() -> list[str]:
    """Return the public names, those that are not imported yet among them."""
    return sorted({*globals(), *__all__})


if importlib.util.find_spec("mmengine") is not None:
    from influencer_mmdet3d.register import register

    register()
