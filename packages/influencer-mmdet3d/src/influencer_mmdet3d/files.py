"""Files appear whole or not at all; and what a file is that a download left instead of the wanted one."""

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
