"""Files of answers: a row per sample, `{"id": .., "text": ..}` or `{"id": .., "text": null, "error": ..}`.

A row may also say `"finish": "length"` (the text was cut off at the token limit) and `"seen": [[w, h], ..]`
(the size in pixels at which the model was given each image).
"""

from __future__ import annotations

import json
import operator
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec

from roborefer_spatial import files

_Side = Annotated[int, msgspec.Meta(gt=0)]
Sizes = tuple[tuple[_Side, _Side], ...]


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """One answer.

    Attributes
    ----------
    id
        The sample's.
    text
        What the model said, or None.
    error
        Why there is no text.
    finish
        "length" where the text was cut off at the token limit, otherwise None.
    seen
        (width, height) in pixels at which the model was given each image, where that is known.
    """

    id: str
    text: str | None
    error: str | None = None
    finish: str | None = None
    seen: Sizes | None = None

    def to_json(self) -> str:
        """Return the row as one line of JSON."""
        row: dict[str, Any] = {"id": self.id, "text": self.text}
        if self.error is not None:
            row["error"] = self.error
        if self.finish is not None:
            row["finish"] = self.finish
        if self.seen is not None:
            row["seen"] = [list(size) for size in self.seen]
        return json.dumps(row, ensure_ascii=False)


def read(path: Path, *, id_key: str = "id", text_key: str = "text", unfinished: bool = False) -> list[Prediction]:
    """Read answers.

    Parameters
    ----------
    path
        JSON (suffix .json): a list of rows, or an object with such a list under "results", as the
        research evaluator wrote it. Any other suffix: JSONL, one row a line.
    id_key, text_key
        Fields with the sample's id (text or integer) and the answer.
    unfinished
        The file is still being written: leave out a last line without its line break, and let a later row of
        an id take the place of an earlier one.

    Raises
    ------
    ValueError
        The file is missing or no such file, a field is missing or of the wrong type, or an id occurs twice.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; make it with `roborefer-spatial predict`")
    if path.suffix == ".json":
        found = [_unusual(row, f"{path.name}, row {at}", id_key, text_key) for at, row in enumerate(_listed(path))]
    else:
        found = list(_of_lines(path, id_key, text_key, unfinished))
    if unfinished:
        return list({row.id: row for row in found}.values())
    if len(set(map(operator.attrgetter("id"), found))) != len(found):
        seen: set[str] = set()
        twice = next(row.id for row in found if row.id in seen or seen.add(row.id))  # type: ignore[func-returns-value]
        raise ValueError(f"{path}: id {twice!r} occurs twice; a sample has one answer")
    return found


_decoder = msgspec.json.Decoder(Prediction)


def _listed(path: Path) -> list[Any]:
    """Return the rows of a JSON file."""
    rows = files.read_json(path)
    if isinstance(rows, dict):
        rows = rows.get("results")
    if not isinstance(rows, list):
        raise ValueError(f"{path}: expected a list of answers, or an object with one under 'results'")
    return rows


def _of_lines(path: Path, id_key: str, text_key: str, unfinished: bool) -> Iterator[Prediction]:
    """Read a JSONL file; rows as this package writes them are decoded many at a time."""
    usual = (id_key, text_key) == ("id", "text")
    for lines in files.read_lines(path, _decoder, unfinished=unfinished):
        good = [usual and row is not None and (row.text is not None or row.error is not None) for row in lines.rows]
        if all(good):
            yield from lines.rows  # type: ignore[misc]  # none is None
            continue
        for at, (text, row, fine) in enumerate(zip(lines.texts(), lines.rows, good), lines.first):
            if fine:
                yield row  # type: ignore[misc]
            elif text.strip():
                yield _unusual(text, f"{path.name}, line {at}", id_key, text_key)


def _unusual(row: Any, where: str, id_key: str, text_key: str) -> Prediction:
    """Read a row with an integer id or of other fields, or say what is wrong with it."""
    if isinstance(row, bytes):
        row = files.decode_json(row, where)
    if not isinstance(row, dict) or id_key not in row or text_key not in row:
        have = sorted(row) if isinstance(row, dict) else type(row).__name__
        raise ValueError(
            f"{where}: expected an object with {id_key!r} and {text_key!r}, got {have}; name the fields with "
            "--id-key and --text-key of `predict --backend file`"
        )
    identity, text, error = row[id_key], row[text_key], row.get("error")
    if type(identity) not in (str, int):
        raise ValueError(f"{where}: {id_key!r} is {identity!r}, expected text or an integer")
    if text is None and error is None:
        raise ValueError(f"{where}: {text_key!r} is null and there is no 'error' that says why")
    if not isinstance(text, str | None) or not isinstance(error, str | None):
        raise ValueError(f"{where}: {text_key!r} and 'error' are text, got {text!r} and {error!r}")
    finish = row.get("finish")
    if not isinstance(finish, str | None):
        raise ValueError(f"{where}: 'finish' is text or missing, got {finish!r}")
    return Prediction(str(identity), text, error, finish, _sizes(row.get("seen"), where))


def _sizes(value: Any, where: str) -> Sizes | None:
    """Read `seen`; ValueError unless it is a list of [width, height]."""
    if value is None:
        return None
    good = isinstance(value, list) and all(
        isinstance(size, list) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)
        for size in value
    )
    if not good:
        raise ValueError(f"{where}: 'seen' is a list of [width, height] in pixels, got {value!r}")
    return tuple((width, height) for width, height in value)
