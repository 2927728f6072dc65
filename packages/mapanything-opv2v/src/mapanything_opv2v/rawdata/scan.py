"""Reading the folders of one split, and the cache of what was read.

The cache is a JSON text (nothing in it is executed). It is valid while the modification time of every folder
it covers is the recorded one: a folder's time changes when a name in it appears, goes or is renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mapanything_opv2v.files import write_bytes
from mapanything_opv2v.rawdata import names, rigs

_FORMAT = 2
_SETTLED_NS = 2_000_000_000
"""A folder changed less than this before the scan could change again within one tick of the clock."""


def split(root: Path, depth_root: Path, name: str, cache_dir: Path | None) -> list[names.SequenceFolder]:
    """Return a split's sequences, sorted by name, from the cache where it is valid."""
    if cache_dir is None:
        return _scan(root, depth_root, name)[0]
    key = hashlib.sha256(f"{root.resolve()}\0{depth_root.resolve()}\0{name}".encode()).hexdigest()[:16]
    path = cache_dir / f"index-{name}-{key}.json"
    cached = _load(path)
    if cached is not None:
        return cached
    started = time.time_ns()
    sequences, folders = _scan(root, depth_root, name)
    times = {folder: os.stat(folder).st_mtime_ns for folder in folders if os.path.isdir(folder)}  # noqa: PTH112,PTH116
    recorded = any(isinstance(sequence, rigs.RigSequence) for sequence in sequences)  # their files lie anywhere
    if not recorded and all(moment < started - _SETTLED_NS for moment in times.values()):
        _save(path, sequences, folders, times)
    return sequences


def _scan(root: Path, depth_root: Path, name: str) -> tuple[list[names.SequenceFolder], list[str]]:
    """Return the sequences and every folder that was looked at (or looked for)."""
    beside = depth_root.resolve() != root.resolve()
    folders = [str(root / name)]
    sequences: list[names.SequenceFolder] = []
    for sequence in _subfolders(root / name):
        here = f"{root / name}/{sequence}"
        folders.append(here)
        if os.path.isfile(f"{here}/{rigs.RIG_FILE}"):  # noqa: PTH113
            sequences.append(rigs.rig_sequence(Path(here) / rigs.RIG_FILE))
            continue
        agents: dict[int, names.AgentFolder] = {}
        for agent in filter(names.is_agent_name, _subfolders(Path(here))):
            number = int(agent)
            if number in agents:
                raise ValueError(f"{here}: folders {agents[number].name!r} and {agent!r} are both agent {number}")
            flags = names.frame_flags(os.listdir(f"{here}/{agent}"))  # noqa: PTH208 (strings, a million of them)
            folders.append(f"{here}/{agent}")
            if beside:  # depth maps count only where they were said to be
                flags = {frame: flag & ~names.DEPTH_FLAGS for frame, flag in flags.items()}
                depth = f"{depth_root / name}/{sequence}/{agent}"
                folders.append(depth)
                _add_depth(flags, depth)
            frames = np.array(sorted(flags), np.int32)
            values = np.array([flags[frame] for frame in frames.tolist()], np.int32)
            agents[number] = names.AgentFolder(number, agent, frames, values)
        sequences.append(names.SequenceFolder(sequence, tuple(agents[number] for number in sorted(agents))))
    return sequences, folders


def _add_depth(flags: dict[int, int], folder: str) -> None:
    try:
        listed = os.listdir(folder)  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return  # an agent without depth maps
    for frame, flag in names.frame_flags(listed, depth_only=True).items():
        if frame in flags:  # depth of a frame that the tree does not have is of no use
            flags[frame] |= flag


def _subfolders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _load(path: Path) -> list[names.SequenceFolder] | None:
    """Return the cached sequences, or None if there are none or a folder has changed."""
    try:
        data = json.loads(path.read_bytes())
        if data["format"] != _FORMAT or any(_modified(folder) != moment for folder, moment in data["folders"]):
            return None
        return [names.SequenceFolder(name, tuple(_agents(agents))) for name, agents in data["sequences"]]
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError):
        return None  # a damaged cache is made anew


def _agents(rows: Iterable[list[Any]]) -> Iterable[names.AgentFolder]:
    for number, name, frames, flags in rows:
        yield names.AgentFolder(number, name, np.array(frames, np.int32), np.array(flags, np.int32))


def _save(path: Path, sequences: list[names.SequenceFolder], folders: list[str], times: dict[str, int]) -> None:
    rows = [[s.name, [[a.agent_id, a.name, a.frames.tolist(), a.flags.tolist()] for a in s.agents]] for s in sequences]
    data = {"format": _FORMAT, "folders": [[f, times.get(f)] for f in folders], "sequences": rows}
    write_bytes(path, json.dumps(data, separators=(",", ":")).encode())


def _modified(folder: str) -> int | None:
    try:
        return os.stat(str(folder)).st_mtime_ns  # noqa: PTH116
    except OSError:
        return None
