"""Matching-free 3D instance segmentation for OneFormer3D.

Importing this package registers `InfluencerCriterion` and `InfluencerScheduleHook` with mmengine, which is what
`custom_imports` in a config relies on.
"""

from importlib.metadata import version

from influencer_mmdet3d.host.criterion import InfluencerCriterion
from influencer_mmdet3d.host.schedule import InfluencerScheduleHook
from influencer_mmdet3d.loss.embedding import EmbeddingInfluencerLoss, embedding_influencer_terms
from influencer_mmdet3d.loss.losses import MaskInfluencerLoss, mask_influencer_loss
from influencer_mmdet3d.register import register

__version__ = version("influencer-mmdet3d")
__all__ = [
    "EmbeddingInfluencerLoss",
    "InfluencerCriterion",
    "InfluencerScheduleHook",
    "MaskInfluencerLoss",
    "embedding_influencer_terms",
    "mask_influencer_loss",
]

register()
