"""One agent's panorama at one frame, from its files or from the cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.panorama.builder import Panorama, PanoramaBuilder
from mapanything_opv2v.panorama.options import PanoramaOptions
from mapanything_opv2v.panorama.rig import Rig
from mapanything_opv2v.rawdata import AgentMeta, AgentRecord, load_agent_yaml, load_depth, load_image


def load_panorama(
    agent: AgentRecord,
    cylinder: Cylinder,
    options: PanoramaOptions | None = None,
    *,
    camera_ids: Sequence[int] | None = None,
    with_depth: bool = True,
    meta: AgentMeta | None = None,
) -> Panorama:
    """Read one agent's images and depth maps and build its panorama.

    Parameters
    ----------
    agent : AgentRecord
        Its files; no other agent's are opened.
    cylinder : Cylinder
        Pixels of the panorama. Its centre and axes are the LiDAR's.
    options : PanoramaOptions, optional
        Default options if not given.
    camera_ids : sequence of int, optional
        Cameras to use; default all that have an image.
    with_depth : bool
        Without, the panorama has colour only and no depth map is read.
    meta : AgentMeta, optional
        If the YAML has been read already.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing or unusable; the message names it.
    """
    if meta is None:
        meta = load_agent_yaml(agent.yaml_path)
    ids = list(agent.camera_paths) if camera_ids is None else list(camera_ids)
    images = [load_image(_path(agent, agent.camera_paths, number, "image")) for number in ids]
    depths = None
    if with_depth:
        depths = [_depth(agent, number) for number in ids]
    files = [agent.camera_paths[number] for number in ids]
    rig = Rig.from_agent(meta, [(image.shape[1], image.shape[0]) for image in images], ids, files)
    return PanoramaBuilder(rig, cylinder, options).build(images, depths)


def _depth(agent: AgentRecord, number: int) -> npt.NDArray[np.float32]:
    path = _path(agent, agent.depth_paths, number, "depth map")
    return load_depth(path, png_units_per_m=agent.png_units_per_m)


def _path(agent: AgentRecord, paths: Mapping[int, Path], number: int, what: str) -> Path:
    if number not in paths:
        raise ValueError(
            f"{agent.yaml_path}: agent {agent.agent_id} has no {what} of camera{number}; "
            f"it has those of cameras {sorted(paths)}"
        )
    return paths[number]
