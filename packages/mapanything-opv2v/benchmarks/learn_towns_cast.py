"""Panoramas of many towns without a file in between, for learn_towns_start.py: ray-cast from every vehicle.

A town that is written as OPV2V's files costs 0.2 s of a core a vehicle; casting the panorama itself costs a tenth
of it, and every vehicle of a moment can look, not only the agents. So there are ten times as many views, and pairs of
vehicles at every distance. What the rig's cameras do not cover is black here too. The folder is what
`learn_towns_pack.pack` would have written.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mapanything_opv2v import geometry
from mapanything_opv2v.synthetic import sensors, streets, traffic
from mapanything_opv2v.synthetic.write import true_panorama
from scipy.spatial.transform import Rotation

SEED = 700
"""Other towns than those of learn_towns.py."""

AGENTS = tuple(range(1, 8))
FRAME = "000068"

Rows = dict[str, Any]


def cast(
    folder: Path,
    split: str,
    towns: int,
    size: tuple[int, int],
    cover: np.ndarray,
    *,
    vehicles: int = 12,
    workers: int = 1,
    seconds: float = math.inf,
) -> int:
    """Write the views of the vehicles nearest to the first agent of each town; return how many.

    Parameters
    ----------
    folder : Path
        A new folder.
    split : str
        Towns of another split are other towns.
    towns, vehicles : int
        How many, and views of each at most.
    size : tuple of int
        Width and height of a panorama.
    cover : (H, W) bool
        What the rig sees.
    workers : int
        Processes.
    seconds : float
        No further town is begun after so long.
    """
    workers = min(workers, towns)
    views(split, "warm-up", size, cover, 1)  # compiled once, before many processes would do it at the same time
    jobs = [(split, range(first, towns, workers), size, cover, vehicles, seconds) for first in range(workers)]
    if workers == 1:
        parts = [_part(jobs[0])]
    else:
        with multiprocessing.get_context("fork").Pool(workers) as pool:
            parts = pool.map(_part, jobs, chunksize=1)
    folder.mkdir(parents=True)
    for name in parts[0]:
        if name != "names":
            np.save(folder / f"{name}.npy", np.concatenate([part[name] for part in parts]))
    np.save(folder / "rays.npy", geometry.Cylinder(*size).rays()[None])
    names = [name for part in parts for name in part["names"]]
    (folder / "meta.json").write_text(json.dumps({"names": names, "data_norm_type": "patch_embedder"}))
    return len(names)


def _part(job: tuple[str, Sequence[int], tuple[int, int], np.ndarray, int, float]) -> Rows:
    split, numbers, size, cover, vehicles, seconds = job
    end = time.monotonic() + seconds
    rows: list[Rows] = []
    for number in numbers:
        if rows and time.monotonic() > end:
            break
        rows += views(split, f"cast_{number:06d}", size, cover, vehicles)
    return {name: _joined([row[name] for row in rows], name) for name in rows[0]}


def _joined(values: list[Any], name: str) -> Any:
    return values if name == "names" else np.stack(values)


def views(split: str, town: str, size: tuple[int, int], cover: np.ndarray, vehicles: int) -> list[Rows]:
    """Return the views of a town, each as a row of the pack's arrays with its names."""
    name = f"{split}/{town}"
    moment = traffic.draw_moment(streets.draw_town(SEED, name), SEED, name, AGENTS, 0.0)
    start = np.array(moment.start_xy)
    cars = sorted(moment.cars, key=lambda car: float(np.linalg.norm(car.T_world_vehicle[:2, 3] - start)))
    found = []
    for car in cars[:vehicles]:
        T = car.T_world_vehicle @ geometry.T_world_from_pose(sensors.LIDAR_POSE)
        seen = true_panorama(moment, T, geometry.Cylinder(*size), car.actor_id)
        pose = geometry.carla_to_opencv(T)
        found.append(
            {
                "color": np.where(cover[..., None], seen.color, 0).astype(np.uint8)[None],
                "range_m": np.where(cover, seen.range_m, 0).astype(np.float32)[None],
                "surface": (cover & ~seen.sky)[None],
                "pose": pose[None],
                "quats": Rotation.from_matrix(pose[:3, :3]).as_quat()[None],
                "names": (f"{name}/{FRAME}", [f"agent{car.actor_id}/panorama"]),
            }
        )
    return found


def covered(packed: Path) -> np.ndarray:
    """Return what the rig covers (H, W), read off built panoramas: no colour in none of the first ones."""
    color = np.load(packed / "color.npy", mmap_mode="r")[:8, 0]
    return np.asarray((color.sum(axis=-1, dtype=int) > 0).any(axis=0))
