"""Decoders with groups of queries, for the host's two families; importing this module imports the host.

Shape legend: B samples, G groups, Q instance queries of a group, S semantic queries, P pilots, N points.

In training the rows are: instance queries of every group, semantic queries of every group, pilots. A group and its own
copy of the semantic queries see each other, as they do in prediction, where there is one group. The criterion gets the
instance queries of all groups and one copy of the semantic queries, in the host's order.
"""

from __future__ import annotations

from typing import Any

import torch
from oneformer3d.query_decoder import QueryDecoder, ScanNetQueryDecoder
from torch import Tensor, nn

from influencer_mmdet3d.host.sets import Rows, Scene, SetsDecoder
from influencer_mmdet3d.host.starts import far_apart, noisy_instances, random_of_cells

STARTS = ("learned", "voxels")


class InfluencerQueryDecoder(SetsDecoder, QueryDecoder):
    """The host's `QueryDecoder` (S3DIS) with groups, starts and pilots.

    Parameters
    ----------
    num_instance_queries, num_semantic_queries : int
        Q and S.
    in_channels, d_model : int
        Channels of points and of queries.
    start : {'learned', 'voxels'}
        Instance queries are learned vectors, as in the host, or start from the features of voxels that lie far from
        each other; semantic queries are learned in either case. 'voxels' needs `InfluencerS3DISOneFormer3D`.
    groups : int
        G, query sets in training. Further sets are learned too, or start from random voxels of each start's Voronoi
        cell. Prediction takes the first set alone.
    pilots : bool
        Add a denoising query for each instance in training; needs start='voxels'.
    pilot_noise : float
        Share of a pilot's mask that is wrong.
    **kwargs
        Of the host's decoder.
    """

    query: nn.Embedding
    query_proj: nn.Module

    def __init__(
        self,
        num_instance_queries: int,
        num_semantic_queries: int,
        in_channels: int,
        d_model: int,
        *,
        start: str = "learned",
        groups: int = 1,
        pilots: bool = False,
        pilot_noise: float = 0.2,
        **kwargs: Any,
    ) -> None:
        if start not in STARTS:
            raise ValueError(f"InfluencerQueryDecoder: start must be one of {STARTS}, got {start!r}")
        if pilots and start != "voxels":
            raise ValueError("InfluencerQueryDecoder: pilots start from voxels, give start='voxels' too")
        if num_instance_queries < 1:
            raise ValueError(f"InfluencerQueryDecoder: num_instance_queries must be > 0, got {num_instance_queries}")
        super().__init__(
            num_instance_queries=0 if start == "voxels" else num_instance_queries,
            num_semantic_queries=num_semantic_queries,
            in_channels=in_channels,
            d_model=d_model,
            **kwargs,
        )
        self.start, self.instance_queries, self.semantic_queries = start, num_instance_queries, num_semantic_queries
        self.num_queries = num_instance_queries + num_semantic_queries  # the host's model reads it
        self.set_up(groups, pilots, pilot_noise)
        if start == "learned" and groups > 1:
            self.group_query = nn.Embedding((groups - 1) * num_instance_queries, d_model)

    def forward(self, x: list[Tensor], queries: Any = None) -> dict[str, Any]:
        """Return the host's output, with what `influencer_mmdet3d.host.groups` describes."""
        scene, groups = self.take_scene(), self.groups if self.training else 1
        if self.start == "learned" and groups == 1:
            return super().forward(x, queries)
        starts = self._starts(scene, groups) if self.start == "voxels" else None
        pilots = [noisy_instances(masks, self.pilot_noise) for masks in self._instances(scene)]
        begin, rows = [], []
        for index, features in enumerate(x):
            sets = self._learned_sets() if starts is None else [self.query_proj(features[starts[index]])]
            sets += [self.query.weight[len(self.query.weight) - self.semantic_queries :]] * groups
            known = None
            sizes = [self.instance_queries] * groups + [self.semantic_queries] * groups
            members = [[group, groups + group] for group in range(groups)]
            if pilots:
                points, known = pilots[index]
                sets.append(self.query_proj(features[points]))
                members.append([len(sizes)])
                sizes.append(len(points))
            begin.append(torch.cat(sets))
            rows.append(Rows(sizes, members, known))
        out = self.run(x, begin, rows, [groups * self.instance_queries + self.semantic_queries] * len(x))
        if starts is not None:
            out["starts"] = starts
        return out

    def _get_queries(self, queries: Any = None, batch_size: int | None = None) -> Any:
        """Queries that are made already, or the host's."""
        return super()._get_queries(None, batch_size) if self._rows is None else queries

    def _learned_sets(self) -> list[Tensor]:
        further = self.group_query.weight.split(self.instance_queries)
        return [self.query.weight[: self.instance_queries], *further]

    def _starts(self, scene: Scene, groups: int) -> list[Tensor]:
        """Return the voxels (G Q,) that queries of every sample start from."""
        if scene.coordinates is None:
            raise ValueError(
                "InfluencerQueryDecoder: start='voxels' needs the voxels' coordinates, which the host's model does not "
                "hand to its decoder: set model.type to 'InfluencerS3DISOneFormer3D'"
            )
        every = []
        for xyz in scene.coordinates:
            first = int(torch.randint(len(xyz), ())) if self.training else None
            starts, cell = far_apart(xyz, self.instance_queries, first)
            every.append(torch.cat([starts, *(random_of_cells(cell, starts) for _ in range(groups - 1))]))
        return every

    def _instances(self, scene: Scene) -> list[Tensor]:
        if not (self.training and self.pilots):
            return []
        return self.draw_pilots(scene.instances, "InfluencerS3DISOneFormer3D")

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Of a checkpoint with learned instance queries, take the semantic ones, which are the last."""
        there = state_dict.get(f"{prefix}query.weight")
        if self.start == "voxels" and there is not None and len(there) > self.semantic_queries:
            state_dict[f"{prefix}query.weight"] = there[len(there) - self.semantic_queries :]
        super()._load_from_state_dict(state_dict, prefix, *args)


class InfluencerScanNetQueryDecoder(SetsDecoder, ScanNetQueryDecoder):
    """The host's `ScanNetQueryDecoder` with groups and pilots.

    Parameters
    ----------
    groups : int
        G, query sets in training: the first one is the host's choice of superpoints, every other as many superpoints
        drawn at random. Prediction takes all superpoints once, as the host does.
    pilots : bool
        Add a denoising query for each instance in training; needs `InfluencerScanNetOneFormer3D`.
    pilot_noise : float
        Share of a pilot's mask that is wrong.
    **kwargs
        Of the host's decoder.
    """

    def __init__(self, *, groups: int = 1, pilots: bool = False, pilot_noise: float = 0.2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if hasattr(self, "query"):
            raise ValueError(
                "InfluencerScanNetQueryDecoder: queries are superpoints, set num_instance_queries=0 and "
                "num_semantic_queries=0 as the host's ScanNet configs do"
            )
        self.set_up(groups, pilots, pilot_noise)

    def forward(self, x: list[Tensor], queries: Any = None) -> dict[str, Any]:
        """Return the host's output, with what `influencer_mmdet3d.host.groups` describes."""
        scene, groups = self.take_scene(), self.groups if self.training else 1
        piloted = self.training and self.pilots
        if groups == 1 and not piloted:
            return super().forward(x, queries)
        instances = self.draw_pilots(scene.instances, "InfluencerScanNetOneFormer3D") if piloted else []
        begin, rows, starts = [], [], []
        for index, (features, first) in enumerate(zip(x, queries)):
            count = len(first)
            drawn = [torch.randperm(len(features))[:count].to(features.device) for _ in range(groups - 1)]
            starts.append(torch.cat(drawn) if drawn else torch.empty(0, dtype=torch.long, device=features.device))
            sets, sizes, known = [first, features[starts[-1]]], [count] * groups, None
            if piloted:
                points, known = noisy_instances(instances[index], self.pilot_noise)
                sets.append(features[points])
                sizes.append(len(points))
            begin.append(torch.cat(sets))
            rows.append(Rows(sizes, [[number] for number in range(len(sizes))], known))
        out = self.run(x, begin, rows, [groups * len(first) for first in queries])
        out["starts"] = starts
        out["sem_preds"] = [value[: len(first)] for value, first in zip(out["sem_preds"], queries)]
        return out
