"""Trees of pairs of near vehicles, made of a drawn one: what the demo's model is judged on.

A pair is a sequence of its own, of one frame and two agents. In a tree of strangers the second agent's images come
from another town and its poses stay, so that whoever looks at the partner has to do worse.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mapanything_opv2v.rawdata import AgentRecord, FrameList, load_agent_yaml


@dataclass(frozen=True)
class Pair:
    """Two agents of a frame."""

    town: str
    frame: str
    first: AgentRecord
    second: AgentRecord


def near_pairs(frames: FrameList, limit_m: float) -> list[Pair]:
    """Return all pairs of agents whose LiDARs are not farther apart than so, by frame and id."""
    found = []
    for frame in frames:
        at = {agent.agent_id: load_agent_yaml(agent.yaml_path).lidar_pose[:3] for agent in frame.agents}
        for first, second in itertools.combinations(frame.agents, 2):
            if np.linalg.norm(at[first.agent_id] - at[second.agent_id]) <= limit_m:
                found.append(Pair(frame.sequence, frame.frame, first, second))
    return found


def write_pairs(split_folder: Path, pairs: Sequence[Pair], *, strangers: bool = False) -> None:
    """Write pairs as a split of a tree, depth maps beside the images.

    Parameters
    ----------
    split_folder : Path
        Such as ``tree/test``; must not be there.
    pairs : sequence of Pair
        With one frame number: files keep their names.
    strangers : bool
        Take the second agent's images from the pair half the list away, or the next one of another town.

    Raises
    ------
    ValueError
        If there are no pairs, or strangers are asked for and all pairs are of one town.
    """
    if not pairs or (strangers and len({pair.town for pair in pairs}) < 2):
        raise ValueError(f"{split_folder}: {len(pairs)} pairs of near vehicles, too few to judge a model on")
    for number, pair in enumerate(pairs):
        sequence = split_folder / f"{pair.town}_{number:03d}"
        _copy(pair.first, pair.first, sequence)
        _copy(pair.second, _stranger(pairs, number) if strangers else pair.second, sequence)


def _stranger(pairs: Sequence[Pair], number: int) -> AgentRecord:
    """Return the second agent of a pair of another town."""
    turned = [pairs[(number + len(pairs) // 2 + k) % len(pairs)] for k in range(len(pairs))]
    return next(pair.second for pair in turned if pair.town != pairs[number].town)


def _copy(agent: AgentRecord, seen: AgentRecord, sequence: Path) -> None:
    """Write an agent's YAML beside the images and depth maps of an agent that may be another one."""
    folder = sequence / str(agent.agent_id)
    folder.mkdir(parents=True)
    shutil.copyfile(agent.yaml_path, folder / agent.yaml_path.name)
    for path in (*seen.camera_paths.values(), *seen.depth_paths.values()):
        shutil.copyfile(path, folder / path.name)
