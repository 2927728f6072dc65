"""Frames for the pages: from the raw tree, or from a file of predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mapanything_opv2v import __version__, geometry, panorama, pictures, predictions, rawdata
from mapanything_opv2v.evaluation.alignment import align
from mapanything_opv2v.kinds import PANORAMA_SIZE
from mapanything_opv2v.rawdata import boxes
from mapanything_opv2v.rawdata.calibration import fitted_intrinsic
from mapanything_opv2v.rawdata.names import is_agent_name
from mapanything_opv2v.views.frame import Cloud, Estimate, Frame, Pinhole, View

LAYOUTS = ("cameras", "panorama")
CYLINDER = geometry.Cylinder(*PANORAMA_SIZE)


@dataclass(frozen=True, kw_only=True)
class RawOptions:
    """What to take of a raw frame."""

    depth_root: Path | None = None
    """Tree of depth maps; None: beside the images."""
    agents: Sequence[int] | None = None
    """Agents to show, main agent first; None: the agent of the YAML, then all others of the frame."""
    camera_ids: Sequence[int] | None = None
    """Cameras to use; None: all."""
    layout: str = "cameras"
    """``cameras``: a view for each image; ``panorama``: one for each agent."""
    cylinder: geometry.Cylinder = CYLINDER
    panorama_options: panorama.PanoramaOptions | None = None
    with_depth: bool = True
    """Without, no depth map is read."""
    with_sweeps: bool = False
    """Read the LiDAR sweeps too."""

    def __post_init__(self) -> None:
        """Refuse an unknown layout."""
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout={self.layout!r}, expected one of {', '.join(LAYOUTS)}")


def load_raw_frame(yaml_path: str | Path, options: RawOptions | None = None) -> Frame:
    """Read a frame of the raw tree: every agent that has the YAML's frame, the YAML's own agent first.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing or unusable, or an agent that was asked for is not there.
    """
    options = options or RawOptions()
    path = Path(yaml_path).absolute()
    records = [_record(folder / path.name, options) for folder in _folders(path, options.agents)]
    views: list[View] = []
    vehicles: dict[int, rawdata.Vehicle] = {}
    sweeps = {}
    for record in records:
        meta = rawdata.load_agent_yaml(record.yaml_path)
        vehicles = meta.vehicles | vehicles
        if options.layout == "cameras":
            views += _camera_views(record, meta, options)
        else:
            views.append(_panorama_view(record, meta, options))
        if options.with_sweeps:
            sweeps[record.agent_id] = _sweep(record, meta)
    if not views:
        agents = ", ".join(str(record.agent_id) for record in records)
        raise ValueError(
            f"{path}: no agent of this frame ({agents}) has a camera image, and a page begins at a camera; "
            "`mapanything-opv2v compare SWEEP.pcd SWEEP.pcd --axes carla` shows sweeps alone"
        )
    corners = {number: boxes.box_corners(vehicle) for number, vehicle in sorted(vehicles.items())}
    return raw_frame(path, views, boxes=corners, sweeps=sweeps)


def raw_frame(yaml_path: Path, views: Sequence[View], **parts: Any) -> Frame:
    """Return views of the raw tree as a frame; `parts` are further fields of `Frame`."""
    provenance = {"raw data": "no model", "made by": f"mapanything-opv2v {__version__}"}
    return Frame(_name(yaml_path.absolute()), tuple(views), provenance=provenance, **parts)


def _name(path: Path) -> str:
    """Return ``split/sequence/frame``, or ``folder/frame`` of a frame on its own."""
    above = path.parts[-4:-2] if is_agent_name(path.parent.name) else path.parts[-2:-1]
    return "/".join((*above, path.stem))


def _folders(path: Path, agents: Sequence[int] | None) -> list[Path]:
    """Return the folders of the agents to show."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    if not is_agent_name(path.parent.name):
        return [path.parent]  # a frame on its own, outside of a tree
    beside = sorted(path.parent.parent.glob(f"*/{path.name}"))
    there = {int(other.parent.name): other.parent for other in beside if is_agent_name(other.parent.name)}
    own = int(path.parent.name)
    wanted = [own, *(agent for agent in there if agent != own)] if agents is None else list(agents)
    missing = [agent for agent in wanted if agent not in there]
    if missing or not wanted:
        raise ValueError(f"{path}: no agents {missing} at this frame; agents there: {sorted(there)}")
    return [there[agent] for agent in wanted]


def _record(yaml_path: Path, options: RawOptions) -> rawdata.AgentRecord:
    depth_dir = None if options.depth_root is None else options.depth_root.joinpath(*yaml_path.parent.parts[-3:])
    if depth_dir is not None and not depth_dir.is_dir():
        raise FileNotFoundError(f"no folder {depth_dir} with the depth maps of {yaml_path}; is depth_root right?")
    return rawdata.agent_beside(yaml_path, depth_dir)


def _camera_views(record: rawdata.AgentRecord, meta: rawdata.AgentMeta, options: RawOptions) -> Iterator[View]:
    for number in sorted(record.camera_paths) if options.camera_ids is None else options.camera_ids:
        if number not in meta.cameras or number not in record.camera_paths:
            raise ValueError(f"{record.yaml_path}: no camera{number}; it has {sorted(record.camera_paths)}")
        image = rawdata.load_image(record.camera_paths[number])
        height, width = image.shape[:2]
        depth = None
        if options.with_depth and number in record.depth_paths:
            depth = rawdata.load_depth(record.depth_paths[number])
        K = fitted_intrinsic(meta.cameras[number], (width, height), record.camera_paths[number])
        camera = Pinhole(K, width, height)
        true = Estimate(geometry.T_world_cam_opencv(meta.cameras[number].cords))
        if depth is not None:
            ranges = np.where(depth > 0, geometry.ranges_from_depth_z(depth, camera.intrinsic), depth)
            masks = {"has_range": depth > 0, "sky": depth < 0}
            true = replace(true, range_m=ranges.astype(np.float32), rays=camera.rays(), masks=masks)
        yield View(f"camera{number}", record.agent_id, image, camera, true=true)


def _panorama_view(record: rawdata.AgentRecord, meta: rawdata.AgentMeta, options: RawOptions) -> View:
    with_depth = options.with_depth and bool(record.depth_paths)
    made = panorama.load_panorama(
        record,
        options.cylinder,
        options.panorama_options,
        camera_ids=options.camera_ids,
        with_depth=with_depth,
        meta=meta,
    )
    return panorama_view(made, record.agent_id, options.cylinder, meta.lidar_pose, with_depth=with_depth)


def panorama_view(
    made: panorama.Panorama,
    agent_id: int,
    cylinder: geometry.Cylinder,
    lidar_pose: npt.ArrayLike,
    *,
    with_depth: bool,
) -> View:
    """Return a panorama as a view; without depth it has colour and coverage only."""
    true = Estimate(geometry.T_world_cam_opencv(lidar_pose), masks={"covered": made.covered})
    if with_depth:
        ranges = np.where(made.sky, np.float32(rawdata.SKY), made.range_m)
        masks = {name: getattr(made, name) for name in ("covered", "has_range", "sky", "filled")}
        true = replace(true, range_m=ranges, rays=cylinder.rays(), masks=masks)
    return View("panorama", agent_id, made.color, cylinder, true=true)


def _sweep(record: rawdata.AgentRecord, meta: rawdata.AgentMeta) -> Cloud:
    """Return an agent's LiDAR sweep in the world, coloured by height: blue below the road, red at roofs."""
    if record.pcd_path is None:
        raise ValueError(f"{record.yaml_path}: agent {record.agent_id} has no LiDAR sweep")
    sweep = rawdata.load_pcd(record.pcd_path)
    T_world_lidar = geometry.T_world_from_pose(meta.lidar_pose)
    xyz = geometry.points_carla_to_opencv(geometry.transform_points(T_world_lidar, sweep.xyz))
    return Cloud(xyz, pictures.color_heights(sweep.xyz[:, 2]))


def load_predicted_frame(path: str | Path) -> Frame:
    """Read a file of predictions (`predictions.save_predictions`).

    The world is the model's own. True poses and boxes are brought into it by view 0, so that predicted poses
    and points are shown as they were predicted: truth moves nothing of theirs.

    Raises
    ------
    ValueError, OSError
        If the file is no file of predictions.
    """
    made = predictions.load_predictions(path)
    meta, T_model_map = made.meta, None
    if made.pose_world_cam_true is not None:
        T_model_map = geometry.invert(align(made.pose_world_cam_pred, made.pose_world_cam_true, "view0").T)
    views = tuple(_predicted_view(made, number, T_model_map) for number in range(made.views))
    shown = {}
    if made.boxes_world_true is not None and made.box_ids is not None and T_model_map is not None:
        corners = geometry.transform_points(T_model_map, made.boxes_world_true)
        shown = dict(zip(made.box_ids.tolist(), corners))
    given = "images" if not meta.inputs else f"images, {', '.join(meta.inputs)}"
    texts = {"checkpoint": meta.checkpoint, "config": meta.config, "commit": meta.commit}
    provenance = {**{key: text or f"{key} not recorded" for key, text in texts.items()}, "model saw": given}
    if meta.files is not None:
        names = [view.name if meta.cameras else f"vehicle {view.agent_id}" for view in views]
        provenance["photographs"] = ", ".join(f"{name} = {file}" for name, file in zip(names, meta.files))
    return Frame(
        name=f"{meta.split}/{meta.sequence}/{meta.frame}",
        views=views,
        boxes=shown,
        provenance=provenance,
        world="the model's; truth was brought into it by view 0",
    )


def _predicted_view(made: predictions.FramePredictions, number: int, T_model_map: geometry.FloatArray | None) -> View:
    meta, (height, width) = made.meta, made.range_m.shape[1:]
    camera: Pinhole | geometry.Cylinder | None = meta.cylinder
    if made.intrinsics_true is not None:
        camera = Pinhole(made.intrinsics_true[number], width, height)
    mask = made.mask[number]
    pred = Estimate(
        made.pose_world_cam_pred[number],
        made.range_m[number],
        made.rays[number],
        masks={"mask": mask},
        valid=mask,
        scale=made.metric_scale,
    )
    true = None
    if made.pose_world_cam_true is not None and T_model_map is not None:
        true = Estimate(T_model_map @ made.pose_world_cam_true[number])
        rays = made.rays_true(number)
        if made.range_m_true is not None and rays is not None:
            true = replace(true, range_m=made.range_m_true[number], rays=rays)
        if made.mask_true is not None:
            true = replace(true, masks={"mask": made.mask_true[number]})
    name = "panorama" if meta.cameras is None else f"camera{meta.cameras[number]}"
    return View(name, meta.agents[number], made.image[number], camera, true=true, pred=pred)


def load_frame(path: str | Path, options: RawOptions | None = None) -> Frame:
    """Read a frame from a file of predictions (``.npz``) or from the raw tree (an agent's ``.yaml``)."""
    path = Path(path)
    if path.suffix == ".npz":
        return load_predicted_frame(path)
    if path.suffix == ".yaml":
        return load_raw_frame(path, options)
    raise ValueError(f"{path}: expected a file of predictions (.npz) or an agent's YAML (.yaml)")
