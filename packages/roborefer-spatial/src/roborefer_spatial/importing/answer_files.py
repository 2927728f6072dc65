"""Answers that other programs wrote: which field is whose answer, in the layouts that are known.

| layout | file | sample | answer |
|---|---|---|---|
| this package | JSON, JSONL, table | `id` | `text` |
| RefSpatial-Bench outputs | JSONL | `question_id` | `text` |
| lmms-eval sample log (`--log_samples`) | JSONL | `doc_id`: the row of the task's file, from 0 | `filtered_resps` |
| VLMEvalKit | TSV, XLSX | `index` | `prediction` |

A file in another layout names its fields.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from roborefer_spatial.importing.sheets import SUFFIXES, read_sheet

By = Literal["id", "position"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Which fields hold the sample and its answer, and whether the sample is named by id or by position."""

    id_key: str
    text_key: str
    by: By = "id"


LAYOUTS: dict[str, Layout] = {
    "this package": Layout("id", "text"),
    "RefSpatial-Bench outputs": Layout("question_id", "text"),
    "lmms-eval sample log": Layout("doc_id", "filtered_resps", "position"),
    "VLMEvalKit": Layout("index", "prediction"),
}


@dataclass(frozen=True, slots=True)
class ForeignAnswers:
    """Answer texts (None where there is none) by sample: its id, or its position in the sample file from 0."""

    texts: dict[str, str | None]
    by: By


def read_answer_file(
    path: Path, *, id_key: str | None = None, text_key: str | None = None, by: By | None = None
) -> ForeignAnswers:
    """Read answers by sample.

    Parameters
    ----------
    path
        JSON (a list of rows, or an object with one under "results"), JSONL, CSV, TSV or XLSX.
    id_key, text_key
        Fields with the sample and the answer; by default those of the layout that the first row has.
    by
        Whether the first of them is the sample's id or its position; by default as the layout has it.

    Raises
    ------
    ValueError
        The file cannot be read, a field is missing, or a sample occurs twice.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; make it with `roborefer-spatial predict`")
    texts: dict[str, str | None] = {}
    layout: Layout | None = None
    for where, row in _rows(path):
        if not isinstance(row, dict):
            raise ValueError(f"{where}: expected an object with an id and an answer, got {type(row).__name__}")
        layout = layout or _layout(row, where, id_key, text_key, by)
        identity, text = _entry(row, layout, where)
        if identity in texts:
            raise ValueError(f"{where}: {layout.id_key} {identity!r} occurs twice; a sample has one answer")
        texts[identity] = text
    return ForeignAnswers(texts, layout.by if layout else "id")


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        for number, row in read_sheet(path):
            yield f"{path.name}, row {number}", row
    elif suffix == ".json":
        rows = _decoded(path.read_bytes(), path.name)
        rows = rows.get("results") if isinstance(rows, dict) else rows
        if not isinstance(rows, list):
            raise ValueError(f"{path}: expected a list of answers, or an object with one under 'results'")
        for index, row in enumerate(rows):
            yield f"{path.name}, row {index}", row
    else:
        for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
            if line.strip():
                where = f"{path.name}, line {number}"
                yield where, _decoded(line, where)


def _decoded(data: bytes, where: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not valid JSON: {error}") from error


def _layout(row: Mapping[str, Any], where: str, id_key: str | None, text_key: str | None, by: By | None) -> Layout:
    """Return the layout of a file from its first row and what the user said."""
    for known in LAYOUTS.values():
        found = Layout(id_key or known.id_key, text_key or known.text_key, by or _by(id_key or known.id_key))
        if found.id_key in row and found.text_key in row:
            return found
    named = f"{id_key or 'an id'} and {text_key or 'an answer'}"
    layouts = "; ".join(f"{name}: {known.id_key}, {known.text_key}" for name, known in LAYOUTS.items())
    raise ValueError(
        f"{where}: expected {named}, got the fields {sorted(row)}. Known layouts: {layouts}. Name the fields of "
        "others with --id-key and --text-key of `predict --backend file`"
    )


def _by(id_key: str) -> By:
    return next((known.by for known in LAYOUTS.values() if known.id_key == id_key), "id")


def _entry(row: Mapping[str, Any], layout: Layout, where: str) -> tuple[str, str | None]:
    if layout.id_key not in row or layout.text_key not in row:
        raise ValueError(f"{where}: expected {layout.id_key!r} and {layout.text_key!r}, got {sorted(row)}")
    identity, text = row[layout.id_key], row[layout.text_key]
    while isinstance(text, list) and len(text) == 1:  # lmms-eval: one answer for each request of a document
        text = text[0]
    if type(identity) not in (str, int) or identity == "":
        raise ValueError(f"{where}: {layout.id_key!r} is {identity!r}, expected text or an integer")
    if not isinstance(text, str | None):
        raise ValueError(f"{where}: {layout.text_key!r} is {text!r}, expected one text")
    if text is None and not row.get("error"):
        raise ValueError(f"{where}: {layout.text_key!r} is null and there is no 'error' that says why")
    return str(identity), text
