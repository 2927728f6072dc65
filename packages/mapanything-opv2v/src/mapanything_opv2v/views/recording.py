"""A frame as a recording for rerun (https://rerun.io), ``.rrd``."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from types import ModuleType

import numpy as np

from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.views.frame import Frame, View
from mapanything_opv2v.views.pointcloud import frame_points, page_title
from mapanything_opv2v.views.stage import colour_of

APPLICATION = "mapanything-opv2v"


def write_recording(
    path: Path, frame: Frame, *, points: str = "depth", pose_source: str | None = None, max_points: int = 1_000_000
) -> None:
    """Write points, cameras with images and ranges, boxes and true cameras, whole or not at all.

    Entities: ``world/agent_ID/VIEW`` (pose, camera, image, range), ``world/agent_ID/VIEW_true`` (pose),
    ``world/points/agent_ID/VIEW``, ``world/boxes``, and the page's title as ``title``.

    Raises
    ------
    ValueError
        If rerun is not installed, or as for the page of the cloud.
    """
    rerun = _rerun()
    source = frame.pose_source(pose_source)
    parts = frame_points(frame, points, source, max_points)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        with rerun.RecordingStream(APPLICATION, recording_id=frame.name) as stream:
            stream.save(str(temporary))
            stream.log("title", rerun.TextDocument(page_title("Recording", frame, source)), static=True)
            stream.log("world", rerun.ViewCoordinates.RDF, static=True)
            for part in parts:
                entity = f"world/points/agent_{part.agent_id}/{part.name}"
                stream.log(entity, rerun.Points3D(part.cloud.xyz, colors=part.cloud.rgb, radii=0.04), static=True)
            for view in frame.views:
                _log_view(rerun, stream, frame, view, source)
            if frame.boxes:
                corners = np.stack(list(frame.boxes.values()))
                strips = [_outline(box) for box in corners]
                stream.log("world/boxes", rerun.LineStrips3D(strips, labels=[str(n) for n in frame.boxes]), static=True)
            stream.flush()
            stream.disconnect()
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _rerun() -> ModuleType:
    try:
        import rerun
    except ImportError as error:
        raise ValueError(
            f"rerun is missing ({error}); it writes .rrd files: pip install 'mapanything-opv2v[viz]'"
        ) from error
    return rerun


def _log_view(rerun: ModuleType, stream: object, frame: Frame, view: View, pose_source: str) -> None:
    """Log one view's pose, camera, image and range."""
    log = stream.log  # type: ignore[attr-defined]
    entity = f"world/agent_{view.agent_id}/{view.name}"
    colour = colour_of(frame, view.agent_id)
    poses = {entity: view.estimate(pose_source).T_world_cam}
    if pose_source == "pred" and view.true is not None:
        poses[f"{entity}_true"] = view.true.T_world_cam
    for name, T_world_cam in poses.items():
        log(name, rerun.Transform3D(translation=T_world_cam[:3, 3], mat3x3=T_world_cam[:3, :3]), static=True)
        if view.camera is not None and not isinstance(view.camera, Cylinder):
            lens = rerun.Pinhole(
                image_from_camera=view.camera.intrinsic,
                resolution=view.size_wh,
                camera_xyz=rerun.ViewCoordinates.RDF,
                image_plane_distance=1.2,
            )
            log(name, lens, static=True)
        else:
            log(name, rerun.Points3D([[0, 0, 0]], colors=[colour], radii=0.3), static=True)
    log(f"{entity}/image", rerun.Image(view.image).compress(jpeg_quality=90), static=True)
    range_m = view.estimate(frame.range_source).range_m
    if range_m is not None:
        log(f"{entity}/range", rerun.DepthImage(np.maximum(range_m, 0), meter=1.0), static=True)


def _outline(corners: np.ndarray) -> np.ndarray:
    """Return one line (M, 3) along all edges of a box whose corners stand as `rawdata.box_corners` orders them."""
    return corners[[0, 1, 3, 2, 0, 4, 5, 7, 6, 4, 5, 1, 3, 7, 6, 2]]
