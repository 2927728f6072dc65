"""The host's models, telling our decoders where voxels are and which instances there are; importing imports the host.

Training, prediction, losses and parameters are the host's: its checkpoints load, and ours load into it.
"""

from __future__ import annotations

from typing import Any

import torch
from oneformer3d.oneformer3d import S3DISOneFormer3D, ScanNetOneFormer3D
from torch import Tensor

from influencer_mmdet3d.host.sets import Scene


class InfluencerS3DISOneFormer3D(S3DISOneFormer3D):
    """`S3DISOneFormer3D` for `InfluencerQueryDecoder` with start='voxels'."""

    _samples: Any = None
    _collated: Any = None

    def loss(self, batch_inputs_dict: Any, batch_data_samples: Any, **kwargs: Any) -> Any:
        """The host's loss; the samples are kept for the decoder meanwhile."""
        self._samples = batch_data_samples
        try:
            return super().loss(batch_inputs_dict, batch_data_samples, **kwargs)
        finally:
            self._samples = self._collated = None

    def collate(self, points: Any, elastic_points: Any = None) -> Any:
        """The host's voxels, kept for the decoder."""
        self._collated = super().collate(points, elastic_points)
        return self._collated

    def extract_feat(self, x: Any) -> list[Tensor]:
        """The host's features; the decoder, which comes next, is told what they are of."""
        features: list[Tensor] = super().extract_feat(x)
        coordinates, _, of_points, _ = self._collated
        sample = coordinates[:, 0]
        places = [coordinates[sample == index, 1:] for index in range(len(features))]
        instances = None
        if self._samples is not None and getattr(self.decoder, "pilots", False):
            of_sample = sample[of_points]
            instances = [
                self._instances(of_points[of_sample == index], data) for index, data in enumerate(self._samples)
            ]
        self.decoder.scene = Scene(places, instances)
        return features

    def _instances(self, of_points: Tensor, data: Any) -> Tensor:
        """Return the instances (K, N) of a sample's voxels, as the host makes them for its criterion."""
        voxels = torch.unique(of_points, return_inverse=True)[1]
        masks: Tensor = self.get_gt_inst_masks(data.gt_pts_seg.pts_instance_mask, voxels)
        return masks


class InfluencerScanNetOneFormer3D(ScanNetOneFormer3D):
    """`ScanNetOneFormer3D` for `InfluencerScanNetQueryDecoder` with pilots."""

    def _select_queries(self, x: Any, gt_instances: Any) -> Any:
        """The host's choice; the decoder, which comes next, is told the instances."""
        queries, instances = super()._select_queries(x, gt_instances)
        semantic = self.criterion.num_semantic_classes + 1  # the host appends a row for each
        self.decoder.scene = Scene(None, [one.sp_masks[:-semantic] for one in instances])
        return queries, instances
