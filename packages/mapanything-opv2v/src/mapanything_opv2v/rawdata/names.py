"""What names in an OPV2V or V2XSet tree mean: where each file stands, and flags for which of them a frame has.

``{root}/{split}/{sequence}/{agent}/{frame}.yaml``, ``{frame}_camera{K}.png``, ``{frame}.pcd`` and, in the
same tree or in one beside it, ``{depth_root}/{split}/{sequence}/{agent}/{frame}_camera{K}_depth.npy`` (or
``.png``, or OPV2V-H's ``{frame}_depth{K}.png``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

SPLITS = ("train", "validate", "test", "test_culvercity")
"""The published splits, in the order in which they are listed."""

MAX_CAMERAS = 8
"""Cameras an agent may have in the index (OPV2V has 4)."""

YAML, _PCD = 1, 2
# first bit of each group of flags
_CAMERA, _NPY, _PNG, _HEAL = 2, 2 + MAX_CAMERAS, 2 + 2 * MAX_CAMERAS, 2 + 3 * MAX_CAMERAS
_FLAGS = {".yaml": YAML, ".pcd": _PCD}
for _k in range(MAX_CAMERAS):
    _FLAGS[f"_camera{_k}.png"] = 1 << (_CAMERA + _k)
    _FLAGS[f"_camera{_k}_depth.npy"] = 1 << (_NPY + _k)
    _FLAGS[f"_camera{_k}_depth.png"] = 1 << (_PNG + _k)
    if _HEAL + _k < 31:  # flags are kept in 32 bits with a sign
        _FLAGS[f"_depth{_k}.png"] = 1 << (_HEAL + _k)
DEPTH_FLAGS = sum(1 << (first + k) for first in (_NPY, _PNG, _HEAL) for k in range(MAX_CAMERAS) if first + k < 31)
"""Flags of depth maps, in any form."""
_AGENT = re.compile(r"-?\d{1,9}\Z")


def depth_path(depth_root: Path, split: str, sequence: str, agent_id: int, frame: str, camera: int) -> Path:
    """Return where a camera's depth map belongs (the ``.npy`` form)."""
    return depth_root / split / sequence / str(agent_id) / f"{frame}_camera{camera}_depth.npy"


@dataclass(frozen=True)
class AgentRecord:
    """One agent at one frame: paths of the files that exist. Nothing is opened.

    Attributes
    ----------
    agent_id : int
        Negative for infrastructure.
    yaml_path : Path
        Where the agent's YAML belongs; `has_yaml` says whether it is there.
    camera_paths : dict of int to Path
        Camera index to image.
    pcd_path : Path or None
        LiDAR sweep.
    depth_paths : dict of int to Path
        Camera index to depth map; ``.npy`` before ``.png`` before OPV2V-H's where several forms exist.
    has_yaml : bool
        Whether `yaml_path` exists.
    png_units_per_m : float or None
        Scale of its 16-bit depth PNGs that state none; None: what `images.assume_png_units` has set.
    """

    agent_id: int
    yaml_path: Path
    camera_paths: dict[int, Path]
    pcd_path: Path | None
    depth_paths: dict[int, Path]
    has_yaml: bool = True
    png_units_per_m: float | None = None


@dataclass(frozen=True)
class AgentFolder:
    """What the names in one agent's folder say.

    Attributes
    ----------
    agent_id : int
        From the folder's name.
    name : str
        The folder's name (``0041`` and ``41`` are the same id but not the same folder).
    frames : (F,) int32
        Frame numbers, ascending.
    flags : (F,) int32
        Which files each frame has.
    """

    agent_id: int
    name: str
    frames: npt.NDArray[np.int32]
    flags: npt.NDArray[np.int32]


@dataclass(frozen=True)
class SequenceFolder:
    """One sequence: its agents and the union of their frames.

    Attributes
    ----------
    name : str
        Folder name.
    agents : tuple of AgentFolder
        Sorted by id.
    frames : (F,) int32
        Ascending.
    """

    name: str
    agents: tuple[AgentFolder, ...]
    frames: npt.NDArray[np.int32] = field(init=False)

    def __post_init__(self) -> None:
        """Unite the agents' frames."""
        empty = [np.empty(0, np.int32)]
        object.__setattr__(self, "frames", np.unique(np.concatenate([a.frames for a in self.agents] or empty)))


def frame_flags(names: Sequence[str], *, depth_only: bool = False) -> dict[int, int]:
    """Return flags by frame number for the names in one folder; other names are ignored."""
    flags: dict[int, int] = {}
    get = _FLAGS.get
    for name in names:
        flag = get(name[6:])
        if flag is None:
            continue
        digits = name[:6]
        if not (digits.isdecimal() and digits.isascii()) or (depth_only and not flag & DEPTH_FLAGS):
            continue
        frame = int(digits)
        flags[frame] = flags.get(frame, 0) | flag
    return flags


def camera_flags(cameras: Sequence[int], depths: Sequence[int]) -> int:
    """Return the flags of images and depth maps of these cameras.

    Examples
    --------
    >>> names = ["000000_camera0.png", "000000_camera1.png", "000000_camera1_depth.npy"]
    >>> camera_flags([0, 1], [1]) == frame_flags(names)[0]
    True
    """
    return sum(1 << (_CAMERA + k) for k in cameras) + sum(1 << (_NPY + k) for k in depths)


def agent_record(agent_id: int, here: Path, depth: Path, frame: str, flags: int) -> AgentRecord:
    """Turn flags into paths."""
    cameras, depths = {}, {}
    for k in range(MAX_CAMERAS):
        if flags >> (_CAMERA + k) & 1:
            cameras[k] = here / f"{frame}_camera{k}.png"
        if flags >> (_NPY + k) & 1:
            depths[k] = depth / f"{frame}_camera{k}_depth.npy"
        elif flags >> (_PNG + k) & 1:
            depths[k] = depth / f"{frame}_camera{k}_depth.png"
        elif flags >> (_HEAL + k) & 1:
            depths[k] = depth / f"{frame}_depth{k}.png"
    return AgentRecord(
        agent_id=agent_id,
        yaml_path=here / f"{frame}.yaml",
        camera_paths=cameras,
        pcd_path=here / f"{frame}.pcd" if flags & _PCD else None,
        depth_paths=depths,
        has_yaml=bool(flags & YAML),
    )


def is_agent_name(name: str) -> bool:
    """Whether a folder's name is an agent id."""
    return _AGENT.match(name) is not None
