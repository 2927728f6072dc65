"""The frame from above: a picture, arrays, and a page with values under the pointer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from mapanything_opv2v import pictures
from mapanything_opv2v.files import whole_file, write_bytes
from mapanything_opv2v.views import stage as stages
from mapanything_opv2v.views.frame import Frame
from mapanything_opv2v.views.html import encode_picture, write_page
from mapanything_opv2v.views.panels import layer
from mapanything_opv2v.views.pointcloud import frame_points, page_facts, page_title
from mapanything_opv2v.views.stage import Stage, ViewPoints

MAX_POINTS = 2_000_000
"""More are not looked at: they would add nothing to a picture."""

BOX_RGB = (255, 196, 60)
_EMPTY_RGB = (28, 30, 36)
_FOOT = (0, 2, 6, 4)
"""Corners of a box that go around its top."""


@dataclass(frozen=True, kw_only=True)
class BevOptions:
    """The grid that is looked at from above."""

    reach_m: float = 50.0
    """From the main agent to each edge."""
    cell_m: float = 0.2
    """Side of a cell."""
    max_height_m: float = 4.0
    """Points higher above the ground are left out (tree crowns, roofs)."""

    def __post_init__(self) -> None:
        """Refuse grids that make no picture."""
        for name in ("reach_m", "cell_m", "max_height_m"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)!r}, expected a positive length")
        if not 1 <= self.reach_m / self.cell_m <= 2000:
            raise ValueError(
                f"reach_m={self.reach_m}, cell_m={self.cell_m}: {self.reach_m / self.cell_m:.0f} cells to an "
                "edge, expected 1 to 2000"
            )

    @property
    def size(self) -> int:
        """Cells along a side."""
        return 2 * round(self.reach_m / self.cell_m)


@dataclass(frozen=True)
class Bev:
    """A frame from above: row 0 is farthest ahead, column 0 farthest left; N x N cells.

    Attributes
    ----------
    color : (N, N, 3) uint8
        Of the highest point of each cell.
    height_m : (N, N) float32
        Of the highest point, above the ground; NaN where there is none.
    count : (N, N) int32
        Points.
    """

    color: npt.NDArray[np.uint8]
    height_m: npt.NDArray[np.float32]
    count: npt.NDArray[np.int32]

    def is_far(self) -> bool:
        """Say whether nine of ten points lie in the middle tenth of rows and columns: a room seen as if a street."""
        edge = len(self.count) * 9 // 20
        middle = self.count[edge : len(self.count) - edge, edge : len(self.count) - edge]
        return 0 < 0.9 * int(self.count.sum()) <= int(middle.sum())


def make_bev(stage: Stage, parts: Sequence[ViewPoints], ground: float, options: BevOptions) -> Bev:
    """Look at points from above.

    Parameters
    ----------
    stage : Stage
        Its origin is the middle.
    parts : sequence of ViewPoints
        World.
    ground : float
        Height of the ground, page axes.
    options : BevOptions
        Grid and height.
    """
    size = options.size
    xyz = np.concatenate([stage.points(part.cloud.xyz) for part in parts])
    rgb = np.concatenate([part.cloud.rgb for part in parts])
    row = np.floor((options.reach_m - xyz[:, 0]) / options.cell_m).astype(np.int64)
    column = np.floor((options.reach_m - xyz[:, 1]) / options.cell_m).astype(np.int64)
    height = xyz[:, 2] - ground
    inside = (row >= 0) & (row < size) & (column >= 0) & (column < size) & (height <= options.max_height_m)
    cell, height, rgb = (row * size + column)[inside], height[inside], rgb[inside]
    highest = np.argsort(height, kind="stable")  # the last to be written into a cell is its highest
    color, top = np.full((size * size, 3), _EMPTY_RGB, np.uint8), np.full(size * size, np.nan, np.float32)
    color[cell[highest]], top[cell[highest]] = rgb[highest], height[highest]
    count = np.bincount(cell, minlength=size * size).astype(np.int32)
    return Bev(color.reshape(size, size, 3), top.reshape(size, size), count.reshape(size, size))


def write_bev(
    folder: Path,
    frame: Frame,
    options: BevOptions | None = None,
    *,
    points: str = "depth",
    pose_source: str | None = None,
) -> Bev:
    """Write ``bev.html``, ``bev.png`` and ``bev.npz`` into a folder."""
    options = options or BevOptions()
    source = frame.pose_source(pose_source)
    stage = Stage.around(frame.views[0].estimate(source).T_world_cam)
    parts = frame_points(frame, points, source, MAX_POINTS)
    boxes = stages.boxes_data(stage, frame)
    ground = stages.ground_m(stage, [part.cloud for part in parts], boxes)
    bev = make_bev(stage, parts, ground, options)
    lines = _lines(stage, frame, source, boxes, options)
    title = page_title("From above", frame, source)
    heights = _color_heights(bev, options)
    drawn = _draw(bev.color, lines)
    label = f"{title}; {2 * options.reach_m:g} m across, main agent in the middle looking up"
    write_bytes(folder / "bev.png", pictures.encode_png(pictures.sheet([(label, drawn)])))
    with whole_file(folder / "bev.npz") as stream:
        np.savez_compressed(stream, color=bev.color, height_m=bev.height_m, count=bev.count)
    view = {
        "name": "from above",
        "width": options.size,
        "height": options.size,
        "wrap": False,
        "columns": 2,
        "axes": {"kind": "ground", "cell": options.cell_m, "ahead": options.reach_m, "left": options.reach_m},
        "panels": [
            {"title": "colour of the highest point", "picture": encode_picture(bev.color), "lines": lines},
            {
                "title": "height above the ground",
                "picture": encode_picture(heights),
                "ends": ["0 m", f"{options.max_height_m:g} m", False],
                "legend": [["nothing", _EMPTY_RGB]],
                "lines": lines,
            },
        ],
        "layers": [layer("height", bev.height_m, "m", digits=2), layer("points", bev.count, "", digits=0)],
        "flags": [],
    }
    facts = {**page_facts(frame, source, points), "cell": f"{options.cell_m:g} m"}
    write_page(
        folder / "bev.html",
        title=title,
        facts=facts,
        body="panels.html",
        scripts=("panels.js",),
        data={"views": [view]},
    )
    return bev


def _lines(
    stage: Stage, frame: Frame, pose_source: str, boxes: Sequence[dict[str, Any]], options: BevOptions
) -> list[dict[str, Any]]:
    """Return outlines in cells: boxes, and a triangle at each agent's first camera."""

    def cells(places: npt.NDArray[Any]) -> Any:
        return stages.listed((options.reach_m - places[:, [1, 0]]) / options.cell_m)

    lines = [
        {
            "kind": "boxes",
            "name": box["name"],
            "colour": BOX_RGB,
            "places": cells(np.array(box["corners"])[list(_FOOT)]),
        }
        for box in boxes
    ]
    for agent in frame.agents:
        view = next(view for view in frame.views if view.agent_id == agent)
        camera = stage.camera(view, view.estimate(pose_source).T_world_cam)
        centre, ahead = np.array(camera["centre"])[:2], np.array(camera["forward"])[:2]
        ahead /= max(float(np.linalg.norm(ahead)), 1e-9)
        left = np.array([-ahead[1], ahead[0]])
        corners = np.stack([centre + 2.0 * ahead, centre + 0.9 * left, centre - 0.9 * left])
        colour = stages.colour_of(frame, agent)
        name = stages.vehicle_name(agent)
        lines.append({"kind": "agents", "name": name, "colour": colour, "places": cells(corners)})
    return lines


def _color_heights(bev: Bev, options: BevOptions) -> pictures.Picture:
    value = np.rint(255 * np.clip(np.nan_to_num(bev.height_m) / options.max_height_m, 0, 1)).astype(np.uint8)
    picture = cv2.cvtColor(cv2.applyColorMap(value, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    picture[np.isnan(bev.height_m)] = _EMPTY_RGB
    return picture.astype(np.uint8)


def _draw(picture: pictures.Picture, lines: Sequence[dict[str, Any]]) -> pictures.Picture:
    """Return the picture, at least 1000 pixels wide, with outlines and names."""
    grow = max(1, round(1000 / len(picture)))
    drawn = np.ascontiguousarray(np.kron(picture, np.ones((grow, grow, 1), np.uint8)))
    for line in lines:
        places = np.rint(np.array(line["places"]) * grow).astype(np.int32)
        cv2.polylines(drawn, [places], True, line["colour"], 2, cv2.LINE_AA)
        where = (int(places[:, 0].mean()) - 4 * len(line["name"]), int(places[:, 1].min()) - 6)
        for colour, thickness in (((0, 0, 0), 3), (line["colour"], 1)):
            cv2.putText(drawn, line["name"], where, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, thickness, cv2.LINE_AA)
    return drawn
