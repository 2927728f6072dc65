"""Files appear whole or not at all: write beside, fsync, rename."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


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
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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
