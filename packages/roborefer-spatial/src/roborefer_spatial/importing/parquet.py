"""Rows of Parquet files as on the Hugging Face hub, where a picture is {"bytes", "path"}. Needs pyarrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_BATCH = 32
"""Rows that are in memory together: each may hold pictures."""


def read_parquet(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where, row) with these columns; the others are not read.

    Raises
    ------
    ValueError
        pyarrow is not installed, a column is missing, or the file is no whole Parquet file.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError(f"{path.name}: needs the library pyarrow: pip install 'roborefer-spatial[parquet]'") from error
    with path.open("rb") as stream:
        if stream.read(12) == b"version http":
            raise ValueError(f"{path.name}: only the pointer to a file that Git LFS keeps; fetch it: git lfs pull")
    number = 0
    try:
        with parquet.ParquetFile(path) as table:
            missing = [name for name in columns if name not in table.schema_arrow.names]
            if missing:
                names = ", ".join(table.schema_arrow.names)
                raise ValueError(f"{path.name}: has no column {missing[0]!r}; its columns: {names}")
            for batch in table.iter_batches(_BATCH, columns=list(columns)):
                for row in batch.to_pylist():
                    yield f"{path.name}, row {number}", row
                    number += 1
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path.name}: cannot be read as Parquet from row {number} on: {error}") from error


def picture(value: Any, where: str, folder: Path) -> bytes:
    """Return a picture's file: the bytes inside the row, or of the path that the row has in their place.

    Raises
    ------
    ValueError
        Neither is there, or the path cannot be read.
    """
    if isinstance(value, dict) and value.get("bytes"):
        return bytes(value["bytes"])
    if isinstance(value, dict) and value.get("path"):
        try:
            return (folder / value["path"]).read_bytes()
        except OSError as error:
            raise ValueError(f"{where}: {value['path']} cannot be read: {error.strerror or error}") from error
    raise ValueError(
        f"{where}: expected a picture as {{'bytes', 'path'}} with one of them filled, got {str(value)[:80]}"
    )
