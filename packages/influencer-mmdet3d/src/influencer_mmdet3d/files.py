"""Files appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, data: bytes | str) -> None:
    """Write a file beside its place, flush it to disk and rename it; text as UTF-8.

    Parameters
    ----------
    path : Path
        The file; its folder is made if absent.
    data : bytes or str
        Its content.

    Raises
    ------
    OSError
        If it cannot be written; nothing is left behind then, and an older file stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(data.encode("utf-8") if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
