"""One vehicle's observation of one frame, read from its files: a pinhole view or a panorama.

Every error names split, sequence, frame, agent and key: datasets hand it on unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mapanything_opv2v.geometry import Cylinder, T_world_cam_opencv
from mapanything_opv2v.panorama import PanoramaCache, PanoramaOptions, load_panorama
from mapanything_opv2v.rawdata import AgentMeta, AgentRecord, FrameRecord, load_agent_yaml, load_depth, load_image
from mapanything_opv2v.rawdata.calibration import fitted_intrinsic


class SampleError(ValueError):
    """A sample cannot be made; the message begins with split/sequence/frame, agent and key."""


@contextmanager
def naming(frame: FrameRecord, agent_id: int, key: str) -> Iterator[None]:
    """Turn file and value errors inside the block into a `SampleError` that names where they belong."""
    try:
        yield
    except SampleError:
        raise
    except (OSError, ValueError) as error:
        raise SampleError(f"{frame.name} agent {agent_id} {key}: {error}") from error


@dataclass(frozen=True)
class PinholeView:
    """One camera's image with its truth.

    Attributes
    ----------
    image : (H, W, 3) uint8
        RGB.
    depth_z_m : (H, W) float32
        z-depth in metres, 0 unknown, negative sky.
    intrinsic : (3, 3) float64
        Pixel centres at integers.
    T_world_cam : (4, 4) float64
        Camera to map, OpenCV axes on both sides.
    """

    image: npt.NDArray[np.uint8]
    depth_z_m: npt.NDArray[np.float32]
    intrinsic: npt.NDArray[np.float64]
    T_world_cam: npt.NDArray[np.float64]


def load_meta(frame: FrameRecord, agent_id: int) -> AgentMeta:
    """Read an agent's YAML; errors name the frame."""
    with naming(frame, agent_id, "yaml"):
        return load_agent_yaml(frame.agent(agent_id).yaml_path)


def load_pinhole_view(
    frame: FrameRecord, meta: AgentMeta, agent_id: int, camera: int, *, need_depth: bool = True
) -> PinholeView:
    """Read one camera of one agent; without `need_depth`, its depth is unknown where there is no map.

    Raises
    ------
    SampleError
        If the image, its depth map or its YAML entry is missing, unreadable or of another size.
    """
    agent = frame.agent(agent_id)
    with naming(frame, agent_id, f"camera{camera}"):
        image = load_image(_path(agent.camera_paths, camera, "image"))
        if camera not in meta.cameras:
            raise ValueError(f"{agent.yaml_path} has no camera{camera}; it has cameras {sorted(meta.cameras)}")
        camera_meta = meta.cameras[camera]
        size = (image.shape[1], image.shape[0])
        intrinsic = fitted_intrinsic(camera_meta, size, agent.camera_paths[camera])
        T_world_cam = T_world_cam_opencv(camera_meta.cords)
    with naming(frame, agent_id, f"camera{camera}_depth"):
        if not need_depth and camera not in agent.depth_paths:
            depth = np.zeros(image.shape[:2], dtype=np.float32)
            return PinholeView(image, depth, intrinsic, T_world_cam)
        path = _path(agent.depth_paths, camera, "depth map")
        depth = load_depth(path, png_units_per_m=agent.png_units_per_m)
        if depth.shape != image.shape[:2]:
            raise ValueError(f"{path}: shape {depth.shape}, expected the image's {image.shape[:2]}")
    return PinholeView(image, depth, intrinsic, T_world_cam)


@dataclass(frozen=True)
class PanoramaView:
    """One agent's panorama with its truth.

    Attributes
    ----------
    color : (H, W, 3) uint8
        RGB; black where no camera sees.
    range_m : (H, W) float32
        Distance along the ray in metres, 0 unknown or not covered by any image.
    non_ambiguous : (H, W) bool
        False where there is no geometry to learn: sky, and directions that no camera sees.
    T_world_pano : (4, 4) float64
        Panorama (LiDAR centre and orientation) to map, OpenCV axes on both sides.
    """

    color: npt.NDArray[np.uint8]
    range_m: npt.NDArray[np.float32]
    non_ambiguous: npt.NDArray[np.bool_]
    T_world_pano: npt.NDArray[np.float64]


def panorama_cache(
    folder: Path, cylinder: Cylinder, options: PanoramaOptions, agent: AgentRecord, camera_ids: Sequence[int]
) -> PanoramaCache:
    """Return the cache in which `prebuild` keeps panoramas of these cameras of an agent.

    All cameras of an agent are None there, as `prebuild` asks for them unless told.
    """
    every = set(camera_ids) == set(agent.camera_paths)
    return PanoramaCache(folder, cylinder, options, None if every else tuple(camera_ids))


def load_panorama_view(
    frame: FrameRecord,
    meta: AgentMeta,
    agent_id: int,
    camera_ids: Sequence[int],
    cylinder: Cylinder,
    options: PanoramaOptions,
    cache_folder: Path | None = None,
    *,
    need_depth: bool = True,
) -> PanoramaView:
    """Take an agent's panorama from the cache, or read its cameras and build it.

    Without `need_depth`, a panorama of cameras of which one has no depth map has colour only.

    Raises
    ------
    SampleError
        If a file is missing or unusable; names it.
    """
    agent = frame.agent(agent_id)
    with naming(frame, agent_id, "panorama"):
        made = None
        if cache_folder is not None:
            cache = panorama_cache(cache_folder, cylinder, options, agent, camera_ids)
            made = cache.load(frame.split, frame.sequence, agent, frame.frame)
        if made is None:
            with_depth = need_depth or set(camera_ids) <= set(agent.depth_paths)
            made = load_panorama(agent, cylinder, options, camera_ids=camera_ids, meta=meta, with_depth=with_depth)
    return PanoramaView(
        color=made.color,
        range_m=np.where(made.covered, made.range_m, np.float32(0)),
        non_ambiguous=made.covered & ~made.sky,
        T_world_pano=T_world_cam_opencv(meta.lidar_pose),
    )


def _path(paths: Mapping[int, Path], camera: int, what: str) -> Path:
    if camera not in paths:
        raise ValueError(f"no {what} of camera{camera}; the agent has those of cameras {sorted(paths)}")
    return paths[camera]
