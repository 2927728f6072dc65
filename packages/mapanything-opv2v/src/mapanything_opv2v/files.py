"""Files appear whole or not at all: write beside, fsync, rename."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

STALE_S = 60.0
"""Age from which on a temporary file belongs to a writer that was killed: no file here takes so long to write."""

_NEARLY_FULL_BYTES = 1 << 20


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`; it takes `path`'s place only if the block succeeds.

    Parameters
    ----------
    path : Path
        Final place. Missing parent folders are made.

    Yields
    ------
    BinaryIO
        The temporary file, open for writing bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # less the umask
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and _is_full(error, path.parent):
            raise OSError(
                errno.ENOSPC, f"no space left on the disk of {path.parent}; {path.name} was not written, make room"
            ) from error
        raise


def _is_full(error: OSError, folder: Path) -> bool:
    """Say whether a disk was full; numpy says only that fewer bytes were written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or (error.errno is None and shutil.disk_usage(folder).free < _NEARLY_FULL_BYTES)


def remove_stale(folder: Path, older_than_s: float = STALE_S) -> list[str]:
    """Remove temporary files of killed writers anywhere below a folder, and return their names.

    Those younger than `older_than_s` may belong to a writer that is at work.
    """
    names = []
    for path in sorted(folder.rglob(f".*.{'[0-9a-f]' * 16}.part")) if folder.is_dir() else ():
        try:
            if time.time() - path.stat().st_mtime > older_than_s:
                path.unlink()
                names.append(path.name)
        except FileNotFoundError:
            continue  # its writer has finished meanwhile
    return names


def remove_leftovers(folder: Path, pattern: str) -> list[str]:
    """Remove the temporary files of writers that were killed, and return their names.

    Call it only where nobody else writes such files.

    Parameters
    ----------
    folder : Path
        Where to look; it need not exist.
    pattern : str
        Names of the files that were to be written, as in `Path.glob`.
    """
    names = []
    for path in sorted(folder.glob(f".{pattern}.{'[0-9a-f]' * 16}.part")):
        path.unlink()
        names.append(path.name)
    return names


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with whole_file(path) as stream:
        stream.write(data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, whole or not at all; NaN is refused."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())
