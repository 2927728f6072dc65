"""Published pointing benchmarks, read and scored in their own layouts: `roborefer-spatial benchmark`.

- CrossPoint-Bench: `CrossPoint-Bench.jsonl` beside `image/`. Rows of the types in `POINTING` have a base64 PNG mask as
  their answer, above 128 is inside; the others have a letter.
- RefSpatial-Bench: `{part}/question.json` with `prompt`, `suffix`, `rgb_path` and `mask_path`, above 0 is inside; or
  `data/{part}-00000-of-00001.parquet` with `id`, `prompt`, `suffix`, and `image` and `mask` as pictures.
- Where2Place: `point_questions.jsonl` with `question_id`, `image`, `text` and `category`, `images/`, and `masks/` with
  the image's name or the question's place from 0 in two digits (`00.jpg`), as RoboPoint's script has it; above half is
  inside.

Answers are read by this package's parser, and their points looked up by its rule: pixel = int(fraction * size).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roborefer_spatial import answers, files
from roborefer_spatial.answers import PointOrder, Units
from roborefer_spatial.images import decode, pixel_of
from roborefer_spatial.importing.parquet import picture, read_parquet

Mask = NDArray[np.bool_]
POINTING = frozenset({"Fine-grained Grounding", "Correspondence-Pointing"})
LAYOUTS = ("crosspoint", "refspatial", "where2place")
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
_LETTER = re.compile(r"\b([A-D])\b")
_SAID = re.compile(r"(?:answer|option|choice)\W*(?:is)?\W*\(?([A-D])\b", re.I)


@dataclass(frozen=True, slots=True)
class Question:
    """One question: id, images (paths, or files from inside a table), text, group, and its truth: mask or letter."""

    id: str
    images: tuple[Path | bytes, ...]
    prompt: str
    group: str
    mask: Mask | None
    letter: str | None = None


def read(folder: Path, layout: str | None = None) -> list[Question]:
    """Return the questions of a benchmark's folder, or of one Parquet file of RefSpatial-Bench.

    Raises
    ------
    ValueError
        The folder has none of the layouts, a row lacks a field or a file, or two questions have one id.
    """
    layout = layout or _layout(folder)
    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}; known: {', '.join(LAYOUTS)}")
    found = {"crosspoint": _crosspoint, "refspatial": _refspatial, "where2place": _where2place}[layout](folder)
    if not found:
        raise ValueError(f"{folder}: no questions")
    names: set[str] = set()
    for question in found:
        if question.id in names:
            raise ValueError(f"{folder}: two questions have the id {question.id!r}, so an answer to it is for either")
        names.add(question.id)
    return found


def _layout(folder: Path) -> str:
    if (folder / "CrossPoint-Bench.jsonl").is_file():
        return "crosspoint"
    if (folder / "point_questions.jsonl").is_file():
        return "where2place"
    if (folder / "question.json").is_file() or next(folder.glob("*/question.json"), None) or _parquets(folder):
        return "refspatial"
    raise ValueError(
        f"{folder}: expected CrossPoint-Bench.jsonl, point_questions.jsonl (Where2Place), or question.json in it or in "
        "its folders, or Parquet files in it or in data/ (RefSpatial-Bench)"
    )


def _rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.strip():
            rows.append((f"{path.name}, line {number}", files.decode_json(line, f"{path.name}, line {number}")))
    return rows


def _field(row: Mapping[str, Any], key: str, where: str) -> Any:
    if not isinstance(row, Mapping) or key not in row:
        raise ValueError(f"{where}: has no field {key!r}")
    return row[key]


def _mask(data: bytes, where: str, above: float) -> Mask:
    """Return the mask (h, w): the mean of the channels is above a value, as CrossPoint-Bench has it."""
    values = np.asarray(decode(data, where))
    if values.dtype == bool:
        return values
    return np.asarray((values.mean(axis=2) if values.ndim == 3 else values) > above)


def _crosspoint(folder: Path) -> list[Question]:
    found = []
    for where, row in _rows(folder / "CrossPoint-Bench.jsonl"):
        kind, truth = str(_field(row, "type", where)), str(_field(row, "answer", where))
        images = tuple(folder / "image" / path if not (folder / path).is_file() else folder / path
                       for path in _field(row, "images", where))  # fmt: skip
        mask, letter = None, None
        if kind in POINTING:
            try:
                mask = _mask(base64.b64decode(truth, validate=True), where, 128)
            except binascii.Error as error:
                raise ValueError(f"{where}: its answer is no base64 picture: {error}") from error
        else:
            letter = truth.strip().upper().strip("()")
        found.append(Question(str(_field(row, "idx", where)), images, str(row.get("question", "")), kind, mask, letter))
    return found


def _refspatial(folder: Path) -> list[Question]:
    found: list[Question] = []
    parts = (
        [folder] if (folder / "question.json").is_file() else sorted(p.parent for p in folder.glob("*/question.json"))
    )
    if not parts:
        return _refspatial_parquet(folder)
    for part in parts:
        rows = files.read_json(part / "question.json")
        for index, row in enumerate(rows):
            where = f"{part.name}/question.json, row {index}"
            path = part / str(_field(row, "mask_path", where))
            name = str(_field(row, "id", where)) if len(parts) == 1 else f"{part.name}/{row['id']}"
            prompt = f"{_field(row, 'prompt', where)} {row.get('suffix', '')}".strip()
            image = part / str(_field(row, "rgb_path", where))
            found.append(Question(name, (image,), prompt, part.name, _first_channel(path.read_bytes(), path)))
    return found


def _parquets(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder] if folder.suffix == ".parquet" else []
    return sorted(folder.glob("*.parquet")) or sorted(folder.glob("data/*.parquet"))


def _refspatial_parquet(folder: Path) -> list[Question]:
    """Read the splits' files: `{part}-{number}-of-{count}.parquet`."""
    paths = _parquets(folder)
    parts = [_SHARD.sub("", path.stem) for path in paths]
    found = []
    for part, path in zip(parts, paths):
        for where, row in read_parquet(path, ("id", "prompt", "suffix", "image", "mask")):
            name = str(row["id"]) if len(set(parts)) == 1 else f"{part}/{row['id']}"
            for key in ("id", "prompt"):
                if row[key] is None:
                    raise ValueError(f"{where}: its {key} is empty")
            prompt = f"{row['prompt']} {row['suffix'] or ''}".strip()
            image, mask = (picture(row[key], f"{where}, {key}", path.parent) for key in ("image", "mask"))
            found.append(Question(name, (image,), prompt, part, _first_channel(mask, f"{where}, mask")))
    return found


def _first_channel(data: bytes, name: str | Path) -> Mask:
    values = np.asarray(decode(data, name))
    return np.asarray((values[..., 0] if values.ndim == 3 else values) > 0)


def _where2place(folder: Path) -> list[Question]:
    found = []
    for index, (where, row) in enumerate(_rows(folder / "point_questions.jsonl")):
        name = Path(str(_field(row, "image", where)))
        stems = (name.stem, f"{index:02d}")
        masks = [folder / "masks" / f"{stem}{suffix}" for stem in stems for suffix in (name.suffix, ".jpg", ".png")]
        path = next((path for path in masks if path.is_file()), None)
        if path is None:
            numbered = folder / "masks" / f"{index:02d}.jpg"
            raise ValueError(
                f"{where}: no mask {masks[0].relative_to(folder)} or, by its place, {numbered.relative_to(folder)}"
            )
        values = np.asarray(decode(path.read_bytes(), path)).astype(np.float64)
        mask = np.round((values[..., 0] if values.ndim == 3 else values) / 255) > 0
        text = str(_field(row, "text", where))
        found.append(Question(str(_field(row, "question_id", where)), (folder / "images" / name,), text,
                              str(row.get("category", "all")), mask))  # fmt: skip
    return found


def score(
    questions: Sequence[Question],
    texts: Mapping[str, str],
    *,
    units: Units = "normalized",
    point_order: PointOrder = "xy",
) -> dict[str, dict[str, float]]:
    """Return, for each group and for "all", accuracy and count; a question without an answer is a miss.

    A pointing answer earns the share of its points that are inside the mask (in CrossPoint-Bench: its first point).
    """
    earned: dict[str, list[float]] = {}
    for question in questions:
        value = one(question, texts.get(question.id), units, point_order)
        for group in (question.group, "all"):
            earned.setdefault(group, []).append(value)
    return {group: {"accuracy": float(np.mean(values)), "count": len(values)} for group, values in earned.items()}


def one(question: Question, text: str | None, units: Units, point_order: PointOrder) -> float:
    """Return what one answer earns, 0 to 1."""
    if text is None:
        return 0.0
    if question.mask is None:
        return float(letter_of(text) == question.letter)
    size_wh = question.mask.shape[1], question.mask.shape[0]
    points = answers.parse(text, units=units, size_wh=size_wh, point_order=point_order).points
    if question.group in POINTING:
        points = points[:1]
    pixels = [pixel_of(x, y, size_wh) for x, y in points]
    return (
        float(np.mean([pixel is not None and question.mask[pixel[1], pixel[0]] for pixel in pixels])) if pixels else 0.0
    )


def letter_of(text: str) -> str | None:
    """Return the option that a text chooses: a letter alone, the one it says is its answer, or the only one in it."""
    stripped = text.strip().strip("().*").upper()
    if len(stripped) == 1 and stripped in "ABCD":
        return stripped
    said = _SAID.findall(text)
    if said:
        return str(said[-1]).upper()
    found = set(_LETTER.findall(text))
    return found.pop() if len(found) == 1 else None
