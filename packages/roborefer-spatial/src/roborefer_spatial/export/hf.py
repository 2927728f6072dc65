"""A Hugging Face dataset: parquet files with the images inside, and a card that names the sets."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from roborefer_spatial import files
from roborefer_spatial.images import refuse_turned
from roborefer_spatial.predicting.profiles import Profile
from roborefer_spatial.sample import Sample

SHARD_ROWS = 500


def write_hf(folder: Path, final: Path, name: str, samples: Sequence[Sample], profile: Profile) -> str:
    """Write one set as a configuration of the dataset; return a summary.

    Columns: `id`, `task`, `images` (list), `mask`, `mask_dilated`, `prompt` (as the profile puts it), `answer`, and
    `sample`, the whole row as JSON for `sample.Sample.from_row`, its paths relative to the folder that holds all of
    them. Image files are embedded as they are.

    Raises
    ------
    ValueError
        Without the library `datasets`, for samples of several splits, or for files that cannot be read.
    """
    try:
        import datasets
    except ImportError as error:
        raise ValueError("this format needs the library datasets: pip install datasets") from error
    splits = sorted({sample.split for sample in samples})
    if len(splits) != 1:
        raise ValueError(f"{name}: holds samples of the splits {splits}; a set has one")
    features = datasets.Features(
        {
            **{key: datasets.Value("string") for key in ("id", "task")},
            "images": datasets.Sequence(datasets.Image()),
            **{key: datasets.Image() for key in ("mask", "mask_dilated")},
            **{key: datasets.Value("string") for key in ("prompt", "answer", "sample")},
        }
    )
    common = _common_folder(samples)
    starts = range(0, len(samples), SHARD_ROWS)
    for number, start in enumerate(starts):
        rows = [_row(sample, common, profile) for sample in samples[start : start + SHARD_ROWS]]
        shard = datasets.Dataset.from_list(rows, features=features)
        with files.atomic_open(folder / name / f"{splits[0]}-{number:05d}-of-{len(starts):05d}.parquet") as stream:
            shard.to_parquet(stream)
    _card(folder, final, name, splits[0])
    return f"{name}: {len(samples)} samples; load_dataset({str(final)!r}, {name!r}, split={splits[0]!r})"


def _row(sample: Sample, folder: str, profile: Profile) -> dict[str, Any]:
    return {
        "id": sample.id,
        "task": sample.task,
        "images": [_embedded(path) for path in sample.image],
        "mask": _embedded(sample.mask_path),
        "mask_dilated": _embedded(sample.mask_dilated_path),
        "prompt": profile.prompt(sample),
        "answer": sample.answer,
        "sample": json.dumps(_movable(sample.to_row(), folder), ensure_ascii=False),
    }


_PATHS = ("image", "depth", "query_original", "mask_path", "mask_dilated_path")


def _movable(row: dict[str, Any], folder: str) -> dict[str, Any]:
    """Return a row whose paths start at `folder`: a dataset is for other machines than this one."""
    for key in _PATHS:
        value = row.get(key)
        if isinstance(value, list):
            row[key] = [os.path.relpath(path, folder) for path in value]
        elif value is not None:
            row[key] = os.path.relpath(value, folder)
    return row


def _common_folder(samples: Sequence[Sample]) -> str:
    """Return the deepest folder that holds every file of the samples."""
    found: set[str] = set()
    for sample in samples:
        paths = [
            *sample.image,
            *(sample.depth or ()),
            sample.query_original,
            sample.mask_path,
            sample.mask_dilated_path,
        ]
        found.update(os.path.dirname(os.path.abspath(path)) for path in paths if path is not None)  # noqa: PTH100, PTH120
    return os.path.commonpath(sorted(found))


def _embedded(path: str | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from error
    refuse_turned(data, path)  # `datasets` would turn it when it is read
    return {"bytes": data, "path": Path(path).name}


_HEADER = """license: other
license_name: that-of-the-source-scenes
task_categories:
- image-text-to-text
- visual-question-answering
language:
- en
tags:
- spatial-reasoning
- cross-view-correspondence
- pointing
configs:
"""
_TERMS = """x3 spatial tasks: questions about two views of a room, answered by a point or by `NOT_VISIBLE`.

## Licence

The pictures and masks are those of the source scenes and stay under their licence: name it in the header (`license`)
before you share this dataset. Task texts and answers: Apache-2.0.

## Tasks

| `task` | Images | Answer |
| --- | --- | --- |
| `t1_multi` | A with the object tinted red, and B | the object's point in B, or `NOT_VISIBLE` |
| `t1_concat` | A and B side by side | the same, in fractions of the whole image |
| `t2a_multi` | A tinted, and B without the object | `NOT_VISIBLE` |
| `t2b_multi` | a view, and the same with an object removed | the point where it was removed |

Points are fractions of width (to the right) and height (downwards). `sample` holds the whole row as JSON; its paths
start at the folder of the source files.

## Splits and leakage

A room is in one split only: the builder refuses a scene, a second scan of its room, or one picture in both. Whether a
model's own training data hold these rooms is for you to check.

## Share it

`hf upload USER/NAME . --repo-type dataset`, in this folder, after the licence is named (`hf` comes with
`huggingface_hub` 0.34 or later; before, it is `huggingface-cli upload`, with the same words).
"""


def _card(folder: Path, final: Path, name: str, split: str) -> None:
    """Add a set to the dataset card, whose header tells `load_dataset` what there is."""
    card = folder / "README.md"
    entry = f"- config_name: {name}\n  data_files:\n  - split: {split}\n    path: {name}/{split}-*.parquet\n"
    header = card.read_text(encoding="utf-8").split("---\n")[1] if card.exists() else _HEADER
    files.write_bytes(card, f"---\n{header}{entry}---\n# {final.name}\n\n{_TERMS}".encode())
