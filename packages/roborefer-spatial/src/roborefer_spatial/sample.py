"""The sample of a spatial task: one row of the JSON and JSONL files, checked when it is read.

Coordinates are fractions of width and height (x right, y down) of the image that `coord_frame` names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roborefer_spatial.answers import NOT_VISIBLE
from roborefer_spatial.files import decode_json
from roborefer_spatial.images import ConcatMap

TASKS: dict[str, tuple[int, str]] = {
    "t1_multi": (2, "query"),
    "t1_concat": (1, "concat"),
    "t2a_multi": (2, "query"),
    "t2b_multi": (2, "query"),
}
"""Task name to (number of images, coordinate frame of its answers)."""

SPLITS = ("train", "val")

Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One question about one or two images, with its answer.

    Attributes
    ----------
    id
        Unique within a build.
    task
        A key of `TASKS`.
    image
        Paths of the images in the order of the prompt: [A marked, B], [A and B side by side] or
        [original, inpainted].
    query_original
        Path of the query image: B, or the inpainted view of Task 2B.
    conversations
        [{"from": "human", "value": prompt}, {"from": "gpt", "value": answer}]; no `<image>` tokens.
    mask_path, mask_dilated_path
        The object's mask in the frame of `query_original`, as given and dilated; None where there is none.
    gt_mask
        Which of the two the answer was drawn from: "raw" or "dilated".
    query_size
        (width, height) of `query_original` in pixels.
    ref_point
        A point of the object in the reference image: in A's own frame for "query", in the whole image's frame
        for "concat"; None for Task 2B, which has no reference.
    answer_point
        The true point in `coord_frame`; None when the answer is NOT_VISIBLE.
    coord_frame
        "query": fractions of `query_original`; "concat": fractions of the whole side-by-side image.
    concat
        Where A and B lie in the side-by-side image; None unless `coord_frame` is "concat".
    seed
        The number (below 2**63) that decided the answer's random draw; from the build's seed and stable keys.
    split, scene, uid, view_ref, view_query
        Where the sample comes from: "train" or "val", folder names, and view numbers such as "01".
    depth
        Depth images, one for each entry of `image`, or None.
    """

    id: str
    task: str
    image: list[str]
    query_original: str
    conversations: list[dict[str, str]]
    mask_path: str | None
    mask_dilated_path: str | None
    gt_mask: str
    query_size: tuple[int, int]
    ref_point: Point | None
    answer_point: Point | None
    coord_frame: str
    concat: ConcatMap | None
    seed: int
    split: str
    scene: str
    uid: str
    view_ref: str
    view_query: str
    depth: list[str] | None = None

    @property
    def prompt(self) -> str:
        """The question, without `<image>` tokens."""
        return self.conversations[0]["value"]

    @property
    def answer(self) -> str:
        """The true answer's text."""
        return self.conversations[1]["value"]

    @property
    def visible(self) -> bool:
        """Whether the object can be seen in the query image."""
        return self.answer_point is not None

    @property
    def answer_size(self) -> tuple[int, int]:
        """(width, height) in pixels of the image in whose frame the answer is given."""
        return self.concat.size_wh if self.concat else self.query_size

    def to_row(self, *, image_as_list: bool = True) -> dict[str, Any]:
        """Return the JSON row. Without `image_as_list` a single image is a string."""
        row: dict[str, Any] = {
            "id": self.id,
            "task": self.task,
            "image": self.image if image_as_list or len(self.image) > 1 else self.image[0],
            "query_original": self.query_original,
            "conversations": self.conversations,
            "mask_path": self.mask_path,
            "mask_dilated_path": self.mask_dilated_path,
            "gt_mask": self.gt_mask,
            "query_size": list(self.query_size),
            "ref_point": None if self.ref_point is None else list(self.ref_point),
            "answer_point": None if self.answer_point is None else list(self.answer_point),
            "coord_frame": self.coord_frame,
            "concat": self.concat.to_json() if self.concat else None,
            "seed": self.seed,
            "split": self.split,
            "scene": self.scene,
            "uid": self.uid,
            "view_ref": self.view_ref,
            "view_query": self.view_query,
        }
        if self.depth is not None:
            row["depth"] = self.depth
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any], *, where: str = "row", folder: Path | None = None) -> Sample:
        """Check a JSON row and return its sample; fields that are not ours are left out.

        Parameters
        ----------
        row
            A decoded JSON object.
        where
            Named in errors, such as "t1_val_multi.json, row 3".
        folder
            Relative paths are resolved against it; None leaves them as they are.

        Raises
        ------
        ValueError
            A field is missing, has the wrong type, or contradicts another one.
        """
        return _Reader(row, where, folder).sample()


class _Reader:
    """Reads one row; every error names the file, the row and the field."""

    def __init__(self, row: Mapping[str, Any], where: str, folder: Path | None) -> None:
        if not isinstance(row, Mapping):
            raise ValueError(f"{where}: expected an object with the fields of a sample, got {_show(row)}")
        self.row, self.where = row, where
        self.folder = None if folder is None else os.fspath(folder)

    def fail(self, key: str, expected: str) -> ValueError:
        return ValueError(f"{self.where}: field {key!r}: expected {expected}, got {_show(self.row.get(key))}")

    def text(self, key: str, allowed: tuple[str, ...] | None = None) -> str:
        if key not in self.row:
            raise ValueError(
                f"{self.where}: field {key!r} is missing; samples are made by `roborefer-spatial build`. "
                "Files of an earlier builder lack fields that scoring needs: build them again"
            )
        value = self.row[key]
        if not isinstance(value, str) or not value:
            raise self.fail(key, "a non-empty string")
        if allowed is not None and value not in allowed:
            raise self.fail(key, f"one of {', '.join(allowed)}")
        return value

    def resolved(self, path: str) -> str:
        if self.folder is None or path.startswith(os.sep):
            return path
        return os.path.join(self.folder, path)  # noqa: PTH118  (Path is many times slower, and rows are many)

    def path(self, key: str) -> str | None:
        return None if self.row.get(key) is None else self.resolved(self.text(key))

    def paths(self, key: str, count: int) -> list[str]:
        value = self.row.get(key)
        value = [value] if isinstance(value, str) else value
        if not (isinstance(value, list) and len(value) == count and all(isinstance(v, str) and v for v in value)):
            raise self.fail(key, f"{count} path(s) for task {self.row.get('task')!r}")
        return [self.resolved(v) for v in value]

    def point(self, key: str) -> Point | None:
        value = self.row.get(key)
        if value is None:
            return None
        numbers = isinstance(value, list) and len(value) == 2 and all(type(v) in (int, float) for v in value)
        if not (numbers and 0 <= value[0] < 1 and 0 <= value[1] < 1):
            raise self.fail(key, "null or [x, y] with 0 <= x, y < 1")
        return (float(value[0]), float(value[1]))

    def size(self, key: str) -> tuple[int, int]:
        value = self.row.get(key)
        if not (isinstance(value, list) and len(value) == 2 and all(type(v) is int and v > 0 for v in value)):
            raise self.fail(key, "[width, height] in pixels")
        return (value[0], value[1])

    def integer(self, key: str) -> int:
        value = self.row.get(key)
        if type(value) is not int or not 0 <= value < 2**63:
            raise self.fail(key, "an integer, 0 <= seed < 2**63")
        return value

    def conversations(self) -> list[dict[str, str]]:
        value = self.row.get("conversations")
        if isinstance(value, list) and len(value) == 2 and all(type(turn) is dict for turn in value):
            (asked, question), (told, answer) = ((turn.get("from"), turn.get("value")) for turn in value)
            texts = isinstance(question, str) and isinstance(answer, str) and question and answer
            if texts and asked == "human" and told == "gpt":
                return [{"from": asked, "value": question}, {"from": told, "value": answer}]
        raise self.fail("conversations", "one human turn and one gpt turn, each with from and value")

    def concat(self, frame: str) -> ConcatMap | None:
        value = self.row.get("concat")
        if (value is not None) != (frame == "concat"):
            raise self.fail("concat", f"{'an object' if frame == 'concat' else 'null'} for coord_frame {frame!r}")
        return None if value is None else ConcatMap.from_json(value, where=f"{self.where}: field 'concat'")

    def sample(self) -> Sample:
        task = self.text("task", tuple(TASKS))
        count, frame = TASKS[task]
        self.text("coord_frame", (frame,))
        conversations, answer_point = self.conversations(), self.point("answer_point")
        if (conversations[1]["value"] == NOT_VISIBLE) != (answer_point is None):
            raise self.fail("answer_point", f"null exactly when the answer is {NOT_VISIBLE}")
        return Sample(
            id=self.text("id"),
            task=task,
            image=self.paths("image", count),
            query_original=self.resolved(self.text("query_original")),
            conversations=conversations,
            mask_path=self.path("mask_path"),
            mask_dilated_path=self.path("mask_dilated_path"),
            gt_mask=self.text("gt_mask", ("raw", "dilated")),
            query_size=self.size("query_size"),
            ref_point=self.point("ref_point"),
            answer_point=answer_point,
            coord_frame=frame,
            concat=self.concat(frame),
            seed=self.integer("seed"),
            split=self.text("split", SPLITS),
            scene=self.text("scene"),
            uid=self.text("uid"),
            view_ref=self.text("view_ref"),
            view_query=self.text("view_query"),
            depth=None if self.row.get("depth") is None else self.paths("depth", count),
        )


def load_samples(path: Path, *, image_folder: Path | None = None) -> list[Sample]:
    """Read a JSON (list of rows) or JSONL (one row a line) file of samples.

    Parameters
    ----------
    path
        The file; the suffix `.jsonl` means one row a line.
    image_folder
        Where relative paths start; by default the folder of `path`. Absolute paths stay as they are.

    Raises
    ------
    ValueError
        The file is missing, is not JSON, has no rows, repeats an id, or holds a row that is not a sample.
    """
    path = Path(path)
    folder = path.resolve().parent if image_folder is None else Path(image_folder)
    samples: dict[str, Sample] = {}
    for where, row in _rows(path):
        sample = Sample.from_row(row, where=where, folder=folder)
        if sample.id in samples:
            raise ValueError(f"{where}: id {sample.id!r} occurs twice; every sample needs its own")
        samples[sample.id] = sample
    if not samples:
        raise ValueError(f"{path}: holds no samples")
    return list(samples.values())


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield (where, decoded row) of a JSON or JSONL file."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; make it with `roborefer-spatial build`")
    if path.suffix == ".jsonl":
        with path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    where = f"{path.name}, line {number}"
                    yield where, decode_json(line, where)
        return
    rows = decode_json(path.read_bytes(), path)
    if not isinstance(rows, list):
        raise ValueError(f"{path}: expected a JSON list of samples, got {_show(rows)}; JSONL files end in .jsonl")
    for index, row in enumerate(rows):
        yield f"{path.name}, row {index}", row


def _show(value: Any) -> str:
    """Return a value's repr, cut to what fits in an error message."""
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
