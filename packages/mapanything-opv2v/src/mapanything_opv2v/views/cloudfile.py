"""Clouds from files: ``.pcd``, ``.ply`` and ``.npy``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mapanything_opv2v import rawdata
from mapanything_opv2v.arrays import load_npy
from mapanything_opv2v.geometry import points_carla_to_opencv
from mapanything_opv2v.views.frame import Cloud

CLOUD_SUFFIXES = (".pcd", ".ply", ".npy")
AXES = ("opencv", "carla")
"""Axes of a file's coordinates: x right, y down, z forward; or x forward, y right, z up (OPV2V's sweeps)."""

MAX_HEADER_BYTES = 65536
_PLY_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2"},
    **{"int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8"},
}
_GREY = 200


def load_cloud(path: str | Path, axes: str = "opencv") -> Cloud:
    """Read a cloud.

    Parameters
    ----------
    path : path
        ``.pcd`` (in its colours, else grey by intensity); ``.ply`` (ASCII or binary, vertices
        with x, y, z and perhaps red, green, blue); ``.npy`` of shape (N, 3) or, with colours from 0 to 1, (N, 6).
    axes : {'opencv', 'carla'}
        Of the file.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing, not such a file, or empty; the message names it.
    """
    path = Path(path)
    if axes not in AXES:
        raise ValueError(f"axes={axes!r}, expected one of {', '.join(AXES)}")
    if path.suffix == ".pcd":
        sweep = rawdata.load_pcd(path)
        xyz: npt.NDArray[np.floating[Any]] = sweep.xyz
        share = np.full(len(xyz), _GREY / 255) if sweep.intensity is None else np.clip(sweep.intensity, 0, 1)
        grey = np.repeat(np.rint(60 + 195 * share).astype(np.uint8)[:, None], 3, axis=1)
        rgb = grey if sweep.rgb is None else sweep.rgb
    elif path.suffix == ".ply":
        xyz, rgb = _load_ply(path)
    elif path.suffix == ".npy":
        xyz, rgb = _load_npy(path)
    else:
        raise ValueError(f"{path}: expected a cloud as {', '.join(CLOUD_SUFFIXES)}, got {path.suffix!r}")
    finite = np.isfinite(xyz).all(axis=1)
    if not finite.any():
        raise ValueError(f"{path}: no point with finite coordinates")
    points = xyz[finite].astype(np.float64)
    return Cloud(points_carla_to_opencv(points) if axes == "carla" else points, rgb[finite])


def _load_npy(path: Path) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.uint8]]:
    try:
        array = load_npy(path)
    except ValueError as error:
        raise ValueError(f"{path}: not a whole .npy array: {error}") from error
    if array.ndim != 2 or array.shape[1] not in (3, 6) or array.dtype.kind not in "fiu":
        raise ValueError(f"{path}: expected numbers of shape (N, 3) or (N, 6), got {array.dtype} {array.shape}")
    if array.shape[1] == 3:
        return array, np.full((len(array), 3), _GREY, np.uint8)
    low, high = float(array[:, 3:].min(initial=0)), float(array[:, 3:].max(initial=0))
    if not 0 <= low <= high <= 1:
        raise ValueError(f"{path}: colours reach from {low:g} to {high:g}, expected 0 to 1")
    return array[:, :3], np.rint(255 * array[:, 3:]).astype(np.uint8)


def _load_ply(path: Path) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.uint8]]:
    data = path.read_bytes()
    end = data.find(b"end_header", 0, MAX_HEADER_BYTES)
    start = data.find(b"\n", end, MAX_HEADER_BYTES) + 1
    if not data.startswith(b"ply") or end < 0 or start == 0:
        raise ValueError(f"{path}: not a PLY file")
    form, count, fields = _ply_header(data[:end].decode("ascii", "replace"), path)
    if count > len(data):
        raise ValueError(f"{path}: truncated: {len(data)} bytes for {count} vertices")
    if form == "ascii":
        rows = data[start:].split(b"\n", count)[:count]
        try:
            table = np.loadtxt(rows, dtype=np.dtype([(n, f"<{t}") for n, t in fields]), ndmin=1)
        except ValueError as error:
            raise ValueError(f"{path}: ASCII vertices do not fit the header: {error}") from error
    else:
        order = "<" if form == "binary_little_endian" else ">"
        dtype = np.dtype([(name, order + kind) for name, kind in fields])
        if len(data) - start < count * dtype.itemsize:
            raise ValueError(f"{path}: truncated: {len(data) - start} bytes of {count * dtype.itemsize} for vertices")
        table = np.frombuffer(data, dtype, count, start)
    if len(table) != count:
        raise ValueError(f"{path}: {len(table)} vertices, the header says {count}; truncated?")
    names = [name for name, _ in fields]
    if not {"x", "y", "z"} <= set(names):
        raise ValueError(f"{path}: vertices have {names}, expected x, y and z")
    xyz = np.stack([table[axis].astype(np.float64) for axis in "xyz"], axis=1)
    if not {"red", "green", "blue"} <= set(names):
        return xyz, np.full((count, 3), _GREY, np.uint8)
    return xyz, np.stack([table[name].astype(np.uint8) for name in ("red", "green", "blue")], axis=1)


def _ply_header(text: str, path: Path) -> tuple[str, int, list[tuple[str, str]]]:
    """Return format, number of vertices, and their (name, type) pairs."""
    form, count, element = "", -1, ""
    fields: list[tuple[str, str]] = []
    for words in (line.split() for line in text.splitlines()):
        match words:
            case ["format", form, _]:
                pass
            case ["element", element, number]:
                if element == "vertex" and number.isdecimal() and len(number) < 19:
                    count = int(number)
                elif count < 0:
                    raise ValueError(f"{path}: element {element!r} stands before the vertices")
            case ["property", kind, name] if element == "vertex":
                if any(name == taken for taken, _ in fields):
                    raise ValueError(f"{path}: vertex property {name!r} appears twice")
                if kind not in _PLY_TYPES:
                    raise ValueError(f"{path}: vertex property {name!r} of unknown type {kind!r}")
                fields.append((name, _PLY_TYPES[kind]))
            case ["property", "list", *_] if element == "vertex":
                raise ValueError(f"{path}: vertices with lists are not a point cloud")
    if form not in ("ascii", "binary_little_endian", "binary_big_endian") or count < 0:
        raise ValueError(f"{path}: PLY of format {form!r} with {count} vertices; expected ascii or binary vertices")
    return form, count, fields
