"""Files appear whole or not at all, a killed run goes on; and what a download left instead of the wanted file."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows: what a killed process leaves there stays until somebody deletes it
    fcntl = None  # type: ignore[assignment]

UNFINISHED = ".unfinished.json"
"""Mark of a folder that is being filled: the arguments of the run that fills it."""
_PART = re.compile(r"\..*\.[0-9a-f]{12}\.part")
_swept: set[Path] = set()


def write_whole(path: Path, data: bytes | memoryview | str | Iterable[bytes]) -> None:
    """Write a file beside its place, flush it to disk and rename it; text as UTF-8.

    What a killed process left half written in the folder is removed.

    Parameters
    ----------
    path : Path
        The file; its folder is made if absent.
    data : bytes, memoryview, str or iterable of bytes
        Its content, whole or piece by piece.

    Raises
    ------
    OSError
        If it cannot be written; nothing is left behind then, and an older file stays as it was.
    """
    with whole_file(path) as file:
        if isinstance(data, str):
            file.write(data.encode("utf-8"))
        elif isinstance(data, (bytes, memoryview)):
            file.write(data)
        else:
            file.writelines(data)


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file beside `path` for the block to fill; as in `write_whole`, it takes its place at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    with _open_part(path) as file:
        beside = Path(file.name)
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def _open_part(path: Path) -> IO[bytes]:
    """Open a new file beside `path`, locked for as long as it is open."""
    while True:
        file = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part").open("xb")
        if fcntl is not None:
            with suppress(OSError):  # this file system knows no locks
                fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # another process swept it before it was locked


def _sweep(folder: Path) -> None:
    """Remove the parts that nobody holds a lock on: their processes were killed. A process does it once a folder."""
    if fcntl is None or folder in _swept:
        return
    _swept.add(folder)
    for part in [path for path in folder.iterdir() if _PART.fullmatch(path.name)]:
        with suppress(OSError), part.open("r+b") as file:  # it is locked, or gone, or there are no locks
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()


def is_unfinished(folder: Path) -> bool:
    """Tell whether a run that fills a folder was killed, or is at it."""
    return (folder / UNFINISHED).is_file()


@contextmanager
def filling(folder: Path, arguments: Mapping[str, Any]) -> Iterator[None]:
    """Mark a folder as unfinished until the block ends without an error.

    Parameters
    ----------
    folder : Path
        Is made if absent.
    arguments : mapping
        JSON-able; what decides the folder's content.

    Raises
    ------
    ValueError
        If the folder is half filled by a run with other arguments, or another process is filling it now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mark, text = folder / UNFINISHED, json.dumps(dict(arguments), sort_keys=True)
    with mark.open("a+", encoding="utf-8") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ValueError(f"{folder}: another process is filling this folder; wait for it") from error
            except OSError:
                pass  # this file system knows no locks
        file.seek(0)
        before = file.read()
        if before not in ("", text):
            raise ValueError(
                f"{folder}: a run with other arguments was ended before it was done: {before}; now {text}. Give the "
                "same arguments to go on, or delete the folder"
            )
        if not before:
            file.write(text)
            file.flush()
        yield
        mark.unlink()


def read_record(path: Path, keys: Iterable[str]) -> dict[str, Any]:
    """Read what an earlier run told of itself; ValueError, naming the file, unless it is an object with these keys."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); delete it, and its part is made again") from error
    absent = [key for key in keys if not isinstance(record, dict) or key not in record]
    if absent:
        raise ValueError(f"{path}: without {', '.join(absent)}; delete it, and its part is made again")
    return dict(record)


def foreign_content(path: Path) -> str | None:
    """Tell what was downloaded in place of a data file.

    Returns
    -------
    str or None
        Words that follow "is", with what to do; None if nothing is known.
    """
    with path.open("rb") as file:
        head = file.read(512).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        return "a Git-LFS pointer, not the file that it stands for: run `git lfs pull` where it was cloned"
    if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<script")):
        return "a web page, not the file: download it again by the link of the file itself (for GitHub, its `raw` one)"
    if head.startswith((b'{"', b"{ ", b"{\n", b"{\r")):
        return "JSON text, not the file: often the error message of a download"
    return None
