"""The vertices of a PLY file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

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
