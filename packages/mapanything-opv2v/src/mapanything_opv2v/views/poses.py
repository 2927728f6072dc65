"""Camera poses and vehicle boxes of a frame: a page to turn, and a picture without a window."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mapanything_opv2v.files import write_bytes
from mapanything_opv2v.geometry import Cylinder, opencv_to_carla, pose_from_T_world
from mapanything_opv2v.views.frame import Frame, View
from mapanything_opv2v.views.html import SCENE_SCRIPTS, write_page
from mapanything_opv2v.views.pointcloud import page_facts, page_title, scene_data

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_EDGES = ((0, 1), (2, 3), (4, 5), (6, 7), (0, 2), (1, 3), (4, 6), (5, 7), (0, 4), (1, 5), (2, 6), (3, 7))


def write_rig(folder: Path, frame: Frame, *, pose_source: str | None = None, picture: bool = True) -> None:
    """Write ``rig.html`` and, unless told otherwise, ``rig.png`` into a folder.

    Raises
    ------
    ValueError
        If the picture's matplotlib is missing, or poses are asked for that are not there.
    """
    source = frame.pose_source(pose_source)
    title = page_title("Rig", frame, source)
    data = scene_data(frame, [], source)
    if picture:
        write_bytes(folder / "rig.png", _picture(title, data))
    data["tables"] = [_table(frame, source)]
    write_page(
        folder / "rig.html",
        title=title,
        facts=page_facts(frame, source, "none"),
        body="scene.html",
        scripts=(*SCENE_SCRIPTS, "pointcloud.js"),
        data=data,
        kind="scenes",
    )


def _table(frame: Frame, pose_source: str) -> dict[str, Any]:
    """Return where each camera stands and looks, relative to its agent's first view."""
    rows = []
    for view in frame.views:
        first = next(other for other in frame.views if other.agent_id == view.agent_id)
        T_first_cam = np.linalg.inv(first.estimate(pose_source).T_world_cam) @ view.estimate(pose_source).T_world_cam
        x, y, z, _, yaw, pitch = pose_from_T_world(opencv_to_carla(T_first_cam))
        place = (_cell(value, 2) for value in (x, -y, z))
        rows.append([view.label, *place, _cell(-yaw, 1), _cell(pitch, 1), _field(view)])
    head = ["camera", "x", "y", "z m", "yaw", "pitch", "field"]
    return {"title": "Poses from the agent's first view (x ahead, y and yaw left)", "head": head, "rows": rows}


def _cell(value: float, digits: int) -> str:
    """Return a number as text, without a minus before zero."""
    return f"{round(float(value), digits) + 0.0:.{digits}f}"


def _field(view: View) -> str:
    """Return a camera's horizontal field of view."""
    if view.camera is None:
        return "-"
    if isinstance(view.camera, Cylinder):
        return "360°"
    K, width = view.camera.intrinsic, view.camera.width
    left, right = math.atan((K[0, 2] + 0.5) / K[0, 0]), math.atan((width - 0.5 - K[0, 2]) / K[0, 0])
    return f"{math.degrees(left + right):.0f}°"


def _picture(title: str, data: dict[str, Any]) -> bytes:
    """Return the frame from above and from the side as PNG."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError(
            f"matplotlib is missing ({error}); it draws rig.png: pip install 'mapanything-opv2v[viz]'"
        ) from error
    figure = Figure(figsize=(13, 8.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title.replace("$", r"\$"), fontsize=11)
    above, side = figure.subplots(2, 1, height_ratios=(2.4, 1))
    for axes, (horizontal, vertical), names in ((above, (0, 1), "y, left"), (side, (0, 2), "z, up")):
        _draw(axes, data, horizontal, vertical, label=axes is above)
        axes.set_aspect("equal", adjustable="datalim")
        axes.set_xlabel("x, ahead of the main agent (m)")
        axes.set_ylabel(f"{names} (m)")
        axes.grid(True, color="0.9")
        axes.set_axisbelow(True)
    if data["hasTruth"]:
        above.plot([], [], color="0.1", ls=":", label="true cameras")
    above.legend(loc="upper left", fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def _draw(axes: Axes, data: dict[str, Any], horizontal: int, vertical: int, *, label: bool) -> None:
    """Draw boxes, cameras and true cameras in two of the page's three axes."""
    pick = [horizontal, vertical]
    for box in data["boxes"]:
        corners = np.array(box["corners"])[:, pick]
        for a, b in _EDGES:
            axes.plot(*corners[[a, b]].T, color="0.6", lw=0.9)
        if label:
            axes.annotate(box["name"], corners.mean(axis=0), color="0.35", fontsize=8, ha="center", va="center")
    for group in data["groups"]:
        colour = tuple(0.8 * part / 255 for part in group["colour"])
        for number, view in enumerate(group["views"]):
            for key, style in (("trueCamera", ":"), ("camera", "-")):
                if key in view:
                    name = group["name"] if label and number == 0 and key == "camera" else None
                    _draw_camera(axes, view[key], pick, color="0.1" if style == ":" else colour, ls=style, label=name)


def _draw_camera(axes: Axes, camera: dict[str, Any], pick: list[int], **style: Any) -> None:
    centre, corners = np.array(camera["centre"])[pick], np.array(camera["corners"])[:, pick]
    around = np.concatenate([corners, corners[:1]])
    spokes = np.stack([np.broadcast_to(centre, corners.shape), corners], axis=1).reshape(-1, 2)
    axes.plot(*np.concatenate([spokes, around]).T, lw=1.2, **style)
