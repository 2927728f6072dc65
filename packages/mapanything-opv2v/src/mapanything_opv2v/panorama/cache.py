"""Panoramas kept on disk.

``{folder}/{name}/{split}/{sequence}/{agent}/{frame}.npz``, where `name` stands for every parameter that a
panorama depends on (see ``parameters.json`` beside the splits). Each file also records size and time of the
files it was made from: if one of them has changed, the panorama counts as missing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from mapanything_opv2v import jobs
from mapanything_opv2v.arrays import load_npz
from mapanything_opv2v.files import remove_stale, whole_file, write_json
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.panorama.agent import load_panorama
from mapanything_opv2v.panorama.builder import Panorama
from mapanything_opv2v.panorama.options import PanoramaOptions
from mapanything_opv2v.rawdata import AgentRecord, TreeIndex

FORMAT = 1
"""Raised whenever the same parameters would give other pixels or another file."""

_MASKS = ("covered", "has_range", "sky", "filled")


@dataclass(frozen=True)
class PanoramaCache:
    """A folder of panoramas made with one set of parameters.

    Attributes
    ----------
    folder : Path
        Holds one subfolder for each set of parameters.
    cylinder : Cylinder
    options : PanoramaOptions
    camera_ids : tuple of int or None
        None for all cameras of an agent.
    with_depth : bool
        Whether the panoramas have range and sky.
    """

    folder: Path
    cylinder: Cylinder
    options: PanoramaOptions = field(default_factory=PanoramaOptions)
    camera_ids: tuple[int, ...] | None = None
    with_depth: bool = True

    def parameters(self) -> dict[str, Any]:
        """Return everything that a panorama depends on besides its source files."""
        return {
            "format": FORMAT,
            "cylinder": asdict(self.cylinder),
            "options": {
                name: repr(value)
                for name, value in asdict(self.options).items()
                if name != "match_exposure" or value  # so that panoramas from before it was an option stay in use
            },
            "camera_ids": None if self.camera_ids is None else list(self.camera_ids),
            "with_depth": self.with_depth,
        }

    @property
    def home(self) -> Path:
        """The subfolder of these parameters."""
        text = json.dumps(self.parameters(), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return self.folder / f"{self.cylinder.width}x{self.cylinder.height}-{digest}"

    def path(self, split: str, sequence: str, agent_id: int, frame: str) -> Path:
        """Return where a panorama belongs."""
        return self.home / split / sequence / str(agent_id) / f"{frame}.npz"

    def load(self, split: str, sequence: str, agent: AgentRecord, frame: str) -> Panorama | None:
        """Return a panorama, or None if it is not there or its source files have changed.

        Raises
        ------
        ValueError
            If the file is there but damaged.
        """
        path = self.path(split, sequence, agent.agent_id, frame)
        try:
            archive = load_npz(path)
            if not np.array_equal(archive["sources"], self._sources(agent)):
                return None
            return _unpack(archive, (self.cylinder.height, self.cylinder.width))
        except FileNotFoundError:
            return None
        except Exception as error:  # arrays of another shape or kind than expected can raise nearly anything
            raise ValueError(f"{path}: damaged cached panorama ({error}); delete it and prebuild again") from error

    def save(self, split: str, sequence: str, agent: AgentRecord, frame: str, panorama: Panorama) -> None:
        """Write a panorama, whole or not at all."""
        _, png = cv2.imencode(".png", panorama.color[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 4])
        masks = np.packbits(np.stack([getattr(panorama, name) for name in _MASKS]), axis=None)
        with whole_file(self.path(split, sequence, agent.agent_id, frame)) as stream:
            np.savez(
                stream,
                sources=self._sources(agent),
                color_png=png.ravel(),
                range_m=panorama.range_m[panorama.has_range],
                masks=masks,
            )

    def load_or_build(self, split: str, sequence: str, agent: AgentRecord, frame: str) -> Panorama:
        """Return a panorama from the cache, or built from its files (and not kept: `prebuild` does that)."""
        cached = self.load(split, sequence, agent, frame)
        return self.build(agent) if cached is None else cached

    def build(self, agent: AgentRecord) -> Panorama:
        """Build a panorama from its files with this cache's parameters."""
        return load_panorama(agent, self.cylinder, self.options, camera_ids=self.camera_ids, with_depth=self.with_depth)

    def _sources(self, agent: AgentRecord) -> npt.NDArray[np.int64]:
        """Return size and time of the files that a panorama is made from, (F, 2); -1 for missing ones."""
        ids = sorted(agent.camera_paths) if self.camera_ids is None else self.camera_ids
        paths = [agent.yaml_path, *(agent.camera_paths.get(number) for number in ids)]
        if self.with_depth:
            paths += [agent.depth_paths.get(number) for number in ids]
        return np.array([_stamp(path) for path in paths], np.int64)


@dataclass(frozen=True)
class Prebuilt:
    """What `prebuild` did: numbers of panoramas, and the errors by ``split/sequence/frame agent``."""

    built: int
    skipped: int
    failed: dict[str, str]
    home: Path


def prebuild(
    index: TreeIndex,
    cache: PanoramaCache,
    *,
    splits: Sequence[str] | None = None,
    workers: int = 1,
    executor: Executor | None = None,
    progress: bool = True,
) -> Prebuilt:
    """Build every panorama that the cache does not have yet.

    Parameters
    ----------
    index : TreeIndex
        What to build.
    cache : PanoramaCache
        Where to, and how.
    splits : sequence of str, optional
        Default: all of the index.
    workers : int
        Processes; with an executor, how many items it works on at once.
    executor : Executor, optional
        Run there instead of in processes of this machine.
    progress : bool
        Show a bar.
    """
    lists = [index.splits[split] for split in (splits if splits is not None else index.splits)]
    tasks = (
        _Task(cache, frame.split, frame.sequence, frame.frame, agent)
        for frames in lists
        for frame in frames
        for agent in frame.agents
        if agent.has_yaml
    )
    total = sum(frames.count_agents() for frames in lists)
    write_json(cache.home / "parameters.json", cache.parameters())
    remove_stale(cache.home)
    built, skipped, failed = 0, 0, {}
    outcomes = jobs.run(
        _prebuild_one,
        tasks,
        total=total,
        workers=workers,
        description="panoramas",
        unit="panorama",
        executor=executor,
        progress=progress,
    )
    for done in outcomes:
        if done.error is not None:
            task = done.item
            failed[f"{task.split}/{task.sequence}/{task.frame} agent {task.agent.agent_id}"] = str(done.error)
        else:
            built, skipped = built + bool(done.result), skipped + (not done.result)
    return Prebuilt(built, skipped, failed, cache.home)


@dataclass(frozen=True)
class _Task:
    cache: PanoramaCache
    split: str
    sequence: str
    frame: str
    agent: AgentRecord


def _prebuild_one(task: _Task) -> bool:
    """Build one panorama; return whether it was not there."""
    where = (task.split, task.sequence, task.agent, task.frame)
    try:
        if task.cache.load(*where) is not None:
            return False
    except ValueError:
        task.cache.path(task.split, task.sequence, task.agent.agent_id, task.frame).unlink()  # damaged: make anew
    task.cache.save(*where, task.cache.build(task.agent))
    return True


def _unpack(archive: Any, shape: tuple[int, int]) -> Panorama:
    """Return the panorama in an open file."""
    png = archive["color_png"]
    if (int.from_bytes(png[20:24], "big"), int.from_bytes(png[16:20], "big")) != shape:
        raise ValueError("its colours have another size")
    color = cv2.imdecode(png, cv2.IMREAD_COLOR)
    if color is None or color.shape != (*shape, 3):
        raise ValueError("its colours do not decode")
    count = shape[0] * shape[1]
    bits = np.unpackbits(archive["masks"], count=len(_MASKS) * count).view(bool)
    masks = dict(zip(_MASKS, bits.reshape(len(_MASKS), *shape)))
    range_m = np.zeros(shape, np.float32)
    range_m[masks["has_range"]] = archive["range_m"]
    return Panorama(color=cv2.cvtColor(color, cv2.COLOR_BGR2RGB, dst=color), range_m=range_m, **masks)  # type: ignore[arg-type]


def _stamp(path: Path | None) -> tuple[int, int]:
    if path is None:
        return -1, -1
    try:
        status = os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        return -1, -1
    return status.st_size, status.st_mtime_ns
