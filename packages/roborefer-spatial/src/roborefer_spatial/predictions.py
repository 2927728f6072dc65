"""Files of answers: a row per sample, `{"id": .., "text": ..}` or `{"id": .., "text": null, "error": ..}`.

A row may also say `"finish": "length"` (the text was cut off at the token limit) and `"seen": [[w, h], ..]`
(the size in pixels at which the model was given each image).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

_Side = Annotated[int, msgspec.Meta(gt=0)]
Sizes = tuple[tuple[_Side, _Side], ...]


@dataclass(frozen=True, slots=True)
class Prediction:
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
    usual = (id_key, text_key) == ("id", "text")
    found = []
    for number, row, answer in _rows(path, unfinished):
        if not usual or answer is None or (answer.text is None and answer.error is None):
            answer = _unusual(row, _where(path, number), id_key, text_key)
        found.append(answer)
    if unfinished:
        return list({row.id: row for row in found}.values())
    if len({row.id for row in found}) != len(found):
        seen: set[str] = set()
        twice = next(row.id for row in found if row.id in seen or seen.add(row.id))  # type: ignore[func-returns-value]
        raise ValueError(f"{path}: id {twice!r} occurs twice; a sample has one answer")
    return found


_decoder = msgspec.json.Decoder(Prediction)


def _rows(path: Path, unfinished: bool) -> Iterator[tuple[int, Any, Prediction | None]]:
    """Yield (line from 1 or row from 0, the row as JSON or decoded, its answer where this package wrote it)."""
    data = path.read_bytes()
    if path.suffix == ".json":
        try:
            rows = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path.name}: not valid JSON: {error}") from error
        if isinstance(rows, dict):
            rows = rows.get("results")
        if not isinstance(rows, list):
            raise ValueError(f"{path}: expected a list of answers, or an object with one under 'results'")
        yield from ((index, row, None) for index, row in enumerate(rows))
        return
    lines = data.split(b"\n")
    if unfinished:
        lines.pop()  # what follows the last line break: nothing, or half a row
    for number, (line, answer) in enumerate(zip(lines, _of_lines(lines)), 1):
        if line.strip():
            yield number, line, answer


def _of_lines(lines: list[bytes]) -> list[Prediction | None]:
    """Decode all lines in one call; where one of them is of another program, or wrong, each by itself."""
    whole = lines[:-1] if lines and not lines[-1] else lines
    try:
        answers: list[Prediction | None] = list(_decoder.decode_lines(b"\n".join(whole)))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        answers = []
    if len(answers) == len(whole):
        return answers + [None] * (len(lines) - len(whole))
    return [_decoded(line) for line in lines]


def _decoded(line: bytes) -> Prediction | None:
    try:
        return _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _where(path: Path, place: int) -> str:
    return f"{path.name}, {'row' if path.suffix == '.json' else 'line'} {place}"


def _unusual(row: Any, where: str, id_key: str, text_key: str) -> Prediction:
    """Read a row with an integer id or of other fields, or say what is wrong with it."""
    if isinstance(row, bytes):
        try:
            row = json.loads(row)
        except (ValueError, RecursionError) as wrong:
            raise ValueError(f"{where}: not valid JSON: {wrong}") from wrong
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
