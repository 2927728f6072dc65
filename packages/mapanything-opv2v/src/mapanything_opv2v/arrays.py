"""Arrays from `.npy` and `.npz` files that may be damaged or made to do harm.

Nothing is unpickled, and no memory is taken for what a header only promises. numpy's own reader answers damaged
files with nearly any exception; here it is always a ValueError, to which the caller adds the file's name.
"""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

MAX_ARCHIVE_BYTES = 1 << 32
"""Larger archives, unpacked, are refused before memory is taken."""

_MAGIC = b"\x93NUMPY"
Array = npt.NDArray[Any]


def load_npy(path: Path) -> Array:
    """Return the array of a file.

    Raises
    ------
    ValueError
        If it is no whole array, or one of Python objects.
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as stream:
        _check_header(stream, path.stat().st_size)
        return np.asarray(np.load(stream, allow_pickle=False))


def load_npz(path: Path) -> dict[str, Array]:
    """Return the arrays of an archive by their names.

    Raises
    ------
    ValueError
        If it is no archive of whole arrays.
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as stream:
        if stream.read(len(_MAGIC)) == _MAGIC:
            raise ValueError("a single array, expected an .npz archive")
        stream.seek(0)
        try:
            return _unpacked(stream)
        except Exception as error:  # zipfile and zlib raise more than a dozen kinds for damaged archives
            raise ValueError(f"no whole .npz archive: {error or type(error).__name__}") from error


def _unpacked(stream: BinaryIO) -> dict[str, Array]:
    arrays = {}
    with zipfile.ZipFile(stream) as archive:
        entries = archive.infolist()
        size = sum(entry.file_size for entry in entries)
        if size > MAX_ARCHIVE_BYTES:
            raise ValueError(f"{size} bytes unpacked, expected at most {MAX_ARCHIVE_BYTES}")
        for entry in entries:
            data = bytearray(archive.read(entry))  # a bytearray, so that the array can be written to
            shape, fortran, dtype, start = _check_header(io.BytesIO(data), len(data))
            array: Array = np.frombuffer(data, dtype, offset=start) if len(data) > start else np.empty(0, dtype)
            arrays[entry.filename.removesuffix(".npy")] = array.reshape(shape, order="F" if fortran else "C")
    return arrays


def _check_header(stream: BinaryIO, size: int) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, whether columns come first, type, and where the numbers begin; leave the stream at its start."""
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(stream)
    except Exception as error:  # the header is parsed as Python text
        raise ValueError(f"no header of a .npy array ({error or type(error).__name__})") from error
    start = stream.tell()
    if dtype.hasobject:
        raise ValueError("an array of Python objects, which are never unpickled here")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size - start:
        raise ValueError(f"{size - start} bytes for {dtype} {shape}; truncated?")
    stream.seek(0)
    return shape, fortran, dtype, start
