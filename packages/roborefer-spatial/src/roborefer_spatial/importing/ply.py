"""The vertices and triangles of a PLY file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from roborefer_spatial.importing.recording import Floats

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip


def read_vertices(path: Path) -> Floats:
    """Return x, y, z (N, 3) of the vertices of an ASCII or binary PLY file, whose first element they are.

    Raises
    ------
    ValueError
        The file is no such PLY, or ends before its last vertex.
    """
    data = path.read_bytes()
    end = data.find(b"end_header")
    body = data.find(b"\n", end) + 1
    lines = [line.split() for line in data[: max(end, 0)].decode("ascii", "replace").splitlines()]
    if not data.startswith(b"ply") or end < 0 or len(lines) < 3:
        raise ValueError(f"{path}: not a PLY file")
    form = next((line[1] for line in lines if line[:1] == ["format"]), "")
    elements = [line for line in lines if line[:1] == ["element"]]
    if not elements or elements[0][1] != "vertex":
        raise ValueError(f"{path}: its first element is {elements[0][1] if elements else 'missing'}, expected vertex")
    count, start = int(elements[0][2]), lines.index(elements[0]) + 1
    names = []
    for line in lines[start:]:
        if line[0] == "element":
            break
        if line[0] == "property":
            names.append((line[-1], _TYPES.get(line[1], "")))
    if not {"x", "y", "z"} <= {name for name, _ in names} or "" in {kind for _, kind in names}:
        raise ValueError(f"{path}: expected vertices with x, y and z, got {', '.join(name for name, _ in names)}")
    if form == "ascii":
        rows = [line.split() for line in data[body:].decode("ascii").splitlines()[:count]]
        numbers = np.array(rows, dtype=np.float64)
        columns = [[name for name, _ in names].index(axis) for axis in "xyz"]
        return np.asarray(numbers[:, columns])
    order = {"binary_little_endian": "<", "binary_big_endian": ">"}.get(form)
    if order is None:
        raise ValueError(f"{path}: format {form!r}, expected ascii or binary")
    kind = np.dtype([(name, order + code) for name, code in names])
    if len(data) - body < count * kind.itemsize:
        raise ValueError(f"{path}: ends before its last of {count} vertices")
    table = np.frombuffer(data, kind, count, body)
    return np.stack([table[axis].astype(np.float64) for axis in "xyz"], axis=1)


def read_faces(path: Path) -> NDArray[np.int64]:
    """Return the corners (F, 3) of the triangles of a PLY file whose second element, after vertices, are faces.

    Raises
    ------
    ValueError
        There are none, or some have more corners than three.
    """
    data = path.read_bytes()
    end = data.find(b"end_header")
    body = data.find(b"\n", end) + 1
    lines = [line.split() for line in data[: max(end, 0)].decode("ascii", "replace").splitlines()]
    at = [number for number, line in enumerate(lines) if line[:1] == ["element"]]
    if len(at) < 2 or lines[at[0]][1] != "vertex" or lines[at[1]][1] != "face":
        raise ValueError(f"{path}: expected vertices, then faces")
    form, points, count = lines[1][1], int(lines[at[0]][2]), int(lines[at[1]][2])
    stop = at[2] if len(at) > 2 else len(lines)
    properties = [line for line in lines[at[1] + 1 : stop] if line[:1] == ["property"]]
    if not properties or properties[0][1] != "list":
        raise ValueError(f"{path}: expected a list of corners as the first property of a face")
    if form == "ascii":
        rows = data[body:].decode("ascii").splitlines()[points : points + count]
        corners = np.array([row.split()[:4] for row in rows], dtype=np.int64).reshape(-1, 4)
    else:
        order = ">" if form == "binary_big_endian" else "<"
        vertex = [_TYPES[line[1]] for line in lines[at[0] + 1 : at[1]] if line[:1] == ["property"]]
        size, corner = (_TYPES[word] for word in properties[0][2:4])
        kind = np.dtype([("size", order + size), ("corners", order + corner, 3),
                         *((line[2], order + _TYPES[line[1]]) for line in properties[1:])])  # fmt: skip
        start = body + points * np.dtype([(str(n), order + code) for n, code in enumerate(vertex)]).itemsize
        if len(data) - start < count * kind.itemsize:
            raise ValueError(f"{path}: ends before its last of {count} triangles")
        table = np.frombuffer(data, kind, count, start)
        corners = np.column_stack([table["size"], table["corners"]]).astype(np.int64)
    if (corners[:, 0] != 3).any():
        raise ValueError(f"{path}: a face has {corners[corners[:, 0] != 3, 0][0]} corners, expected triangles")
    if count and not (corners[:, 1:].min() >= 0 and corners[:, 1:].max() < points):
        raise ValueError(f"{path}: a triangle has a corner that is none of the {points} vertices")
    return np.ascontiguousarray(corners[:, 1:])
