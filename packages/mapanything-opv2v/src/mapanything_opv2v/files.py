"""Files appear whole or not at all (write beside, fsync, rename); and JSON is read with its place named."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows: what a killed process leaves there stays until somebody deletes it
    fcntl = None  # type: ignore[assignment]

_PART = re.compile(r"\..*\.[0-9a-f]{16}\.part")
_swept: set[Path] = set()
_NEARLY_FULL_BYTES = 1 << 20


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`; it takes `path`'s place only if the block succeeds.

    What killed processes left half written in the folder is removed.

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
    if path.parent not in _swept:
        _swept.add(path.parent)  # a process looks into each folder once
        _remove_abandoned(path.parent.glob(".*.part"))
    temporary, descriptor = _new_part(path)
    with os.fdopen(descriptor, "wb") as stream:
        try:
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


def _new_part(path: Path) -> tuple[Path, int]:
    """Open a new file beside `path`, locked for as long as it is open."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # less the umask
        if fcntl is not None:
            with suppress(OSError):  # this file system knows no locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return temporary, descriptor
        os.close(descriptor)  # another process removed it before it was locked


def _remove_abandoned(paths: Iterable[Path]) -> list[str]:
    """Remove the temporary files that nobody holds a lock on: their writers were killed. Return their names."""
    names = []
    for path in sorted(paths):
        if fcntl is None or not _PART.fullmatch(path.name):
            continue
        with suppress(OSError), path.open("r+b") as stream:  # it is locked, or gone, or there are no locks
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            names.append(path.name)
    return names


def remove_stale(folder: Path) -> list[str]:
    """Remove temporary files of killed writers anywhere below a folder, and return their names."""
    return _remove_abandoned(folder.rglob(".*.part"))


def remove_leftovers(folder: Path, pattern: str) -> list[str]:
    """Remove the temporary files of writers that were killed, and return their names.

    Parameters
    ----------
    folder : Path
        Where to look; it need not exist.
    pattern : str
        Names of the files that were to be written, as in `Path.glob`.
    """
    return _remove_abandoned(folder.glob(f".{pattern}.{'[0-9a-f]' * 16}.part"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with whole_file(path) as stream:
        stream.write(data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, whole or not at all; NaN is refused."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON document; ValueError, naming the file, for anything that is none."""
    try:
        return json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError(f"{path}: damaged JSON: nested too deeply") from error
    except ValueError as error:  # also UnicodeDecodeError, and numbers of too many digits
        raise ValueError(f"{path}: damaged JSON: {error}") from error
