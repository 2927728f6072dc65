"""Index of an OPV2V or V2XSet tree, by file names only.

The index keeps one integer of flags per agent and frame; records with paths are made when they are asked for,
so that 50,000 frames cost a few megabytes and worker processes share them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from mapanything_opv2v.rawdata import exclude as leaving_out
from mapanything_opv2v.rawdata import other_datasets, scan
from mapanything_opv2v.rawdata.images import check_png_units
from mapanything_opv2v.rawdata.names import (
    DEPTH_FLAGS,
    SPLITS,
    YAML,
    AgentFolder,
    AgentRecord,
    SequenceFolder,
    agent_record,
    frame_flags,
    is_agent_name,
)
from mapanything_opv2v.rawdata.rigs import RigSequence, is_rig_file, rig_sequence


@dataclass(frozen=True)
class FrameRecord:
    """One frame of one sequence with every agent that has a file at it.

    Attributes
    ----------
    split, sequence : str
        Folder names.
    frame : str
        Six digits.
    agents : tuple of AgentRecord
        Sorted by id.
    """

    split: str
    sequence: str
    frame: str
    agents: tuple[AgentRecord, ...]

    def agent(self, agent_id: int) -> AgentRecord:
        """Return the agent with this id.

        Raises
        ------
        ValueError
            If the frame has no such agent; names those it has.
        """
        for agent in self.agents:
            if agent.agent_id == agent_id:
                return agent
        known = ", ".join(str(agent.agent_id) for agent in self.agents)
        raise ValueError(f"{self.name}: no agent {agent_id}; agents there: {known}")

    @property
    def name(self) -> str:
        """``split/sequence/frame``, for messages."""
        return f"{self.split}/{self.sequence}/{self.frame}"


class FrameList(Sequence[FrameRecord]):
    """The frames of one split, sorted by sequence and frame; records are made on access."""

    def __init__(
        self,
        root: Path,
        depth_root: Path,
        split: str,
        sequences: Sequence[SequenceFolder],
        png_units_per_m: float | None = None,
    ) -> None:
        self.root, self.depth_root, self.split = root, depth_root, split
        self.png_units_per_m = png_units_per_m
        self.sequences = tuple(sequences)
        self._ends = np.cumsum([len(sequence.frames) for sequence in self.sequences], dtype=np.int64)

    def __len__(self) -> int:
        """Return the number of frames."""
        return int(self._ends[-1]) if len(self._ends) else 0

    @overload
    def __getitem__(self, index: int) -> FrameRecord: ...

    @overload
    def __getitem__(self, index: slice) -> list[FrameRecord]: ...

    def __getitem__(self, index: int | slice) -> FrameRecord | list[FrameRecord]:
        """Return a frame's record, or a list of them for a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)} in split {self.split!r}")
        number = int(np.searchsorted(self._ends, index, side="right"))
        sequence = self.sequences[number]
        start = int(self._ends[number - 1]) if number else 0
        return self._record(sequence, int(sequence.frames[index - start]))

    def __iter__(self) -> Iterator[FrameRecord]:
        """Make the records one after the other."""
        for sequence in self.sequences:
            for frame in sequence.frames:
                yield self._record(sequence, int(frame))

    def count_agents(self) -> int:
        """Return the number of agents at frames."""
        return sum(len(agent.frames) for sequence in self.sequences for agent in sequence.agents)

    def any_depth(self) -> bool:
        """Say whether any image has a depth map."""
        return any(bool((agent.flags & DEPTH_FLAGS).any()) for s in self.sequences for agent in s.agents)

    def agent_ids(self, index: int) -> tuple[int, ...]:
        """Return the ids of a frame's agents that have a YAML, without making paths."""
        number = int(np.searchsorted(self._ends, index, side="right"))
        sequence = self.sequences[number]
        frame = sequence.frames[index - (int(self._ends[number - 1]) if number else 0)]
        found = []
        for agent in sequence.agents:
            at = int(np.searchsorted(agent.frames, frame))
            if at < len(agent.frames) and agent.frames[at] == frame and agent.flags[at] & YAML:
                found.append(agent.agent_id)
        return tuple(found)

    def _record(self, sequence: SequenceFolder, frame: int) -> FrameRecord:
        agents = []
        for agent in sequence.agents:
            at = int(np.searchsorted(agent.frames, frame))
            if at < len(agent.frames) and agent.frames[at] == frame:
                agents.append(self._agent(sequence, agent, frame, int(agent.flags[at])))
        return FrameRecord(self.split, sequence.name, f"{frame:06d}", tuple(agents))

    def _agent(self, sequence: SequenceFolder, agent: AgentFolder, frame: int, flags: int) -> AgentRecord:
        if isinstance(sequence, RigSequence):
            record = sequence.record(agent.agent_id, frame)
        else:
            below = Path(self.split) / sequence.name / agent.name
            record = agent_record(agent.agent_id, self.root / below, self.depth_root / below, f"{frame:06d}", flags)
        return record if self.png_units_per_m is None else replace(record, png_units_per_m=self.png_units_per_m)


@dataclass(frozen=True)
class TreeIndex:
    """The frames of a tree, split by split.

    Attributes
    ----------
    root, depth_root : Path
        Where images and where depth maps are (the same folder unless told).
    splits : mapping of str to FrameList
        Each sorted by sequence and frame.
    excluded : tuple of Excluded
        What was left out of it by name.
    """

    root: Path
    depth_root: Path
    splits: Mapping[str, FrameList]
    excluded: tuple[leaving_out.Excluded, ...] = ()

    @property
    def rig_cameras(self) -> tuple[int, ...]:
        """Cameras of the recordings with a `rig.yaml`; empty where there are none."""
        every = [sequence for frames in self.splits.values() for sequence in frames.sequences]
        return tuple(range(max((len(s.recording.cameras) for s in every if isinstance(s, RigSequence)), default=0)))


def index_tree(
    root: str | Path,
    *,
    depth_root: str | Path | None = None,
    splits: Sequence[str] | None = None,
    cache_dir: str | Path | None = None,
    exclude: str | Path | Iterable[str | Path] | None = leaving_out.KNOWN,
    png_units_per_m: float | None = None,
) -> TreeIndex:
    """Index a tree by names only.

    Parameters
    ----------
    root : path
        Folder that holds the splits, or a `rig.yaml`: one sequence, which is the split that is asked for.
    depth_root : path, optional
        Tree of depth maps; default `root`.
    splits : sequence of str, optional
        Splits to index; default those of `SPLITS` that exist.
    cache_dir : path, optional
        Keep the index there. It is used again only while no folder of the tree has changed.
    exclude : str or iterable of str
        Sequences, frames and agents to leave out, see `exclude.parse`; default what is known to be broken in the
        published data. None or `"none"` leaves nothing out.
    png_units_per_m : float, optional
        Scale of this tree's 16-bit depth PNGs that state none.

    Returns
    -------
    TreeIndex

    Raises
    ------
    FileNotFoundError
        If a root or a split that was asked for does not exist.
    ValueError
        If the tree has no split, two folders stand for the same agent, or a rig file is not sound.
    """
    root = Path(root)
    if root.is_file():
        return _recording_index(root, depth_root, splits, exclude, png_units_per_m)
    depth = root if depth_root is None else Path(depth_root)
    for name, folder in (("root", root), ("depth_root", depth)):
        if not folder.is_dir():
            raise FileNotFoundError(f"{name}={folder} is not a folder; it must hold {', '.join(SPLITS)}")
    names = list(splits) if splits is not None else [name for name in SPLITS if (root / name).is_dir()]
    for name in names:
        if not (root / name).is_dir():
            there = ", ".join(sorted(p.name for p in root.iterdir() if p.is_dir())) or "nothing"
            raise FileNotFoundError(f"no split {name!r} in {root}; folders there: {there}")
    if (other := other_datasets.recognise(root)) is not None:
        raise ValueError(f"{root} looks like {other}")
    if not names:
        raise ValueError(f"{root} holds none of {', '.join(SPLITS)}; point at the folder above them")
    units = None if png_units_per_m is None else check_png_units(png_units_per_m)
    found, rules, excluded = {}, leaving_out.parse(exclude), []
    for name in names:
        sequences = scan.split(root, depth, name, None if cache_dir is None else Path(cache_dir))
        kept, left = leaving_out.apply(name, sequences, rules)
        found[name] = FrameList(root, depth, name, kept, units)
        excluded += left
    return TreeIndex(root, depth, found, tuple(excluded))


def _recording_index(
    path: Path,
    depth_root: str | Path | None,
    splits: Sequence[str] | None,
    exclude: str | Path | Iterable[str | Path] | None,
    png_units_per_m: float | None,
) -> TreeIndex:
    """Return the index of one recording."""
    if not is_rig_file(path):
        raise ValueError(f"root={path} is a file, and no rig.yaml; give one, or a folder of {', '.join(SPLITS)}")
    if depth_root is not None:
        raise ValueError(f"{path} names its own depth maps; leave out depth_root={depth_root}")
    names = tuple(splits or ("test",))
    if len(names) > 1:
        raise ValueError(
            f"{path} is one recording, not {', '.join(names)}: lay recordings as {{split}}/{{name}}/rig.yaml and give "
            "the folder above"
        )
    units = None if png_units_per_m is None else check_png_units(png_units_per_m)
    kept, left = leaving_out.apply(names[0], [rig_sequence(path)], leaving_out.parse(exclude))
    return TreeIndex(path, path, {names[0]: FrameList(path, path, names[0], kept, units)}, tuple(left))


def summarise(index: TreeIndex, max_scenes: int | None = None) -> list[dict[str, Any]]:
    """Count what a tree holds, by names only.

    Returns
    -------
    list of dict
        One entry for each split: ``split, sequences, scenes, agents`` (frames by number of agents),
        ``images``,
        ``sweeps``, ``depth_maps``.
    """
    rows, left = [], max_scenes
    for split, every in index.splits.items():
        frames: Sequence[FrameRecord] = every if left is None else every[:left]
        left = None if left is None else left - len(frames)
        row: dict[str, Any] = {"split": split, "sequences": 0, "scenes": len(frames)}
        agents: Counter[int] = Counter()
        sequences, images, sweeps, maps = set(), 0, 0, 0
        for frame in frames:
            sequences.add(frame.sequence)
            agents[len(frame.agents)] += 1
            images += sum(len(agent.camera_paths) for agent in frame.agents)
            sweeps += sum(agent.pcd_path is not None for agent in frame.agents)
            maps += sum(len(agent.depth_paths) for agent in frame.agents)
        row |= {"sequences": len(sequences), "agents": dict(sorted(agents.items()))}
        rows.append(row | {"images": images, "sweeps": sweeps, "depth_maps": maps})
    return rows


def agent_beside(yaml_path: str | Path, depth_dir: str | Path | None = None) -> AgentRecord:
    """Return the record of one agent at one frame from its YAML's path, wherever its folder stands.

    Parameters
    ----------
    yaml_path : path
        ``{frame}.yaml``; images, sweep and depth maps are looked for beside it.
    depth_dir : path, optional
        Folder of the depth maps, if not that one.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or its name is not a frame's.
    """
    path = Path(yaml_path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    frame, name = path.stem, path.parent.name
    flags = frame_flags([entry.name for entry in path.parent.iterdir()])
    if path.suffix != ".yaml" or not frame.isdecimal() or int(frame) not in flags or len(frame) != 6:
        raise ValueError(f"{path}: expected an agent's YAML named by its frame, such as 000069.yaml")
    found = flags[int(frame)]
    if depth_dir is not None:
        beside = frame_flags([entry.name for entry in Path(depth_dir).iterdir()], depth_only=True)
        found = found & ~DEPTH_FLAGS | beside.get(int(frame), 0)
    folder = path.parent
    agent_id = int(name) if is_agent_name(name) else 0
    return agent_record(agent_id, folder, folder if depth_dir is None else Path(depth_dir), frame, found)
