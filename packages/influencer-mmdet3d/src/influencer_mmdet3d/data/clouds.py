"""Point clouds of any common format: coordinates in float64, colours 0 to 255, faces, and all other fields.

`read_cloud` returns what a file holds and says what was taken for what; nothing is guessed in silence.
Shape letters: ``N`` points, ``F`` triangles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from influencer_mmdet3d.data import cloud_files
from influencer_mmdet3d.data.scratch import MEMORY, Scratch
from influencer_mmdet3d.files import foreign_content

GREY = 128
UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001}
"""Metres in one unit of a file."""
LARGE = 200.0
"""Units: what spans less is taken for metres."""
SPARSE = 0.3
"""Units between neighbours: a cloud in metres that is as thin as this is of no use to a model with voxels of cm."""
NEAR = 100.0
"""Metres from the origin within which float32 counts in steps of 8 micrometres at most."""
_SAMPLE = 2000
_READERS: Mapping[str, Callable[[Path, Scratch], cloud_files.Columns]] = {
    ".ply": cloud_files.read_ply,
    ".pcd": cloud_files.read_pcd,
    ".las": cloud_files.read_las,
    ".laz": cloud_files.read_las,
    ".npy": cloud_files.read_npy,
    ".npz": cloud_files.read_npz,
    ".txt": cloud_files.read_text,
    ".xyz": cloud_files.read_text,
    ".bin": cloud_files.read_bin,
}
SUFFIXES = tuple(_READERS)


@dataclass(frozen=True)
class Cloud:
    """A point cloud as its file holds it.

    Attributes
    ----------
    xyz : ndarray of float64, shape (N, 3)
        In the file's own unit and origin.
    colour : ndarray of uint8, shape (N, 3), or None
        0 to 255.
    faces : ndarray of int64, shape (F, 3), or None
        Triangles of points, if it is a mesh.
    fields : dict of str to ndarray, shape (N,)
        Everything else that the file says of its points, under the file's own names.
    notes : tuple of str
        What was taken for what.
    metres : float
        Metres in one unit of `xyz`.
    scratch : Scratch
        Where the arrays lie.
    """

    xyz: npt.NDArray[np.float64]
    colour: npt.NDArray[np.uint8] | None
    faces: npt.NDArray[np.int64] | None = None
    fields: Mapping[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    metres: float = 1.0
    scratch: Scratch = field(default=MEMORY, repr=False, compare=False)

    def points(self) -> Points:
        """Return what a model reads of the cloud.

        The offset is subtracted in float64, before float32 could merge points that are far from the origin. It is 0
        where the coordinates are metres near the origin that float32 holds as they are: the model then sees the very
        numbers that the host's own loader would give it.
        """
        low, high = bounds(self.xyz, self.scratch)
        offset = np.floor([*((low[:2] + high[:2]) / 2), low[2]])
        near = max(abs(low).max(), abs(high).max()) < NEAR and self.metres == 1.0
        if near and self.is_float32():
            offset = np.zeros(3)
        return Points(self, offset)

    def is_float32(self) -> bool:
        """Tell whether float32 holds the coordinates as they are."""
        parts = (self.xyz[part] for part in self.scratch.parts(len(self.xyz)))
        return all(bool((own.astype(np.float32) == own).all()) for own in parts)

    def centred(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        """Return all of `points`, an array (N, 6), and their offset in the file's unit."""
        points = self.points()
        return points[:], points.offset


@dataclass(frozen=True)
class Points:
    """Points (N, 6): metres from `offset`, colours 0 to 255, in float32; made when asked for, never all at once."""

    cloud: Cloud
    offset: npt.NDArray[np.float64]

    def __len__(self) -> int:
        """Return N."""
        return len(self.cloud.xyz)

    def __getitem__(self, rows: slice | npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float32]:
        """Return some of the points."""
        xyz = self.cloud.xyz[rows]
        points = np.empty((len(xyz), 6), np.float32)
        points[:, :3] = self.placed(xyz)
        points[:, 3:] = GREY if self.cloud.colour is None else self.cloud.colour[rows]
        return points

    def placed(self, xyz: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Return where coordinates (..., 3) of the file lie: metres from the offset."""
        placed = np.empty(xyz.shape, np.float32)
        for axis in range(3):  # one axis at a time: many points are not held in float64 once more
            placed[..., axis] = (xyz[..., axis] - self.offset[axis]) * self.cloud.metres
        return placed


def bounds(xyz: npt.NDArray[np.float64], scratch: Scratch) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the least and the greatest coordinates (3,) of points."""
    found = [(xyz[part].min(0), xyz[part].max(0)) for part in scratch.parts(len(xyz))]
    return np.min([low for low, _ in found], 0), np.max([high for _, high in found], 0)


def read_cloud(path: Path, unit: str = "auto", scratch: Scratch = MEMORY) -> Cloud:
    """Read a point cloud.

    Parameters
    ----------
    path : Path
        One of `SUFFIXES`. A .npy holds (N, 3) or (N, 6); a .npz `points` like that, or `xyz` and perhaps `rgb`; text
        has x y z and perhaps red green blue in columns; a .bin is the host's: six float32 a point.
    unit : {'auto', 'm', 'cm', 'mm'}
        Of the coordinates; by default metres, unless they can only be millimetres.
    scratch : Scratch
        Where the cloud's arrays shall lie; by default in memory.

    Raises
    ------
    ValueError
        If there is no such file, no such format, a library is missing (the message names the extra), the file is
        damaged, holds no points, a value is not finite, or the unit cannot be told.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path}: no known format of point clouds; known are {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise ValueError(f"{path} does not exist" if not path.exists() else f"{path} is a folder, expected a file")
    if (foreign := foreign_content(path)) is not None:
        raise ValueError(f"{path} is {foreign}")
    columns = reader(path, scratch)
    if not len(columns.xyz):
        raise ValueError(f"{path} holds no points")
    xyz = cloud_files.converted(columns.xyz, np.float64, scratch)
    _refuse_infinite(path, xyz, scratch)
    faces = None if columns.faces is None or not len(columns.faces) else np.asarray(columns.faces, np.int64)
    if faces is not None and (faces.min() < 0 or faces.max() >= len(xyz)):
        raise ValueError(f"{path}: faces name points {faces.min()} to {faces.max()}, but there are 0 to {len(xyz) - 1}")
    notes = list(columns.notes)
    colour = _colour(path, columns.colour, notes, scratch)
    box = bounds(xyz, scratch)
    metres = _unit(path, xyz, box, unit, notes, scratch)
    largest = float(np.abs(box).max())
    if float(np.spacing(np.float32(largest))) * metres > 0.001:
        notes.append(
            f"coordinates reach {largest:,.0f} (georeferenced?): they are centred in float64 and put back in what is "
            "written"
        )
    return Cloud(xyz, colour, faces, columns.fields, tuple(notes), metres, scratch)


def _refuse_infinite(path: Path, xyz: npt.NDArray[np.float64], scratch: Scratch) -> None:
    count, first = 0, 0
    for part in scratch.parts(len(xyz)):
        rows = np.flatnonzero(~np.isfinite(xyz[part]).all(1))
        if len(rows) and not count:
            first = part.start + int(rows[0])
        count += len(rows)
    if count:
        raise ValueError(
            f"{path}: {count} of {len(xyz)} points have coordinates that are not finite, first at row {first}. "
            "Scanners write such points where nothing came back: remove them first"
        )


def _colour(
    path: Path, colour: npt.NDArray[np.generic] | None, notes: list[str], scratch: Scratch
) -> npt.NDArray[np.uint8] | None:
    """Return colours 0 to 255, whatever range the file uses."""
    if colour is None:
        notes.append("no colours: grey is taken; a model that was trained with colours sees less")
        return None
    low, high = np.inf, -np.inf
    for part in scratch.parts(len(colour)):
        own = colour[part]
        if own.dtype.kind == "f" and not np.isfinite(own).all():
            raise ValueError(f"{path}: some colours are not finite")
        low, high = min(low, float(own.min())), max(high, float(own.max()))
    if low < 0 or high > 65535:
        raise ValueError(f"{path}: colours lie between {low:g} and {high:g}; expected 0 to 255, 0 to 1, or 16 bits")
    if high == 0:
        notes.append("all colours are black: grey is taken")
        return None
    if high <= 1:
        notes.append(f"colours lie between {low:g} and {high:g}: taken for 0 to 1, and multiplied by 255")
    elif high > 255:
        notes.append(f"colours reach {high:g}: taken for 16 bits, and divided by 257")
    found = scratch.empty(colour.shape, np.uint8)
    for part in scratch.parts(len(colour)):
        own = colour[part]
        if high <= 1:
            own = own.astype(np.float64) * 255
        elif high > 255:
            own = own.astype(np.float64) / 257
        found[part] = np.rint(own).astype(np.uint8)
    return found


def _unit(
    path: Path,
    xyz: npt.NDArray[np.float64],
    box: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    unit: str,
    notes: list[str],
    scratch: Scratch,
) -> float:
    """Return the metres in one unit of the coordinates."""
    if unit != "auto":
        if unit not in UNITS:
            raise ValueError(f"unit must be auto or one of {', '.join(UNITS)}, got {unit!r}")
        return UNITS[unit]
    spans = box[1] - box[0]
    if spans.max() <= LARGE or len(xyz) < 2:
        return 1.0
    apart = _apart(xyz, scratch)
    if apart < SPARSE:
        return 1.0
    shown = " x ".join(f"{span:,.0f}" for span in spans)
    if max(spans[:2]) >= 2000 and spans[2] >= 1000:
        notes.append(f"it spans {shown} with neighbours {apart:g} apart: taken for millimetres; --unit says otherwise")
        return UNITS["mm"]
    raise ValueError(
        f"{path} spans {shown} with neighbours {apart:g} apart, which fits neither metres nor millimetres of a room: "
        "name the unit with --unit m, cm or mm"
    )


def _apart(xyz: npt.NDArray[np.float64], scratch: Scratch) -> float:
    """Return the usual distance from a point to its neighbour, by a sample of points."""
    sample = xyz[np.linspace(0, len(xyz) - 1, min(len(xyz), _SAMPLE)).astype(np.int64)]
    nearest = np.empty((len(sample), 0))  # the two nearest of the cloud, the point itself among them
    for part in scratch.parts(len(xyz)):
        here = cKDTree(xyz[part]).query(sample, k=2)[0]
        nearest = np.sort(np.concatenate([nearest, here], 1), 1)[:, :2]
    return float(np.median(nearest[:, 1]))
