"""Files that appear whole or not at all, folders that a killed run goes on with, and JSON that says where it is bad."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

import msgspec
import numpy as np

try:
    import fcntl
except ImportError:  # Windows: what a killed process leaves there stays until somebody deletes it
    fcntl = None  # type: ignore[assignment]

UNFINISHED = ".unfinished.json"
"""Mark of a folder that is being filled: the arguments of the run that fills it."""
_PART = re.compile(r"\..*\.[0-9a-f]{12}\.part")
_swept: set[Path] = set()


def part_of(path: Path) -> Path:
    """Return a new name beside `path` for what will take its place; `sweep` knows such names."""
    return path.with_name(f".{path.name[:80]}.{secrets.token_hex(6)}.part")


def sweep(folder: Path) -> None:
    """Remove what killed processes left half written in a folder; what is being written is locked, and stays.

    A process looks into each folder once.
    """
    if fcntl is None or folder in _swept:
        return
    _swept.add(folder)
    for part in [path for path in folder.iterdir() if _PART.fullmatch(path.name)]:
        with contextlib.suppress(OSError):  # it is locked, or gone, or this file system knows no locks
            descriptor = os.open(part, os.O_RDONLY if part.is_dir() else os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(part) if part.is_dir() else part.unlink()
            finally:
                os.close(descriptor)


def lock(descriptor: int) -> bool:
    """Lock an open file or folder for as long as it is open; return whether it still has a name."""
    if fcntl is not None:
        with contextlib.suppress(OSError):  # this file system knows no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    return os.fstat(descriptor).st_nlink > 0


def _open_part(path: Path) -> IO[bytes]:
    while True:
        stream = part_of(path).open("xb")
        if lock(stream.fileno()):
            return stream
        stream.close()  # another process swept it before it was locked


@contextlib.contextmanager
def atomic_open(path: Path) -> Iterator[IO[bytes]]:
    """Open a file beside `path` for writing; move it to `path` when the block ends without an error.

    The data reach the disk (fsync) before the rename, so `path` holds the old content or all of the new one.
    An exception in the block removes the file beside it and leaves `path` as it was. What a killed process left
    in the folder is removed. Parents are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    with _open_part(path) as stream:
        beside = Path(stream.name)
        try:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Make a folder beside `path`; move it to `path`, which must be absent, when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    beside = part_of(path)
    beside.mkdir()
    descriptor = os.open(beside, os.O_RDONLY)
    try:
        if not lock(descriptor):
            raise OSError(f"{beside}: another process removed this folder before it was locked; try again")
        yield beside
        beside.replace(path)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file (see `atomic_open`)."""
    with atomic_open(path) as stream:
        stream.write(data)


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document, UTF-8, indented by 2; NaN and infinity raise ValueError."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def decode_json(data: bytes | str, where: str | Path) -> Any:
    """Decode a JSON document; ValueError, which begins with `where`, for anything that is none."""
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError(f"{where}: not valid JSON: nested too deeply") from error
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, and numbers of too many digits
        raise ValueError(f"{where}: not valid JSON: {error}") from error


def read_json(path: Path) -> Any:
    """Read a JSON document; ValueError, naming the file, for anything that is none."""
    return decode_json(path.read_bytes(), path)


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; ValueError, naming the file, for anything else."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


Row = TypeVar("Row")
_CHUNK_BYTES = 1 << 18  # text and rows of one stay in the processor's cache
_NOT_READ = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # the last: lists in lists, a thousand deep


@dataclass(frozen=True, slots=True)
class Rows(Generic[Row]):
    """Some rows of a JSON list or JSONL file.

    Attributes
    ----------
    first
        Where the first of them is: a line from 1, or a row of a list from 0.
    rows
        What each decodes to; None for one that has to be looked at by itself, be it empty or wrong.
    texts
        Returns the JSON of each.
    """

    first: int
    rows: Sequence[Row | None]
    texts: Callable[[], list[bytes]]


def read_rows(path: Path, decoder: msgspec.json.Decoder[Row], what: str) -> Iterator[Rows[Row]]:
    """Read a JSONL file, or a JSON file that holds a list of `what`; ValueError, naming the file, for no such list."""
    if path.suffix == ".jsonl":
        yield from read_lines(path, decoder)
        return
    data = path.read_bytes()
    try:
        texts = [bytes(text) for text in msgspec.json.decode(data, type=list[msgspec.Raw])]
    except _NOT_READ:  # no JSON, or as only Python's own decoder reads it
        rows = decode_json(data, path)
        if not isinstance(rows, list):
            raise ValueError(
                f"{path}: expected a JSON list of {what}, got {brief(rows)}; JSONL files end in .jsonl"
            ) from None
        texts = [json.dumps(row).encode() for row in rows]
    yield Rows(0, [decoded(text, decoder) for text in texts], lambda: texts)


def read_lines(path: Path, decoder: msgspec.json.Decoder[Row], *, unfinished: bool = False) -> Iterator[Rows[Row]]:
    """Read a JSONL file, many lines in one call of the decoder; where one of them is wrong, each by itself.

    `unfinished` leaves out a last line without its line break.
    """
    number = 1
    with path.open("rb") as stream:
        while data := stream.read(_CHUNK_BYTES):
            data += stream.readline()
            if unfinished:
                data = data[: data.rfind(b"\n") + 1]
            count = _line_breaks(data) + (bool(data) and not data.endswith(b"\n"))
            rows = _decode_lines(data, count, decoder)
            yield Rows(number, rows, functools.partial(_split, data, count))
            number += count


def _line_breaks(data: bytes) -> int:
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == ord("\n")))  # a quarter of the time of bytes.count


def _split(data: bytes, count: int) -> list[bytes]:
    return data.split(b"\n")[:count]


def _decode_lines(data: bytes, count: int, decoder: msgspec.json.Decoder[Row]) -> Sequence[Row | None]:
    rows: Sequence[Row] = ()
    with contextlib.suppress(*_NOT_READ):
        rows = decoder.decode_lines(data)
    return rows if len(rows) == count else [decoded(line, decoder) for line in _split(data, count)]


def decoded(text: bytes, decoder: msgspec.json.Decoder[Row]) -> Row | None:
    """Decode one row; None where it is wrong, or as only Python's own decoder reads it."""
    try:
        return decoder.decode(text)
    except _NOT_READ:
        return None


def brief(value: Any) -> str:
    """Return a value's repr, cut to what fits in an error message."""
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def is_unfinished(folder: Path) -> bool:
    """Say whether a run that fills a folder was killed, or is at it."""
    return (folder / UNFINISHED).is_file()


@contextlib.contextmanager
def filling(folder: Path, arguments: Mapping[str, Any]) -> Iterator[None]:
    """Mark a folder as unfinished until the block ends without an error.

    Parameters
    ----------
    folder
        Is made if absent.
    arguments
        JSON-able; what decides the folder's content.

    Raises
    ------
    ValueError
        The folder is half filled by a run with other arguments, or another process is filling it now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mark, text = folder / UNFINISHED, json.dumps(dict(arguments), sort_keys=True)
    with mark.open("a+", encoding="utf-8") as stream:
        if fcntl is not None:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ValueError(f"{folder}: another process is filling this folder; wait for it") from error
            except OSError:
                pass  # this file system knows no locks
        stream.seek(0)
        before = stream.read()
        if before not in ("", text):
            raise ValueError(
                f"{folder}: a run with other arguments was ended before it was done: {before}; now {text}. Give the "
                "same arguments to go on, or delete the folder"
            )
        if not before:
            stream.write(text)
            stream.flush()
        yield
        mark.unlink()
