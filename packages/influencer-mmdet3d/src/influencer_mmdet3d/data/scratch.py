"""Arrays as long as a cloud, kept in a file instead of memory.

A cloud may be larger than memory; a tile of it is not. What has an entry for each point is made by a `Scratch`, and
worked on part by part. The operating system holds the parts in use in memory, as it does with any file, and takes
that memory back when something else needs it.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PART = 1 << 18
"""Points that are worked on at a time."""
_ROUND = 64
"""Bytes to which the beginning of an array is rounded."""


class Scratch:
    """A maker of large arrays.

    Parameters
    ----------
    folder : Path, optional
        Where the arrays' bytes lie, in files without a name: they are gone as soon as nothing uses the arrays, even
        if the process is killed. Without a folder the arrays are ordinary ones, in memory.
    block : int
        Least bytes that a file has: small arrays share one.
    """

    def __init__(self, folder: Path | None = None, block: int = 1 << 24) -> None:
        self._folder, self._block = folder, block
        self._files: list[mmap.mmap] = []
        self._others: list[mmap.mmap] = []
        self._used = self._held = 0

    def empty(self, shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return an array as `numpy.empty` does.

        Raises
        ------
        OSError
            If the disk has no room for it.
        """
        if self._folder is None:
            return np.empty(shape, dtype)
        dtype, sides = np.dtype(dtype), (shape,) if isinstance(shape, int) else tuple(shape)
        count = int(np.prod(sides, dtype=np.int64))
        if not count:
            return np.empty(shape, dtype)
        size = count * dtype.itemsize
        if not self._files or self._used + size > len(self._files[-1]):
            self._files.append(_file(self._folder, max(size, self._block, self._held // 4), self._held))
            self._held, self._used = self._held + len(self._files[-1]), 0
        array = np.frombuffer(self._files[-1], dtype, count, self._used).reshape(sides)
        self._used += -(-size // _ROUND) * _ROUND
        return array

    def full(self, count: int, value: float, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return an array of `count` equal values."""
        array = self.empty(count, dtype)
        for part in self.parts(count):
            array[part] = value
        return array

    def parts(self, count: int, size: int = PART) -> Iterator[slice]:
        """Yield slices that cover `count` points; the memory of what was touched is let go after each."""
        for start in range(0, count, size):
            yield slice(start, min(start + size, count))
            self.release()

    def follow(self, array: npt.NDArray[Any]) -> None:
        """Let go of the memory of an array, too, that somebody else has mapped to a file and that nobody changes."""
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        if self._folder is not None and isinstance(base, mmap.mmap):
            self._others.append(base)

    def release(self) -> None:
        """Let go of the memory that holds parts of the arrays. The arrays stay: they are read from the file again."""
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows, which takes memory back by itself
            for file in (*self._files, *self._others):
                file.madvise(mmap.MADV_DONTNEED)


MEMORY = Scratch()
"""Makes ordinary arrays."""


def _file(folder: Path, size: int, held: int) -> mmap.mmap:
    """Return `size` bytes of a new file without a name; room on the disk is made sure of now, not at the first use."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            return mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise OSError(
            f"{folder}: no room for {size / 1e6:,.0f} MB of temporary files, beside the {held / 1e6:,.0f} MB that this "
            f"cloud takes already ({error}). Take an --out on a larger disk, or cut the cloud into files"
        ) from error
