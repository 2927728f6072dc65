"""The pixels of the plainest PNG files, which most masks are, read in half of Pillow's time.

8-bit grey, not interlaced, no chunks but the three that every PNG has, and the row filters None, Sub and Up of
the PNG specification (W3C, third edition, sections 5, 9 and 11). Everything else, damaged files among it, is left to
Pillow, which also finds the words for what is wrong.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SUB, _UP = 1, 2


def decode_grey(data: bytes, max_pixels: int) -> NDArray[np.uint8] | None:
    """Return the (h, w) uint8 pixels of a PNG file, or None for a file that is not of the plainest kind.

    Parameters
    ----------
    data
        The file.
    max_pixels
        A larger image is not of that kind.
    """
    chunks = _chunks(data)
    if chunks is None:
        return None
    header, packed = chunks
    width, height, *kind = struct.unpack(">IIBBBBB", header)
    if kind != [8, 0, 0, 0, 0] or not 0 < width * height <= max_pixels:
        return None
    rows = _inflated(packed, height * (width + 1))
    return None if rows is None else _unfiltered(np.frombuffer(rows, np.uint8).reshape(height, width + 1))


def _chunks(data: bytes) -> tuple[bytes, bytes] | None:
    """Return the contents of IHDR and of all IDAT; None for other chunks, another order, or a wrong checksum."""
    if not data.startswith(_SIGNATURE):
        return None
    at, found = len(_SIGNATURE), []
    while at + 12 <= len(data):
        (length,), kind = struct.unpack_from(">I", data, at), data[at + 4 : at + 8]
        end = at + 8 + length
        if data[end : end + 4] != struct.pack(">I", zlib.crc32(data[at + 4 : end])):
            return None
        found.append((kind, data[at + 8 : end]))
        at = end + 4
    kinds = [kind for kind, _ in found]
    if at != len(data) or len(kinds) < 3 or kinds != [b"IHDR", *[b"IDAT"] * (len(kinds) - 2), b"IEND"]:
        return None
    contents = [content for _, content in found]
    return (contents[0], b"".join(contents[1:-1])) if len(contents[0]) == 13 and not contents[-1] else None


def _inflated(packed: bytes, length: int) -> bytes | None:
    """Return what a zlib stream holds; None unless it is whole and of that length."""
    stream = isal_zlib.decompressobj()
    try:
        rows = stream.decompress(packed, length + 1)
    except isal_zlib.error:  # type: ignore[misc]  # its stub takes the class for an instance
        return None
    return rows if len(rows) == length and stream.eof and not stream.unused_data else None


def _unfiltered(rows: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Return the pixels of rows that begin with the number of their filter; None for one of another filter."""
    filters, pixels = rows[:, 0], rows[:, 1:].copy()
    if filters.max() > _UP:
        return None
    sub = np.flatnonzero((filters == _SUB) & pixels.any(axis=1))
    pixels[sub] = np.add.accumulate(pixels[sub], axis=1, dtype=np.uint8)  # modulo 256, as the filter is defined
    for row in np.flatnonzero(filters == _UP):
        if row:  # the row above the first one counts as zero
            pixels[row] += pixels[row - 1]
    return pixels
