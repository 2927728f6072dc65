"""Training rows: JSON or JSONL of the host's conversation format, read whole and checked row by row."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from roborefer_spatial.files import decode_json

Row = dict[str, Any]
SENDERS = ("human", "gpt")


def read_rows(path: str | os.PathLike[str]) -> list[Row]:
    """Read a training file.

    Parameters
    ----------
    path : path
        A JSON array of rows, or JSONL (one row a line, blank lines allowed); told apart by the first
        character.

    Returns
    -------
    list of dict
        Rows with `conversations`, and `image` and `depth` (where present) as lists of strings.

    Raises
    ------
    ValueError
        Naming the file, the row and the key: no such file, no JSON, no rows, or a row of another shape.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"{path}: no such training file; `roborefer-spatial build` writes t1_train_multi.json and its kin"
        )
    rows = [_checked(row, f"{path}, {where}") for where, row in _parsed(path)]
    if not rows:
        raise ValueError(f"{path}: no rows in this training file")
    return rows


def _parsed(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a training file, it is not UTF-8 text ({error})") from error
    if text.lstrip()[:1] == "[":
        yield from ((f"row {index}", row) for index, row in enumerate(decode_json(text, path)))
        return
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: JSON strings may hold U+2028
        if line.strip():
            yield f"line {number}", decode_json(line, f"{path}, line {number}")


def _checked(row: Any, where: str) -> Row:
    if not isinstance(row, dict):
        raise ValueError(f"{where}: a row must be an object, got {type(row).__name__}")
    turns = row.get("conversations")
    if not isinstance(turns, list) or len(turns) < 2 or len(turns) % 2:
        raise ValueError(f"{where}, conversations: must be a list of human/gpt turns in pairs, got {_shown(turns)}")
    _refuse_frame_of_b(row, where)
    for index, turn in enumerate(turns):
        _check_turn(turn, SENDERS[index % 2], f"{where}, conversations[{index}]")
    checked = dict(row)
    for key in ("image", "depth"):
        if key in row and row[key] is not None:
            checked[key] = _paths(row[key], f"{where}, {key}")
        else:
            checked.pop(key, None)
    if "depth" in checked and len(checked["depth"]) != len(checked.get("image", [])):
        raise ValueError(
            f"{where}, depth: {len(checked['depth'])} depth file(s) for {len(checked.get('image', []))} image(s)"
        )
    return checked


def _refuse_frame_of_b(row: Row, where: str) -> None:
    """Refuse a side-by-side row of the research builder, whose answer stands in B's frame.

    It is told by what today's rows have besides: `coord_frame`. Rows of other origin have no `query_original`.
    """
    words = f"{row.get('task', '')} {row.get('id', '')}".lower()
    if "concat" in words and "query_original" in row and row.get("coord_frame") != "concat":
        raise ValueError(
            f"{where}: a side-by-side row of the research builder: its answer is in the right view's own frame, and a "
            "model would learn to point at the wrong half; `roborefer-spatial import-notes` takes such files over"
        )


def _check_turn(turn: Any, sender: str, where: str) -> None:
    if not isinstance(turn, Mapping) or turn.get("from") != sender or not isinstance(turn.get("value"), str):
        raise ValueError(f'{where}: must be {{"from": "{sender}", "value": text}}, got {_shown(turn)}')
    if sender == "gpt" and not turn["value"].strip():
        raise ValueError(f"{where}, value: the answer is empty; there would be nothing to learn")


def _paths(value: Any, where: str) -> list[str]:
    paths = [value] if isinstance(value, str) else value
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) and path for path in paths):
        raise ValueError(f"{where}: must be a path or a list of paths, got {_shown(value)}")
    return paths


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
