"""Trees of other data sets, told by a few names, so that nobody is told that thousands of files are missing."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from mapanything_opv2v.rawdata.names import SPLITS, is_agent_name

_LOOKED_AT = 40
"""Folders that are looked into; a tree of ours is known by its first ones."""

_SHAPES = (
    (re.compile(r"\d{6}_cam\d+\.(jpe?g|png)"), "V2X-Real (images named {frame}_cam1.jpeg)"),
    (re.compile(r"\d{6}\.bin"), "V2X-Real or a converted tree (sweeps named {frame}.bin)"),
)
_OURS = re.compile(r"\d{6}_camera\d\.png")
_SWEEP = re.compile(r"\d{6}\.pcd")
_DAIR = {"cooperative", "vehicle-side", "infrastructure-side", "cooperative-vehicle-infrastructure"}
_WHAT_TO_DO = (
    "this package reads OPV2V and V2XSet: {split}/{sequence}/{agent}/{frame}.yaml with camera0 to camera3, "
    "{frame}_camera0.png ... and {frame}.pcd. Convert it to this layout; `predict --images` takes its photographs as "
    "they are"
)


def recognise(root: Path) -> str | None:
    """Return which other data set a folder looks like and what to do, or None: ours, or unknown.

    Nothing is opened. A tree with a single file named as ours is ours.
    """
    if found := _DAIR & {entry.name for entry in itertools.islice(root.iterdir(), 200)}:
        return f"DAIR-V2X (folders {', '.join(sorted(found))}); {_WHAT_TO_DO}"
    other, agents, sweeps = None, set(), False
    for folder in itertools.islice(_agents(root), _LOOKED_AT):
        names = [entry.name for entry in itertools.islice(folder.iterdir(), 200)]
        if any(map(_OURS.fullmatch, names)):
            return None
        agents.add(folder.name)
        sweeps = sweeps or any(map(_SWEEP.fullmatch, names))
        for pattern, what in _SHAPES:
            if other is None and any(map(pattern.fullmatch, names)):
                other = what
    if other is None and sweeps and agents <= {"0", "1"}:
        other = "V2V4Real (agents 0 and 1, sweeps without camera images)"
    return None if other is None else f"{other}; {_WHAT_TO_DO}"


def _agents(root: Path) -> Iterator[Path]:
    """Yield the agents' folders of the splits, also of a `val`."""
    for split in (root / name for name in (*SPLITS, "val") if (root / name).is_dir()):
        for sequence in sorted(split.iterdir()):
            if sequence.is_dir():
                yield from (
                    agent for agent in sorted(sequence.iterdir()) if agent.is_dir() and is_agent_name(agent.name)
                )
