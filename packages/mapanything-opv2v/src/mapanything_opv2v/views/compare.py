"""Two clouds or two runs on one page: side by side with one camera, or one over the other, differences coloured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from mapanything_opv2v.files import write_json
from mapanything_opv2v.geometry import invert, transform_points
from mapanything_opv2v.predictions import list_predictions
from mapanything_opv2v.views import stage as stages
from mapanything_opv2v.views.cloudfile import CLOUD_SUFFIXES, load_cloud
from mapanything_opv2v.views.frame import Cloud, Frame
from mapanything_opv2v.views.html import PALETTE, SCENE_SCRIPTS, write_page
from mapanything_opv2v.views.pointcloud import POINTS_TEXT, frame_points, page_title
from mapanything_opv2v.views.sources import RawOptions, load_frame
from mapanything_opv2v.views.stage import Stage, ViewPoints

COLOURS = PALETTE[:2]
"""Of the two sides, where points are coloured by side."""

WITHIN_M = (0.1, 0.5, 1.0)
"""Distances for which the share of points that have a neighbour so near is told."""


@dataclass(frozen=True)
class Side:
    """One of the two: what it is called, its points, and the frame that it comes from (None: a file)."""

    title: str
    parts: tuple[ViewPoints, ...]
    frame: Frame | None
    pose_source: str

    @property
    def xyz(self) -> npt.NDArray[np.float64]:
        """All points (N, 3), world."""
        return np.concatenate([part.cloud.xyz for part in self.parts])

    def moved(self, T: npt.NDArray[np.float64]) -> Side:
        """Return the side with its points in another world; its cameras stay behind."""
        parts = (replace(p, cloud=replace(p.cloud, xyz=transform_points(T, p.cloud.xyz))) for p in self.parts)
        return replace(self, parts=tuple(parts))


def load_side(
    path: str | Path,
    options: RawOptions | None = None,
    *,
    points: str = "depth",
    pose_source: str | None = None,
    max_points: int = 100_000,
    axes: str = "opencv",
) -> Side:
    """Read one side: a cloud, a file of predictions, or a raw frame."""
    path = Path(path)
    if path.suffix in CLOUD_SUFFIXES:
        cloud = load_cloud(path, axes).thinned(max_points, np.random.default_rng(0))
        return Side(path.name, (ViewPoints(0, "cloud", cloud),), None, "gt")
    frame = load_frame(path, options)
    source = frame.pose_source(pose_source)
    parts = frame_points(frame, points, source, max_points)
    return Side(page_title(POINTS_TEXT[points], frame, source), tuple(parts), frame, source)


def common_frame(a: Path, b: Path, name: str | None = None) -> tuple[Path, Path]:
    """Return the files of one frame in two runs' folders of predictions.

    Parameters
    ----------
    a, b : Path
        As `predictions.save_predictions` fills them.
    name : str, optional
        ``split/sequence/frame_agentID``; the first frame that both have, unless told.

    Raises
    ------
    ValueError
        If they share no frame, or not this one; says what they have.
    """
    there = [{str(path.relative_to(side).with_suffix("")) for path in list_predictions(side)} for side in (a, b)]
    common = sorted(there[0] & there[1])
    if not common or (name is not None and name not in common):
        some = ", ".join(common[:3]) + (" ..." if len(common) > 3 else "")
        raise ValueError(
            f"{a} holds {len(there[0])} frames of predictions, {b} {len(there[1])}; both have "
            f"{some or 'none'}{'' if name is None else f', not {name}'}"
        )
    chosen = f"{name or common[0]}.npz"
    return a / chosen, b / chosen


def write_compare(folder: Path, a: Side, b: Side) -> dict[str, Any]:
    """Write ``compare.html`` and ``compare.json`` into a folder; return the figures.

    Two frames are brought together by their first views, which must be the same view of the same frame. Files
    are compared in the coordinates that they have.

    Raises
    ------
    ValueError
        If two frames do not begin with the same view, or a side has no points.
    """
    for name, side in (("A", a), ("B", b)):
        if not len(side.xyz):
            raise ValueError(f"side {name} ({side.title}) has no points")
    b = b.moved(_T_a_b(a, b))
    to_b, to_a = cKDTree(b.xyz).query(a.xyz)[0], cKDTree(a.xyz).query(b.xyz)[0]
    a, b = _with_distances(a, to_b), _with_distances(b, to_a)
    figures = {"a": a.title, "b": b.title, "a_to_b": _figures(to_b), "b_to_a": _figures(to_a)}
    stage = Stage.around(_first_pose(a))
    clouds = [part.cloud for side in (a, b) for part in side.parts]
    boxes = [] if a.frame is None else stages.boxes_data(stage, a.frame)
    ground = stages.ground_m(stage, clouds, boxes)
    centres = [cloud.xyz.mean(axis=0) for cloud in clouds if len(cloud)] if a.frame is None else [_first_pose(a)[:3, 3]]
    data = {
        "sides": [_side_data(stage, name, side, k) for k, (name, side) in enumerate((("A", a), ("B", b)))],
        "boxes": boxes,
        "ground": round(ground, 3),
        "heightEnds": stages.height_ends(stage, clouds, ground),
        "valueName": "distance to the other cloud",
        "valueLimit": round(float(np.clip(np.percentile(np.concatenate([to_b, to_a]), 95), 0.05, 5.0)), 2),
        "start": stages.start_camera(stage, centres),
        "table": _table(figures),
    }
    write_page(
        folder / "compare.html",
        title=f"Compare · {'two clouds' if a.frame is None else a.frame.name}",  # captions name the sides
        facts={"points of A": f"{len(a.xyz):,}", "points of B": f"{len(b.xyz):,}", "brought together": _how(a, b)},
        body="compare.html",
        scripts=(*SCENE_SCRIPTS, "compare.js"),
        data=data,
        kind="scenes",
    )
    write_json(folder / "compare.json", figures)
    return figures


def _T_a_b(a: Side, b: Side) -> npt.NDArray[np.float64]:
    """Return side B's world to side A's."""
    if a.frame is None or b.frame is None:
        return np.eye(4)
    first_a, first_b = a.frame.views[0], b.frame.views[0]
    if (a.frame.name, first_a.label) != (b.frame.name, first_b.label):
        raise ValueError(
            f"A begins with {a.frame.name} {first_a.label}, B with {b.frame.name} {first_b.label}: nothing says how "
            "they lie to each other; give the same frame, with the same main agent and layout"
        )
    return first_a.estimate(a.pose_source).T_world_cam @ invert(first_b.estimate(b.pose_source).T_world_cam)


def _first_pose(a: Side) -> npt.NDArray[np.float64]:
    """Return what the page's axes are taken from: A's first camera, or the world where A is a file."""
    return np.eye(4) if a.frame is None else a.frame.views[0].estimate(a.pose_source).T_world_cam


def _how(a: Side, b: Side) -> str:
    return "as in the files" if a.frame is None or b.frame is None else "by the first view"


def _with_distances(side: Side, distances: npt.NDArray[np.float64]) -> Side:
    """Return the side with distances in the place of errors."""
    ends = np.cumsum([len(part.cloud) for part in side.parts])[:-1]
    parts = tuple(
        replace(part, cloud=Cloud(part.cloud.xyz, part.cloud.rgb, found.astype(np.float32)))
        for part, found in zip(side.parts, np.split(distances, ends))
    )
    return replace(side, parts=parts)


def _figures(distances: npt.NDArray[np.float64]) -> dict[str, float]:
    """Return what there is to say about the distances of one side's points to the other side, metres."""
    return {
        "mean_m": float(distances.mean()),
        "median_m": float(np.median(distances)),
        "p95_m": float(np.percentile(distances, 95)),
        **{f"share_within_{limit:g}_m": float((distances <= limit).mean()) for limit in WITHIN_M},
    }


def _table(figures: dict[str, Any]) -> dict[str, Any]:
    def cell(key: str, value: float) -> str:
        return f"{value:.1%}" if key.startswith("share") else f"{value:.3f} m"

    keys = figures["a_to_b"]
    rows = [
        [key.removesuffix("_m").replace("_", " ") + (" m" if key.startswith("share") else "")]
        + [cell(key, figures[side][key]) for side in ("a_to_b", "b_to_a")]
        for key in keys
    ]
    return {"title": "Nearest distances", "head": ["", "A to B", "B to A"], "rows": rows}


def _side_data(stage: Stage, name: str, side: Side, number: int) -> dict[str, Any]:
    """Return a side's groups, one for each agent."""
    groups = []
    for agent in dict.fromkeys(part.agent_id for part in side.parts):
        clouds = [part.cloud for part in side.parts if part.agent_id == agent]
        errors = [cloud.error_m for cloud in clouds if cloud.error_m is not None]
        whole = Cloud(
            np.concatenate([cloud.xyz for cloud in clouds]),
            np.concatenate([cloud.rgb for cloud in clouds]),
            np.concatenate(errors),
        )
        text = "cloud" if side.frame is None else stages.vehicle_name(agent)
        views = [{"name": "points", **stages.points_data(stage, whole)}]
        groups.append({"name": f"{name}: {text}", "colour": list(COLOURS[number]), "views": views})
    return {"name": name, "title": side.title, "groups": groups}
