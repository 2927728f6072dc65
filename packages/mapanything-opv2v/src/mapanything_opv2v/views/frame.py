"""What the pages draw: the views of one frame, with what is true and what was predicted about each.

World and cameras are in OpenCV axes, metres. Distances are along unit rays, of pinhole cameras too, so that
``points_cam = range_m * rays``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mapanything_opv2v.geometry import Cylinder, FloatArray, check_rigid, pinhole_rays, transform_points

POSE_SOURCES = ("pred", "gt")
"""Whose camera poses place the points."""

COMMIT_DIGITS = 12
"""Of a commit in a title; the line below it has all."""


@dataclass(frozen=True)
class Pinhole:
    """A pinhole camera: (3, 3) intrinsics, pixel centres at integers, and its image's width and height."""

    intrinsic: FloatArray
    width: int
    height: int

    def rays(self) -> FloatArray:
        """Return (H, W, 3) unit rays, camera OpenCV axes."""
        rays = pinhole_rays(self.intrinsic, (self.width, self.height))
        return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


@dataclass(frozen=True)
class Estimate:
    """One opinion about a view: the truth, or a prediction.

    Attributes
    ----------
    T_world_cam : (4, 4) float64
        Camera to the frame's world.
    range_m : (H, W) float32 or None
        Along the ray; 0 none, negative sky.
    rays : (H, W, 3) float or None
        Unit directions, camera axes; given wherever `range_m` is.
    masks : mapping of str to (H, W) bool
        In the order in which they are listed.
    valid : (H, W) bool or None
        Pixels whose range counts; None: all.
    scale : float or None
        Metric scale, already applied.
    """

    T_world_cam: FloatArray
    range_m: npt.NDArray[np.float32] | None = None
    rays: npt.NDArray[np.floating] | None = None
    masks: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    valid: npt.NDArray[np.bool_] | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        """Refuse what is no pose, and distances without directions."""
        check_rigid(self.T_world_cam)
        assert (self.range_m is None) or (self.rays is not None)

    def has_range(self) -> npt.NDArray[np.bool_]:
        """Return (H, W): where there is a range that counts."""
        if self.range_m is None:
            raise ValueError("this estimate has no ranges")
        return self.range_m > 0 if self.valid is None else (self.range_m > 0) & self.valid


@dataclass(frozen=True)
class View:
    """One picture of one agent.

    Attributes
    ----------
    name : str
        ``camera0``, ``panorama``.
    agent_id : int
    image : (H, W, 3) uint8
        RGB.
    camera : Pinhole, Cylinder or None
        None where calibration is not known.
    true, pred : Estimate or None
    """

    name: str
    agent_id: int
    image: npt.NDArray[np.uint8]
    camera: Pinhole | Cylinder | None
    true: Estimate | None = None
    pred: Estimate | None = None

    def __post_init__(self) -> None:
        """Refuse arrays that are not of the image's size."""
        if self.camera is not None and self.image.shape != (self.camera.height, self.camera.width, 3):
            size = (self.camera.height, self.camera.width, 3)
            raise ValueError(f"{self.label}: image has shape {self.image.shape}, expected {size}")
        for what, estimate in (("true", self.true), ("pred", self.pred)):
            arrays = {} if estimate is None else {"range": estimate.range_m, **estimate.masks, "valid": estimate.valid}
            for key, array in arrays.items():
                if array is not None and array.shape != self.image.shape[:2]:
                    raise ValueError(
                        f"{self.label}: {what} {key} has shape {array.shape}, expected {self.image.shape[:2]}"
                    )

    @property
    def label(self) -> str:
        """``641 camera0``."""
        return f"{self.agent_id} {self.name}"

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height of the image."""
        return self.image.shape[1], self.image.shape[0]

    def known(self, source: str) -> Estimate | None:
        """Return what `source` (``pred`` or ``gt``) says, if anything."""
        return self.pred if source == "pred" else self.true

    def estimate(self, source: str) -> Estimate:
        """Return what `source` (``pred`` or ``gt``) says.

        Raises
        ------
        ValueError
            If it says nothing.
        """
        found = self.known(source)
        if found is None:
            raise ValueError(f"{self.label}: no {'prediction' if source == 'pred' else 'truth'} is known of this view")
        return found


@dataclass(frozen=True)
class Cloud:
    """Points of a view (or a file), world OpenCV axes.

    Attributes
    ----------
    xyz : (N, 3) float64
    rgb : (N, 3) uint8
    error_m : (N,) float32 or None
        Absolute error of each point's distance; NaN where the truth is not known.
    """

    xyz: FloatArray
    rgb: npt.NDArray[np.uint8]
    error_m: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.xyz)

    def thinned(self, count: int, generator: np.random.Generator) -> Cloud:
        """Return at most `count` points, drawn at random."""
        if len(self) <= count:
            return self
        keep = np.sort(generator.choice(len(self), count, replace=False))
        return Cloud(self.xyz[keep], self.rgb[keep], None if self.error_m is None else self.error_m[keep])


@dataclass(frozen=True)
class Frame:
    """The views of one moment.

    Attributes
    ----------
    name : str
        ``split/sequence/frame``.
    views : tuple of View
        Main agent first.
    boxes : mapping of int to (8, 3) float64
        Annotated vehicles by id, world; corners as `rawdata.box_corners` has them.
    provenance : mapping of str to str
        What made it: checkpoint, config, commit; or the raw data's tree.
    sweeps : mapping of int to Cloud
        LiDAR sweeps by agent.
    world : str
        What the world is, for people.
    """

    name: str
    views: tuple[View, ...]
    boxes: Mapping[int, FloatArray] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    sweeps: Mapping[int, Cloud] = field(default_factory=dict)
    world: str = "CARLA map in OpenCV axes"

    @property
    def agents(self) -> list[int]:
        """Agents in the order of their first view."""
        return list(dict.fromkeys(view.agent_id for view in self.views))

    @property
    def predicted(self) -> bool:
        """Whether there are predictions."""
        return any(view.pred is not None for view in self.views)

    @property
    def made_by(self) -> str:
        """Checkpoint, config and the commit's first digits, for titles."""
        known = [self.provenance[key] for key in ("checkpoint", "config") if key in self.provenance]
        known += [self.provenance["commit"][:COMMIT_DIGITS]] if "commit" in self.provenance else []
        return " · ".join(known) or "raw data, no model"

    def pose_source(self, asked: str | None) -> str:
        """Return whose poses place the points: what was asked for, else predictions where there are any.

        Raises
        ------
        ValueError
            If predicted poses are asked for where nothing was predicted.
        """
        if asked is not None and asked not in POSE_SOURCES:
            raise ValueError(f"point_pose_source={asked!r}, expected one of {', '.join(POSE_SOURCES)}")
        if asked == "pred" and not self.predicted:
            raise ValueError(f"{self.name}: raw data has no predicted poses; give a predictions file, or gt")
        return asked or ("pred" if self.predicted else "gt")

    @property
    def range_source(self) -> str:
        """Whose distances are shown: predictions where there are any."""
        return "pred" if self.predicted else "gt"


def view_cloud(view: View, pose_source: str, range_source: str, count: int, generator: np.random.Generator) -> Cloud:
    """Return a view's points in the world.

    Parameters
    ----------
    view : View
        With ranges by `range_source`.
    pose_source, range_source : str
        ``pred`` or ``gt``.
    count : int
        At most so many, drawn at random; a pixel's chance grows with its distance, as the ground it covers does.
    generator : Generator
        Draws them.
    """
    estimate = view.estimate(range_source)
    where = np.flatnonzero(estimate.has_range())
    assert estimate.range_m is not None and estimate.rays is not None
    ranges = estimate.range_m.reshape(-1)
    if len(where) > count:
        chance = ranges[where].astype(np.float64)
        where = np.sort(generator.choice(where, count, replace=False, p=chance / chance.sum()))
    points_cam = ranges[where, None].astype(np.float64) * estimate.rays.reshape(-1, 3)[where]
    error = None
    if range_source == "pred" and view.true is not None and view.true.range_m is not None:
        known = view.true.has_range().reshape(-1)[where]
        difference = np.abs(ranges[where] - view.true.range_m.reshape(-1)[where])
        error = np.where(known, difference, np.nan).astype(np.float32)
    rgb = view.image.reshape(-1, 3)[where]
    return Cloud(transform_points(view.estimate(pose_source).T_world_cam, points_cam), rgb, error)
