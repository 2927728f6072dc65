"""LiDAR sweeps in PCD files (version 0.7): ASCII, binary and binary_compressed.

OPV2V was written by Open3D: intensity stands in the red channel of a packed ``rgb`` field.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lzf
import numpy as np
import numpy.typing as npt

from mapanything_opv2v.files import write_bytes

MAX_POINTS, MAX_BYTES = 50_000_000, 2**30
"""Larger sweeps are refused before memory is taken."""

_TYPES = {
    f"{kind}{size}": f"<{code}{size}"
    for kind, code, sizes in (("F", "f", (4, 8)), ("I", "i", (1, 2, 4, 8)), ("U", "u", (1, 2, 4, 8)))
    for size in sizes
}
_MAX_HEADER = 8192


@dataclass(frozen=True)
class PointCloud:
    """One LiDAR sweep.

    Attributes
    ----------
    xyz : (N, 3) float32
        Metres in the sensor's CARLA axes: x forward, y right, z up. Points that are not finite are left out.
    intensity : (N,) float32 or None
        In [0, 1] for OPV2V; None where the file has neither ``intensity`` nor ``rgb``.
    rgb : (N, 3) uint8 or None
        Colours, where ``rgb`` holds more than OPV2V's intensity in red.
    """

    xyz: npt.NDArray[np.float32]
    intensity: npt.NDArray[np.float32] | None
    rgb: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class _Header:
    dtype: np.dtype[np.void]
    points: int
    data: str
    size: int  # bytes that the header takes


def load_pcd(path: str | Path) -> PointCloud:
    """Read a sweep.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing, not PCD, cut short, or has no x, y, z; the message names it.
    """
    path = Path(path)
    data = path.read_bytes()
    header = _parse_header(data, path)
    body = data[header.size :]
    if header.data == "ascii":
        table = _read_ascii(body, header, path)
    elif header.data == "binary":
        table = _read_binary(body, header, path)
    else:
        table = _read_compressed(body, header, path)
    xyz = np.stack([table[axis].astype(np.float32) for axis in "xyz"], axis=1)
    intensity, rgb = _intensity(table), _colors(table)
    finite = np.isfinite(xyz).all(axis=1)
    if not finite.all():
        xyz, intensity = xyz[finite], None if intensity is None else intensity[finite]
        rgb = None if rgb is None else rgb[finite]
    return PointCloud(xyz=xyz, intensity=intensity, rgb=rgb)


def save_pcd(path: str | Path, cloud: PointCloud) -> None:
    """Write a sweep as binary PCD the way OPV2V has it (x y z rgb, red = intensity), whole or not at all."""
    intensity = np.zeros(len(cloud.xyz), np.float32) if cloud.intensity is None else cloud.intensity
    red = np.rint(np.clip(intensity, 0, 1) * 255).astype(np.uint32)
    _write(path, cloud.xyz, (red << 16).astype(np.uint32), "F")


def save_colored_pcd(path: str | Path, xyz: npt.NDArray[Any], rgb: npt.NDArray[np.uint8]) -> None:
    """Write points (N, 3) and their colours (N, 3) as binary PCD (x y z rgb), whole or not at all."""
    red, green, blue = rgb.astype(np.uint32).T
    _write(path, xyz, (red << 16 | green << 8 | blue).astype(np.uint32), "U")


def _write(path: str | Path, xyz: npt.NDArray[Any], packed: npt.NDArray[np.uint32], kind: str) -> None:
    count = len(xyz)
    table = np.zeros(count, dtype=[("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4")])
    for column, axis in enumerate("xyz"):
        table[axis] = xyz[:, column]
    table["rgb"] = packed
    header = (
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z rgb\nSIZE 4 4 4 4\n"
        f"TYPE F F F {kind}\n"
        f"COUNT 1 1 1 1\nWIDTH {count}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {count}\nDATA binary\n"
    )
    write_bytes(Path(path), header.encode() + table.tobytes())


def _parse_header(data: bytes, path: Path) -> _Header:
    entries: dict[str, list[str]] = {}
    position = 0
    while "DATA" not in entries:
        end = data.find(b"\n", position, _MAX_HEADER)
        if end < 0:
            raise ValueError(f"{path}: not a PCD file: no DATA line in its first {_MAX_HEADER} bytes")
        words = data[position:end].decode("ascii", "replace").split()
        position = end + 1
        if words and not words[0].startswith("#"):
            entries[words[0].upper()] = words[1:]
    try:
        fields, sizes, kinds = entries["FIELDS"], entries["SIZE"], entries["TYPE"]
        counts = [int(word) for word in entries.get("COUNT", ["1"] * len(fields))]
        points = int(entries["POINTS"][0]) if "POINTS" in entries else _product(entries["WIDTH"], entries["HEIGHT"])
        form = entries["DATA"][0].lower()
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"{path}: malformed PCD header: {error!r}") from error
    if form not in ("ascii", "binary", "binary_compressed"):
        raise ValueError(f"{path}: DATA {form}: expected ascii, binary or binary_compressed")
    if not 0 <= points <= MAX_POINTS:
        raise ValueError(f"{path}: POINTS {points}: expected 0 to {MAX_POINTS}")
    if not len(fields) == len(sizes) == len(kinds) == len(counts) <= 64:
        raise ValueError(f"{path}: FIELDS, SIZE, TYPE and COUNT differ in length")
    if not {"x", "y", "z"} <= set(fields):
        raise ValueError(f"{path}: fields {fields}: expected x, y and z")
    dtype = _dtype(fields, sizes, kinds, counts, path)
    if points * dtype.itemsize > MAX_BYTES:
        raise ValueError(f"{path}: {points} points of {dtype.itemsize} bytes: expected at most {MAX_BYTES} bytes")
    return _Header(dtype, points, form, position)


def _dtype(fields: list[str], sizes: list[str], kinds: list[str], counts: list[int], path: Path) -> np.dtype[np.void]:
    columns: list[tuple[str, str, tuple[int, ...]]] = []
    for number, (name, size, kind, count) in enumerate(zip(fields, sizes, kinds, counts)):
        code = _TYPES.get(kind.upper() + size)
        if code is None or not 1 <= count <= 4096:
            raise ValueError(f"{path}: field {name!r}: TYPE {kind} SIZE {size} COUNT {count} is not PCD")
        if name == "rgb" and size != "4":
            raise ValueError(f"{path}: field 'rgb': SIZE {size}, expected 4 (packed colours)")
        taken = any(name == column[0] for column in columns)
        # "_" is PCD's padding and may repeat; a second x would be ambiguous
        if taken and name != "_":
            raise ValueError(f"{path}: field {name!r} appears twice")
        if count != 1 and name in ("x", "y", "z", "rgb", "intensity"):
            raise ValueError(f"{path}: field {name!r}: COUNT {count}, expected 1")
        columns.append((f"_{number}" if name == "_" else name, code, () if count == 1 else (count,)))
    return np.dtype(columns)


def _product(width: list[str], height: list[str]) -> int:
    return int(width[0]) * int(height[0])


def _read_ascii(body: bytes, header: _Header, path: Path) -> npt.NDArray[np.void]:
    if header.points == 0:
        return np.empty(0, header.dtype)
    if not body.decode("latin-1").strip():
        raise ValueError(f"{path}: no lines of points, POINTS says {header.points}; truncated?")
    try:
        table = np.loadtxt(io.BytesIO(body), dtype=header.dtype, comments=None, ndmin=1)
    except ValueError as error:
        raise ValueError(f"{path}: ASCII points do not fit the header: {error}") from error
    if len(table) != header.points:
        raise ValueError(f"{path}: {len(table)} lines of points, POINTS says {header.points}; truncated?")
    return table


def _read_binary(body: bytes, header: _Header, path: Path) -> npt.NDArray[np.void]:
    expected = header.points * header.dtype.itemsize
    if len(body) < expected:
        raise ValueError(f"{path}: truncated: {len(body)} bytes of points, expected {expected}")
    return np.frombuffer(body, header.dtype, header.points)


def _read_compressed(body: bytes, header: _Header, path: Path) -> npt.NDArray[np.void]:
    expected = header.points * header.dtype.itemsize
    packed, size = (int(number) for number in np.frombuffer(body[:8].ljust(8, b"\0"), "<u4"))
    if size != expected or len(body) < 8 + packed:
        raise ValueError(
            f"{path}: truncated or inconsistent: {len(body) - 8} of {packed} compressed bytes for {size} "
            f"bytes of points, expected {expected}"
        )
    table = np.empty(header.points, header.dtype)
    if expected == 0:
        return table
    try:
        raw = lzf.decompress(body[8 : 8 + packed], size)
    except ValueError as error:
        raise ValueError(f"{path}: damaged compressed points: {error}") from error
    if raw is None or len(raw) != size:
        raise ValueError(f"{path}: damaged compressed points")
    offset = 0
    for name in header.dtype.names or ():  # stored field after field
        column = header.dtype[name]
        count = header.points * (column.itemsize // column.base.itemsize)
        table[name] = np.frombuffer(raw, column.base, count, offset).reshape(header.points, *column.shape)
        offset += header.points * column.itemsize
    return table


def _intensity(table: npt.NDArray[np.void]) -> npt.NDArray[np.float32] | None:
    names = table.dtype.names or ()
    if "intensity" in names:
        return table["intensity"].astype(np.float32)
    if "rgb" not in names:
        return None
    return ((_packed(table) >> 16) & 0xFF).astype(np.float32) / np.float32(255)


def _colors(table: npt.NDArray[np.void]) -> npt.NDArray[np.uint8] | None:
    """Return colours, None where green and blue are 0 everywhere: OPV2V's intensity."""
    if "rgb" not in (table.dtype.names or ()):
        return None
    bits = _packed(table)
    rgb = np.stack([(bits >> shift) & 0xFF for shift in (16, 8, 0)], axis=1).astype(np.uint8)
    return rgb if rgb[:, 1:].any() else None


def _packed(table: npt.NDArray[np.void]) -> npt.NDArray[np.uint32]:
    packed = table["rgb"]
    return np.ascontiguousarray(packed).view(np.uint32) if packed.dtype.kind == "f" else packed.astype(np.uint32)
