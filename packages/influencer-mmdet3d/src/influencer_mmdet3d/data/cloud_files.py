"""One reader for each file format of point clouds; `clouds` looks at what they return.

What has an entry for each point is made by the `Scratch` that a reader is given, and filled part by part where the
format's library can do that.
Shape letters: ``N`` points, ``F`` triangles.
"""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from influencer_mmdet3d.data.scratch import MEMORY, PART, Scratch

Array = npt.NDArray[Any]
COLOURS = (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue"))
"""Names of colours, in the order in which they are looked for."""
BIN_COLUMNS = 6
MANY = 1_000_000
"""Points of a file from which it is said that its format is read whole."""


@dataclass(frozen=True)
class Columns:
    """What a file holds, not looked at yet."""

    xyz: Array  # (N, 3)
    colour: Array | None  # (N, 3) in the file's own range
    fields: Mapping[str, Array] = field(default_factory=dict)
    faces: Array | None = None  # (F, 3)
    notes: Sequence[str] = ()


def _library(name: str, path: Path) -> Any:
    """Import what reads a format, or say which extra has it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"reading {path.name} needs {name}: pip install 'influencer-mmdet3d[scans]', which has it ({error})"
        ) from error


def converted(array: Array, dtype: npt.DTypeLike, scratch: Scratch) -> Array:
    """Return an array (N, 3) of another type, without a gap between its rows; the same one where nothing changes."""
    if array.dtype == dtype and array.flags.c_contiguous:
        return array
    return _joined([array[:, axis] for axis in range(array.shape[1])], scratch, dtype)


def _joined(columns: Sequence[Array], scratch: Scratch, dtype: npt.DTypeLike | None = None) -> Array:
    """Return columns (N,) side by side."""
    table = scratch.empty((len(columns[0]), len(columns)), np.result_type(*columns) if dtype is None else dtype)
    for part in scratch.parts(len(table)):
        for axis, column in enumerate(columns):
            table[part, axis] = column[part]
    return table


def _whole(path: Path, what: str, count: int) -> list[str]:
    """Return what is said of a format that is read whole, if the file is large."""
    better = "binary .ply without faces, .las, .laz, .npy, .npz and .bin are read in parts"
    return [f"{path.name}: {what} is read whole, into memory; {better}"] if count >= MANY else []


def _split(path: Path, table: Mapping[str, Array], scratch: Scratch) -> tuple[Array, Array | None, dict[str, Array]]:
    """Split named columns into coordinates, colours and the rest."""
    lower = {name.lower(): name for name in table}
    missing = [name for name in "xyz" if name not in lower]
    if missing:
        raise ValueError(f"{path} has no {' and no '.join(missing)} of its points; it has {sorted(table)}")
    xyz = _joined([table[lower[name]] for name in "xyz"], scratch, np.float64)
    names = next((names for names in COLOURS if all(name in lower for name in names)), ())
    colour = _joined([table[lower[name]] for name in names], scratch) if names else None
    used = {lower[name] for name in (*"xyz", *names)}
    return xyz, colour, {name: np.asarray(values) for name, values in table.items() if name not in used}


def read_ply(path: Path, scratch: Scratch = MEMORY) -> Columns:
    """Read a .ply, text or binary, with its triangles; polygons are cut into triangles."""
    plyfile = _library("plyfile", path)
    try:
        data = plyfile.PlyData.read(str(path))
        vertex = data["vertex"].data
        lists = _faces(data)
    except Exception as error:  # plyfile raises its own errors, and those of numpy for damaged files
        raise ValueError(f"{path} is no readable .ply with vertices: {type(error).__name__}: {error}") from error
    plain = [name for name in vertex.dtype.names if vertex.dtype[name].kind in "biuf"]
    scratch.follow(vertex)  # where plyfile has mapped the file
    xyz, colour, fields = _split(path, {name: vertex[name] for name in plain}, scratch)
    notes = _whole(path, "a .ply of text", len(xyz)) if data.text else []
    return Columns(xyz, colour, fields, lists, notes or ([] if lists is None else _whole(path, "a mesh", len(xyz))))


def _faces(data: Any) -> Array | None:
    if "face" not in [element.name for element in data.elements]:
        return None
    face = data["face"].data
    name = next((name for name in ("vertex_indices", "vertex_index") if name in (face.dtype.names or ())), None)
    if name is None or not len(face):
        return None
    corners = np.array([len(one) for one in face[name]])
    triangles = []
    for count in np.unique(corners[corners >= 3]):
        polygons = np.stack(list(face[name][corners == count])).astype(np.int64)
        triangles += [polygons[:, [0, k, k + 1]] for k in range(1, count - 1)]
    return np.concatenate(triangles) if triangles else None


def read_las(path: Path, scratch: Scratch = MEMORY) -> Columns:
    """Read a .las or .laz; extra dimensions are among the fields."""
    laspy = _library("laspy", path)
    try:
        with laspy.open(str(path)) as reader:
            count = int(reader.header.point_count)
            xyz = scratch.empty((count, 3), np.float64)
            names = [name for name in reader.header.point_format.dimension_names if name not in ("X", "Y", "Z")]
            table: dict[str, Array] = {}
            start = 0
            for points in reader.chunk_iterator(PART):
                part = slice(start, start + len(points))
                for axis, name in enumerate("xyz"):
                    xyz[part, axis] = np.asarray(getattr(points, name), np.float64)
                for name in names:
                    values = np.asarray(points[name])
                    if name not in table:
                        table[name] = scratch.empty((count, *values.shape[1:]), values.dtype)
                    table[name][part] = values
                start += len(points)
                scratch.release()
    except Exception as error:  # laspy, and the decompressor that it calls, have errors of their own
        if path.suffix.lower() == ".laz" and "LazBackend" in str(error):
            _library("lazrs", path)
        raise ValueError(f"{path} is no readable {path.suffix}: {type(error).__name__}: {error}") from error
    if start != count:
        raise ValueError(f"{path} is no readable {path.suffix}: it ends after {start} of {count} points")
    colour = None
    if all(name in table for name in COLOURS[0]):
        colour = _joined([table.pop(name) for name in COLOURS[0]], scratch)
    return Columns(xyz, colour, table)


def read_pcd(path: Path, scratch: Scratch = MEMORY) -> Columns:
    """Read a .pcd of the Point Cloud Library: ascii, binary or compressed."""
    pypcd4 = _library("pypcd4", path)
    try:
        cloud = pypcd4.PointCloud.from_path(path)
        table = {name: np.asarray(cloud.numpy((name,))[:, 0]) for name in cloud.fields if name != "_"}
    except Exception as error:  # pypcd4 raises whatever its parts raise
        raise ValueError(f"{path} is no readable .pcd: {type(error).__name__}: {error}") from error
    packed = next((name for name in ("rgb", "rgba") if name in table), None)
    if packed is not None:  # one number of four bytes, blue lowest, kept in a float or an unsigned integer
        values = table.pop(packed)
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32) if values.dtype.kind == "f" else values
        table.update({name: (bits >> shift) & 255 for name, shift in zip(COLOURS[0], (16, 8, 0))})
    xyz, colour, fields = _split(path, table, scratch)
    return Columns(xyz, colour, fields, None, _whole(path, "a .pcd", len(xyz)))


def read_npy(path: Path, scratch: Scratch = MEMORY) -> Columns:
    """Read an array (N, 3) or (N, 6)."""
    try:
        with path.open("rb") as file:
            array = _stored(file, scratch)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is no readable .npy of plain numbers: {error}") from error
    return _array(path, array, {})


def _stored(file: IO[bytes], scratch: Scratch) -> Array:
    """Return the array of an open .npy, as `numpy.load` does."""
    heads = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in heads:
        raise ValueError(f"it is of version {version}, expected one of {sorted(heads)}")
    shape, by_columns, dtype = heads[version](file)
    if dtype.hasobject:
        raise ValueError(f"it holds Python objects ({dtype}), expected numbers")
    array = scratch.empty(shape[::-1] if by_columns else shape, dtype)
    content = array.reshape(-1).view(np.uint8) if array.size else np.empty(0, np.uint8)
    for part in scratch.parts(len(content), 1 << 23):
        block = file.read(part.stop - part.start)
        if len(block) < part.stop - part.start:
            raise ValueError(f"it ends after {part.start + len(block)} of {len(content)} bytes")
        content[part] = np.frombuffer(block, np.uint8)
    return array.T if by_columns else array


def read_npz(path: Path, scratch: Scratch = MEMORY) -> Columns:
    """Read `points` (N, 3 or 6), or `xyz` (N, 3) and perhaps `rgb` (N, 3), and what else has one value a point."""
    table = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                with archive.open(member) as file:
                    table[member.removesuffix(".npy")] = _stored(file, scratch)
    except Exception as error:  # zipfile and numpy have many
        raise ValueError(f"{path} is no readable .npz of plain arrays: {type(error).__name__}: {error}") from error
    name = next((name for name in ("points", "xyz", "coord", "coords") if name in table), None)
    if name is None:
        raise ValueError(f"{path} has neither points nor xyz; it has {sorted(table)}")
    array = table.pop(name)
    colour = None
    other = next((name for name in ("rgb", "colors", "colours", "color", "colour") if name in table), None)
    if array.ndim == 2 and array.shape[1] == 3 and other is not None:
        colour = table.pop(other)
        if colour.shape != array.shape:
            raise ValueError(f"{path}: {other} must have the shape {array.shape} of {name}, got {colour.shape}")
    faces = table.pop("faces", None)
    fields = {key: values for key, values in table.items() if values.shape == array.shape[:1]}
    read = _array(path, array, fields)
    return Columns(read.xyz, read.colour if colour is None else colour, fields, faces)


def _array(path: Path, array: Array, fields: Mapping[str, Array]) -> Columns:
    if array.ndim != 2 or array.shape[1] not in (3, 6) or array.dtype.kind not in "iuf":
        raise ValueError(
            f"{path}: expected numbers of shape (N, 3), or (N, 6) with colours, got {array.dtype} {array.shape}"
        )
    return Columns(array[:, :3], array[:, 3:] if array.shape[1] == 6 else None, fields)


def read_text(path: Path, scratch: Scratch = MEMORY) -> Columns:
    """Read columns x y z, perhaps red green blue, perhaps more; blanks, commas or semicolons between them."""
    with path.open(encoding="utf-8", errors="replace") as file:
        head = [file.readline() for _ in range(20)]
    skip = 0
    while skip < len(head) and not _numbers(head[skip]):
        skip += 1
    if skip == len(head):
        raise ValueError(f"{path}: no line of numbers among the first {len(head)}; expected x y z in columns")
    separator = next((mark for mark in ";," if mark in head[skip]), None)
    try:
        table = np.loadtxt(path, delimiter=separator, skiprows=skip, ndmin=2, comments=("#", "//"))
    except ValueError as error:
        raise ValueError(f"{path} is no table of numbers with as many in each line: {error}") from error
    if table.shape[1] < 3:
        raise ValueError(f"{path} has {table.shape[1]} columns, expected at least x y z")
    colour, notes, used = None, _whole(path, "text", len(table)), 3
    if table.shape[1] >= 6 and table[:, 3:6].min() >= 0:
        colour, used = table[:, 3:6], 6
        notes.append("columns 4 to 6 are taken for red, green, blue")
    fields = {f"column_{k + 1}": table[:, k] for k in range(used, table.shape[1])}
    if fields:
        notes.append(f"columns {used + 1} to {table.shape[1]} are not used")
    return Columns(table[:, :3], colour, fields, None, notes)


def _numbers(line: str) -> bool:
    words = line.replace(",", " ").replace(";", " ").split()
    try:
        return len([float(word) for word in words]) >= 3
    except ValueError:
        return False


def read_bin(path: Path, scratch: Scratch = MEMORY) -> Columns:
    """Read the host's points: float32 x, y, z, red, green, blue."""
    size = path.stat().st_size
    if size % (4 * BIN_COLUMNS):
        raise ValueError(
            f"{path} has {size} bytes, which is no whole number of points: a .bin of the host holds "
            f"{BIN_COLUMNS} float32 a point (x y z red green blue)"
        )
    table = scratch.empty((size // (4 * BIN_COLUMNS), BIN_COLUMNS), "<f4")
    with path.open("rb") as file:
        for part in scratch.parts(len(table)):
            own = np.fromfile(file, "<f4", (part.stop - part.start) * BIN_COLUMNS)
            table[part] = own.reshape(-1, BIN_COLUMNS)
    return Columns(table[:, :3], table[:, 3:])
