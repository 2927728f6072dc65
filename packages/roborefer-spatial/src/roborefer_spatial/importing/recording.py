"""A posed RGB-D recording: its frames, and the geometry that finds a point of one frame in another.

Camera frame (OpenCV): x right, y down, z forward, metres. `K` (3, 3) takes it to pixels, in which the centre of pixel
(col, row) is (col + 0.5, row + 0.5). World frame: that of the poses, `T_world_cam` (4, 4). Depth (h, w) is z in metres,
0 where it is not known. Labels (h, w) are object numbers, 0 where there is none.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from roborefer_spatial.images import decode, read_rgb
from roborefer_spatial.importing.lenses import Lens
from roborefer_spatial.importing.surface import Surface

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Labels = NDArray[np.int64]

FARTHEST_M = 20.0
"""Depth beyond is taken for unknown: 65535 mm is how some recordings write that."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a recording: its name in the recording, its files, its pose.

    `depth` is None where the recording's surface gives it, `labels` is a file or None, and `lens` straightens pictures
    and depth of a camera that is no pinhole with the recording's intrinsics.
    """

    name: str
    color: Path
    depth: Path | None
    pose: Floats
    labels: Path | None = None
    lens: Lens | None = None


@dataclass(frozen=True)
class Recording:
    """Frames of one room in the order they were taken.

    Attributes
    ----------
    scene, room
        Name of the scene in the tree, and of the room: recordings of one room go to one split.
    frames
        Those with a usable pose.
    k_color, k_depth
        (3, 3) of the colour and of the depth pictures.
    depth_unit_m
        Metres of one step of the depth files.
    mesh
        Labelled points of the room, where labels do not come by frame.
    surface
        A mesh with labelled triangles, which gives labels, and depth where frames have none.
    """

    scene: str
    room: str
    frames: tuple[Frame, ...]
    k_color: Floats
    k_depth: Floats
    depth_unit_m: float = 0.001
    mesh: LabelledPoints | None = None
    surface: Surface | None = None

    @property
    def has_instances(self) -> bool:
        """Whether anything says which pixels are which object."""
        if self.mesh is not None or (self.surface is not None and bool(self.surface.label.any())):
            return True
        return any(frame.labels is not None for frame in self.frames)


@dataclass(frozen=True)
class LabelledPoints:
    """Points of a room with the number of their object, looked up by cubes `cell` metres wide.

    Attributes
    ----------
    xyz, label
        (N, 3) metres in the world frame, and (N,) object numbers above 0.
    """

    xyz: Floats
    label: Labels
    cell: float = 0.04

    @functools.cached_property
    def _cells(self) -> tuple[Labels, Labels]:
        """Sorted codes of occupied cubes, and the label that most of a cube's points have."""
        codes = self._codes(np.floor(self.xyz / self.cell).astype(np.int64))
        pairs, counts = np.unique(np.stack([codes, self.label], axis=1), axis=0, return_counts=True)
        order = np.lexsort((-counts, pairs[:, 0]))
        first = np.unique(pairs[order, 0], return_index=True)[1]
        return pairs[order, 0][first], pairs[order, 1][first]

    @staticmethod
    def _codes(cube: Labels) -> Labels:
        return np.asarray(((cube[:, 0] + 2**20) << 42) | ((cube[:, 1] + 2**20) << 21) | (cube[:, 2] + 2**20))

    def at(self, xyz: Floats) -> Labels:
        """Return the label of (P, 3) points: of their cube or, if it is empty, of one beside it; 0 without any."""
        cube = np.floor(xyz / self.cell).astype(np.int64)
        codes, labels = self._cells
        found = np.zeros(len(xyz), np.int64)
        steps = [(0, 0, 0), *((i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1) if i or j or k)]
        for step in steps:
            left = np.flatnonzero(found == 0)
            wanted = self._codes(cube[left] + step)
            place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
            hit = codes[place] == wanted
            found[left[hit]] = labels[place[hit]]
        return found


def read_depth(frame: Frame, recording: Recording) -> Floats:
    """Return a frame's depth (h, w) in metres, 0 where unknown; ValueError if the file is no depth picture."""
    if frame.depth is None:
        return _on_surface(frame, recording, recording.k_depth, color_size(frame))[0].copy()
    values = _integers(frame.depth)
    if frame.lens is not None:
        values = frame.lens.straighten(values, nearest=True)
    depth = values.astype(np.float64) * recording.depth_unit_m
    depth[(values == 65535) | (depth > FARTHEST_M)] = 0
    return np.asarray(depth)


def read_color(frame: Frame) -> NDArray[np.uint8]:
    """Return a frame's picture (h, w, 3)."""
    picture = read_rgb(frame.color)
    return picture if frame.lens is None else frame.lens.straighten(picture)


def color_size(frame: Frame) -> tuple[int, int]:
    """Return (width, height) of a frame's picture."""
    with Image.open(frame.color) as picture:
        return picture.size


def _on_surface(frame: Frame, recording: Recording, k: Floats, size_wh: tuple[int, int]) -> tuple[Floats, Labels]:
    if recording.surface is None:
        raise ValueError(f"{frame.color}: no depth picture, and the recording has no mesh")
    return recording.surface.seen(frame.pose, k, size_wh)


def read_labels(frame: Frame, recording: Recording, color_wh: tuple[int, int]) -> Labels:
    """Return the object numbers (h, w) of a frame's colour picture."""
    if frame.labels is not None:
        labels = _integers(frame.labels).astype(np.int64)
        if labels.shape[::-1] != color_wh:
            raise ValueError(
                f"{frame.labels}: {labels.shape[1]}x{labels.shape[0]} pixels, its colour picture has "
                f"{color_wh[0]}x{color_wh[1]}"
            )
        return np.asarray(labels)
    if recording.surface is not None:
        return _surface_labels(frame, recording, color_wh)
    if recording.mesh is None:
        return np.zeros(color_wh[::-1], np.int64)
    depth = read_depth(frame, recording)
    known = depth > 0
    on_depth = np.zeros(depth.shape, np.int64)
    on_depth[known] = recording.mesh.at(to_world(back_project(depth, recording.k_depth)[known], frame.pose))
    return np.asarray(on_color(on_depth, recording, color_wh))


def _surface_labels(frame: Frame, recording: Recording, color_wh: tuple[int, int]) -> Labels:
    """Return the mesh's labels, 0 where a measured depth is nearer than the mesh by three tolerances or more."""
    expected, labels = _on_surface(frame, recording, recording.k_color, color_wh)
    if frame.depth is None:
        return labels
    measured = on_color(read_depth(frame, recording), recording, color_wh)
    before = (measured > 0) & (measured < expected - 3 * tolerance(expected))
    return np.where(before, 0, labels)


def _integers(path: Path) -> NDArray[Any]:
    try:
        image = decode(path.read_bytes(), path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from error
    values = np.asarray(image)
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"{path}: mode {image.mode!r}, expected one channel of whole numbers")
    return values


def back_project(depth: Floats, k: Floats) -> Floats:
    """Return the camera-frame point (h, w, 3) of every pixel's centre."""
    height, width = depth.shape
    x = (np.arange(width) + 0.5 - k[0, 2]) / k[0, 0]
    y = (np.arange(height) + 0.5 - k[1, 2]) / k[1, 1]
    return np.stack([x[None, :] * depth, y[:, None] * depth, depth], axis=-1)


def to_world(xyz_cam: Floats, pose: Floats) -> Floats:
    """Take (..., 3) points from a camera to the world."""
    return np.asarray(xyz_cam @ pose[:3, :3].T + pose[:3, 3])


def to_camera(xyz_world: Floats, pose: Floats) -> Floats:
    """Take (..., 3) points from the world to a camera (poses are rigid)."""
    return np.asarray((xyz_world - pose[:3, 3]) @ pose[:3, :3])


def project(xyz_cam: Floats, k: Floats, size_wh: tuple[int, int]) -> tuple[Labels, Mask]:
    """Return the pixel (..., 2) as (col, row) of camera-frame points, and whether it is in the picture."""
    z = xyz_cam[..., 2]
    ahead = z > 0.05
    safe = np.where(ahead, z, 1.0)
    pixel = np.floor(xyz_cam[..., :2] / safe[..., None] * (k[0, 0], k[1, 1]) + (k[0, 2], k[1, 2]))
    inside = ahead & np.all((pixel >= 0) & (pixel < size_wh), axis=-1)
    return np.where(inside[..., None], pixel, 0).astype(np.int64), inside


def tolerance(depth: Floats) -> Floats:
    """Return how much two depths may differ and still be one surface: 3 cm, from 1.5 m on 2 %."""
    return np.maximum(0.03, 0.02 * depth)


def on_color(on_depth: NDArray[Any], recording: Recording, color_wh: tuple[int, int]) -> NDArray[Any]:
    """Return values of the depth grid (h, w) at the colour picture's pixels; 0 where the depth does not reach."""
    k, kd = recording.k_color, recording.k_depth
    height, width = on_depth.shape
    col = np.floor((np.arange(color_wh[0]) + 0.5 - k[0, 2]) / k[0, 0] * kd[0, 0] + kd[0, 2]).astype(np.int64)
    row = np.floor((np.arange(color_wh[1]) + 0.5 - k[1, 2]) / k[1, 1] * kd[1, 1] + kd[1, 2]).astype(np.int64)
    values = on_depth[np.clip(row, 0, height - 1)[:, None], np.clip(col, 0, width - 1)[None, :]].copy()
    values[(row < 0) | (row >= height)] = 0
    values[:, (col < 0) | (col >= width)] = 0
    return values


def evenly(items: Sequence[Any], most: int) -> list[Any]:
    """Return at most `most` items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[int(index)] for index in np.linspace(0, len(items) - 1, most).round()]
