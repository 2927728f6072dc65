"""The sample of a spatial task: one row of the JSON and JSONL files, checked when it is read.

Coordinates are fractions of width and height (x right, y down) of the image that `coord_frame` names.
A row's types are checked while it is decoded; only a row that does not pass is looked at field by field, to
say what is wrong with it.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_type_hints

import msgspec
from msgspec import Meta

from roborefer_spatial.answers import NOT_VISIBLE
from roborefer_spatial.files import brief, decode_json, read_rows
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

_Text = Annotated[str, Meta(min_length=1)]
_Side = Annotated[int, Meta(gt=0)]
_Coordinate = Annotated[float, Meta(ge=0, lt=1)]
_Pair = tuple[_Coordinate, _Coordinate]
if TYPE_CHECKING:
    _Paths: TypeAlias = list[str]
    _Map: TypeAlias = ConcatMap
    _Task: TypeAlias = str
    _Mask: TypeAlias = str
    _Frame: TypeAlias = str
    _Split: TypeAlias = str
else:  # as files have them; `_finished` makes the types above of them
    _Paths = _Text | Annotated[list[_Text], Meta(min_length=1)]
    _Map = Any
    _Task = Literal["t1_multi", "t1_concat", "t2a_multi", "t2b_multi"]
    _Mask = Literal["raw", "dilated"]
    _Frame = Literal["query", "concat"]
    _Split = Literal["train", "val"]


class Asked(msgspec.Struct, gc=False):
    """What a person says."""

    value: _Text
    speaker: Literal["human"] = msgspec.field(name="from")


class Told(msgspec.Struct, gc=False):
    """What a model says."""

    value: _Text
    speaker: Literal["gpt"] = msgspec.field(name="from")


def turns(question: str, answer: str) -> tuple[Asked, Told]:
    """Return the turns of a conversation."""
    return Asked(question, "human"), Told(answer, "gpt")


class Sample(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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
    turns
        The prompt and the answer, without `<image>` tokens; "conversations" in files.
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

    id: _Text
    task: _Task
    image: _Paths
    query_original: _Text
    turns: tuple[Asked, Told] = msgspec.field(name="conversations")
    mask_path: _Text | None = None
    mask_dilated_path: _Text | None = None
    gt_mask: _Mask
    query_size: tuple[_Side, _Side]
    ref_point: _Pair | None = None
    answer_point: _Pair | None = None
    coord_frame: _Frame
    concat: _Map | None = None
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    split: _Split
    scene: _Text
    uid: _Text
    view_ref: _Text
    view_query: _Text
    depth: _Paths | None = None

    @property
    def prompt(self) -> str:
        """The question, without `<image>` tokens."""
        return self.turns[0].value

    @property
    def answer(self) -> str:
        """The true answer's text."""
        return self.turns[1].value

    @property
    def conversations(self) -> list[dict[str, str]]:
        """[{"from": "human", "value": prompt}, {"from": "gpt", "value": answer}]."""
        return [{"from": turn.speaker, "value": turn.value} for turn in self.turns]

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
        return _checked(row, where, _Resolved(folder))


_TYPES: dict[str, Any] = get_type_hints(Sample, include_extras=True)
_TYPES["conversations"] = _TYPES.pop("turns")
_TEXT, _POINT = "a non-empty string", "null or [x, y] with 0 <= x, y < 1"
_EXPECTED = {
    "task": f"one of {', '.join(TASKS)}",
    "coord_frame": "the frame of the task",
    "conversations": "one human turn and one gpt turn, each with from and value",
    "answer_point": _POINT,
    "id": _TEXT,
    "image": "the task's images",
    "query_original": _TEXT,
    "mask_path": _TEXT,
    "mask_dilated_path": _TEXT,
    "gt_mask": "one of raw, dilated",
    "query_size": "[width, height] in pixels",
    "ref_point": _POINT,
    "seed": "an integer, 0 <= seed < 2**63",
    "split": f"one of {', '.join(SPLITS)}",
    "scene": _TEXT,
    "uid": _TEXT,
    "view_ref": _TEXT,
    "view_query": _TEXT,
    "depth": "one path for each image",
}
"""Field -> what is expected of it, in the order in which faults are looked for."""
_TEXTS = frozenset(
    {"task", "coord_frame", "id", "query_original", "gt_mask", "split", "scene", "uid", "view_ref", "view_query"}
)
_decoder = msgspec.json.Decoder(Sample)


class _Resolved(dict[str, str]):
    """Path -> the same path from a folder on; each is joined once, however many rows name it.

    `questions`, `sizes` and `scenes` keep one copy of what many rows have alike: less memory, and equal ones are
    found fast. `question` is the last row's.
    """

    def __init__(self, folder: Path | None) -> None:
        self.questions: dict[str, str] = {}
        self.question = ""
        self.sizes: dict[tuple[int, int], tuple[int, int]] = {}
        self.scenes: dict[str, str] = {}
        self.folder = None if folder is None else os.fspath(folder)

    def __missing__(self, path: str) -> str:
        joined = path if self.folder is None else os.path.join(self.folder, path)  # noqa: PTH118  (Path is slower)
        self[path] = joined
        return joined


_set = msgspec.structs.force_setattr
_ID = operator.attrgetter("id")


def _finished(sample: Sample, paths: _Resolved, where: str) -> tuple[str, str] | None:
    """Finish a sample whose types were right when it was read; return (field, expected) where fields contradict."""
    count, frame = TASKS[sample.task]
    asked, told = sample.turns
    if sample.coord_frame != frame:
        return "coord_frame", f"one of {frame}"
    if (told.value == NOT_VISIBLE) != (sample.answer_point is None):
        return "answer_point", f"null exactly when the answer is {NOT_VISIBLE}"
    if asked.value != paths.question:
        paths.question = paths.questions.setdefault(asked.value, asked.value)
    asked.value = paths.question
    if type(sample.image) is not list:
        _set(sample, "image", [sample.image])
    if len(sample.image) != count:
        return "image", f"{count} path(s) for task {sample.task!r}"
    if (sample.concat is not None) != (frame == "concat"):
        return "concat", f"{'an object' if frame == 'concat' else 'null'} for coord_frame {frame!r}"
    if sample.concat is not None:
        stated: Any = sample.concat
        _set(sample, "concat", ConcatMap.from_json(stated, where=f"{where}: field 'concat'"))
    if sample.depth is not None:
        _set(sample, "depth", [sample.depth] if isinstance(sample.depth, str) else sample.depth)
        if len(sample.depth) != count:
            return "depth", f"{count} path(s) for task {sample.task!r}"
        sample.depth[:] = map(paths.__getitem__, sample.depth)
    sample.image[:] = map(paths.__getitem__, sample.image)
    _set(sample, "query_size", paths.sizes.setdefault(sample.query_size, sample.query_size))
    _set(sample, "scene", paths.scenes.setdefault(sample.scene, sample.scene))
    _set(sample, "query_original", paths[sample.query_original])
    if sample.mask_path is not None:
        _set(sample, "mask_path", paths[sample.mask_path])
    if sample.mask_dilated_path is not None:
        _set(sample, "mask_dilated_path", paths[sample.mask_dilated_path])
    return None


def _checked(row: Any, where: str, paths: _Resolved) -> Sample:
    """Return the sample of a decoded row; ValueError names the file, the row and the field."""
    if not isinstance(row, Mapping):
        raise ValueError(f"{where}: expected an object with the fields of a sample, got {brief(row)}")
    try:
        sample = msgspec.convert(row, Sample)
        fault = _finished(sample, paths, where)
    except (msgspec.ValidationError, UnicodeEncodeError):
        fault = _fault(row, where)
    if fault is None:
        return sample
    raise ValueError(f"{where}: field {fault[0]!r}: expected {fault[1]}, got {brief(row.get(fault[0]))}")


def _fault(row: Mapping[str, Any], where: str) -> tuple[str, str]:
    """Return the first field whose type is wrong, and what is expected of it."""
    for key, expected in _EXPECTED.items():
        value = row.get(key)
        if key in _TEXTS and key not in row:
            raise ValueError(
                f"{where}: field {key!r} is missing; samples are made by `roborefer-spatial build`. "
                "Files of an earlier builder lack fields that scoring needs: build them again, or try `import-notes`"
            )
        try:
            msgspec.convert(value, _TYPES[key])
        except UnicodeEncodeError:
            return key, "text that UTF-8 can hold, without half a surrogate pair"
        except msgspec.ValidationError:
            if key in _TEXTS and (not isinstance(value, str) or not value):
                return key, _TEXT
            count, frame = TASKS.get(str(row["task"]), (0, ""))
            exact = {
                "coord_frame": f"one of {frame}",
                "image": f"{count} path(s) for task {row['task']!r}",
                "depth": f"{count} path(s) for task {row['task']!r}",
            }
            return key, exact.get(key, expected)
    raise AssertionError(f"{where}: no field is at fault in {brief(row)}")


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
    if not path.is_file():
        raise ValueError(f"{path}: no such file; make it with `roborefer-spatial build`")
    paths = _Resolved(path.resolve().parent if image_folder is None else Path(image_folder))
    word = "line" if path.suffix == ".jsonl" else "row"
    samples: list[Sample] = []
    for part in read_rows(path, _decoder, "samples"):
        if _all_good(part.rows, paths):
            samples += part.rows  # type: ignore[arg-type]  # none is None
            continue
        for at, text in enumerate(part.texts(), part.first):
            if text.strip() or word == "row":
                where = f"{path.name}, {word} {at}"
                samples.append(_checked(decode_json(text, where), where, paths))
    if not samples:
        raise ValueError(f"{path}: holds no samples")
    if len(set(map(_ID, samples))) != len(samples):
        _refuse_repeated(path, word, samples)
    return samples


def _refuse_repeated(path: Path, word: str, samples: list[Sample]) -> None:
    """Raise ValueError that names the first row whose id an earlier one has."""
    seen: set[str] = set()
    parts = read_rows(path, _decoder, "samples")
    numbers = (at for part in parts for at, text in enumerate(part.texts(), part.first) if text.strip())
    for number, sample in zip(numbers, samples):
        if sample.id in seen:
            raise ValueError(f"{path.name}, {word} {number}: id {sample.id!r} occurs twice; every sample needs its own")
        seen.add(sample.id)


def _all_good(samples: Sequence[Sample | None], paths: _Resolved) -> bool:
    """Finish samples that were just read; say whether nothing is wrong with any of them."""
    try:
        return all(sample is not None and _finished(sample, paths, "") is None for sample in samples)
    except ValueError:  # they are looked at one by one, to say where
        return False
