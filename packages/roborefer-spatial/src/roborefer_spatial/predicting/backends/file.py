"""Answers that somebody else's program has written to a JSON or JSONL file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from roborefer_spatial import predictions
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
        JSON list or JSONL of objects.
    id_key, text_key
        Names of the fields with the sample's id and the answer's text (RefSpatial-Bench outputs: question_id
        and text).
    """

    answers: Path
    id_key: str = "id"
    text_key: str = "text"


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Add this backend's flags."""
    group.add_argument("--answers", type=Path, default=argparse.SUPPRESS, help="JSON or JSONL file of answers")
    group.add_argument("--id_key", default=argparse.SUPPRESS, help="field with the sample's id (default: id)")
    group.add_argument("--text_key", default=argparse.SUPPRESS, help="field with the answer (default: text)")


def create(options: Options) -> FileBackend:
    """Read the file."""
    return FileBackend(options)


class FileBackend:
    """Looks answers up by sample id."""

    def __init__(self, options: Options) -> None:
        self.path = options.answers
        rows = predictions.read(options.answers, id_key=options.id_key, text_key=options.text_key)
        self.texts = {row.id: row.text for row in rows}

    def answer(self, requests: Sequence[Request]) -> list[str | Exception]:
        """Return the text of every id; an id without one is that request's error."""
        return [self._one(request.id) for request in requests]

    def _one(self, sample_id: str) -> str | Exception:
        text = self.texts.get(sample_id)
        return ValueError(f"{self.path} holds no answer for id {sample_id!r}") if text is None else text
