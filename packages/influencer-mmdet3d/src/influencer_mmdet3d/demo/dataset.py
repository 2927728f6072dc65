"""Rooms in the host's S3DIS format as samples of the demo's segmentor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import DATASETS, FUNCTIONS
from torch import Tensor
from torch.utils.data import Dataset

from influencer_mmdet3d.data.plain_pickle import load_plain
from influencer_mmdet3d.data.rooms import CLASSES


@DATASETS.register_module()
class DemoRoomDataset(Dataset[dict[str, Any]]):
    """Whole rooms for evaluation, random samples of their points for training.

    Parameters
    ----------
    root : str
        Folder with ``points/``, ``instance_mask/``, ``semantic_mask/`` and ``s3dis_infos_Area_<n>.pkl``.
    areas : sequence of int
        Areas to read; all rooms are held in memory.
    num_points : int, optional
        Points that are drawn from a room for each sample. None gives the whole room, unchanged.
    length : int, optional
        Number of samples; sample i is of room i modulo the number of rooms. The number of rooms if not given.
    seed : int
        Sample i is drawn by a generator seeded from (seed, i): not from the order of access.

    Raises
    ------
    ValueError
        If a room has fewer than `num_points` points, or the infos name no room.
    """

    def __init__(
        self, root: str, areas: Sequence[int], num_points: int | None = None, length: int | None = None, seed: int = 0
    ) -> None:
        self.num_points, self.seed = num_points, seed
        self.rooms = [room for area in areas for room in _read_area(Path(root), area)]
        if not self.rooms:
            raise ValueError(f"{root} has no rooms in areas {list(areas)}")
        smallest = min(len(room["points"]) for room in self.rooms)
        if num_points is not None and smallest < num_points:
            raise ValueError(f"num_points={num_points}, but a room in {root} has only {smallest} points")
        self.length = len(self.rooms) if length is None else length
        self.metainfo = {"classes": CLASSES}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return points (N, 6), colours within -1 and 1, and labels, instances from 0 without gaps, the name."""
        room = self.rooms[index % len(self.rooms)]
        points, semantic, instance = room["points"], room["semantic"], room["instance"]
        if self.num_points is not None:
            rng = np.random.default_rng((self.seed, index))
            rows = rng.choice(len(points), self.num_points, replace=False)
            points = _augment(points[rows], rng)
            semantic, instance = semantic[rows], instance[rows]
        points = points.copy()
        points[:, 3:] = points[:, 3:] / 127.5 - 1
        return {
            "points": torch.from_numpy(points),
            "semantic": torch.from_numpy(semantic),
            "instance": torch.from_numpy(np.unique(instance, return_inverse=True)[1].reshape(-1)),
            "name": room["name"],
        }


def _read_area(root: Path, area: int) -> list[dict[str, Any]]:
    rooms = []
    for info in load_plain(root / f"s3dis_infos_Area_{area}.pkl")["data_list"]:
        name = Path(info["lidar_points"]["lidar_path"]).name
        rooms.append(
            {
                "name": Path(name).stem,
                "points": np.fromfile(root / "points" / name, "<f4").reshape(-1, 6),
                "semantic": np.fromfile(root / "semantic_mask" / name, "<i8"),
                "instance": np.fromfile(root / "instance_mask" / name, "<i8"),
            }
        )
    return rooms


def _augment(points: np.ndarray[Any, Any], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Turn by a quarter, mirror, stretch by up to 10 % and change brightness; the corner stays at the origin."""
    xyz, rgb = points[:, :3].copy(), points[:, 3:]
    for _ in range(int(rng.integers(4))):
        xyz[:, [0, 1]] = np.column_stack([-xyz[:, 1], xyz[:, 0]])
    if rng.random() < 0.5:
        xyz[:, 0] *= -1
    xyz *= rng.uniform(0.9, 1.1)
    rgb = np.clip(rgb * rng.uniform(0.85, 1.15) + rng.normal(0, 8, 3), 0, 255)
    return np.column_stack([xyz - xyz.min(0), rgb]).astype(np.float32)


@FUNCTIONS.register_module(name="demo_collate")
def collate(batch: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Put samples side by side as lists, since their sizes differ."""
    return {key: [sample[key] for sample in batch] for key in batch[0]}


def instance_masks(instance: Tensor, semantic: Tensor) -> tuple[Tensor, Tensor]:
    """Return masks (K, N) bool and labels (K,) of the instances 0 to K - 1 of one sample (N,)."""
    count = int(instance.max()) + 1
    masks = torch.nn.functional.one_hot(instance, count).T.bool()
    labels = torch.zeros(count, dtype=torch.long, device=instance.device).scatter_(0, instance, semantic)
    return masks, labels
