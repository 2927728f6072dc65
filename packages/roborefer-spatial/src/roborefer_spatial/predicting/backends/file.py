"""Answers that somebody else's program has written: see `importing.answer_files` for the files it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from roborefer_spatial.importing.answer_files import By, read_answer_file
from roborefer_spatial.predicting.backends import Request

EXTRA = ""


def same_answers(options: Options) -> frozenset[str]:
    """Name the options that do not change answers."""
    return frozenset()


def takes_depth(options: Options) -> bool:
    """Whether depth maps reach the model: nothing here says that they did not."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Where the answers are.

    Attributes
    ----------
    answers
        JSON, JSONL, CSV, TSV or XLSX.
    id_key, text_key
        Names of the fields with the sample and the answer's text; by default those of the layout that the
        file has.
    by
        "id" or "position": what the first of them holds; by default as the layout has it.
    """

    answers: Path
    id_key: str | None = None
    text_key: str | None = None
    by: By | None = None

    def __post_init__(self) -> None:
        if self.by not in (None, *get_args(By)):
            raise ValueError(f"--by {self.by}: known are {', '.join(get_args(By))}")


def create(options: Options) -> FileBackend:
    """Read the file."""
    return FileBackend(options)


class FileBackend:
    """Looks answers up by sample."""

    def __init__(self, options: Options) -> None:
        self.path = options.answers
        self.found = read_answer_file(options.answers, id_key=options.id_key, text_key=options.text_key, by=options.by)

    def answer(self, requests: Sequence[Request]) -> list[str | Exception]:
        """Return the text of every sample; one without is that request's error."""
        return [self._one(request) for request in requests]

    def _one(self, request: Request) -> str | Exception:
        key = request.id if self.found.by == "id" else str(request.position)
        text = self.found.texts.get(key)
        return ValueError(f"{self.path} holds no answer for {self.found.by} {key!r}") if text is None else text
