"""`roborefer-spatial import-notes`: task files of the research builder as samples of today, where they are sound.

Such a row has `id`, `image`, `query_original` and `conversations`, with absolute paths into an x3 tree. What it
does not say is found or checked in the tree: the masks of the query view, its size, split, scene, object and views.
Every row is tried against its mask: a point must lie on the object, NOT_VISIBLE must have an empty mask. The answer of
a side-by-side row stands in B's frame, while its question is about the whole image; it is taken to the whole image's
frame, with today's question. What cannot be made sound is refused with the reason.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from roborefer_spatial import files, terminal
from roborefer_spatial.answers import NOT_VISIBLE, format_points, parse
from roborefer_spatial.images import ConcatMap, pixel_of, read_rgb
from roborefer_spatial.sample import Point, Sample, turns
from roborefer_spatial.scoring.points import Bools, read_mask
from roborefer_spatial.tasks.masks import point_of_mask, sample_seed
from roborefer_spatial.tasks.prompts import CORRESPONDENCE, DIFFERENCE, correspondence_side_by_side
from roborefer_spatial.tasks.scenes import SPLIT_FOLDERS

TASKS = {"t1": "t1_multi", "t2a": "t2a_multi", "t2b": "t2b_multi"}
_VIEW = re.compile(r"(\d+)_(.+)_(original|inpainted)\.(?i:png|jpg|jpeg)")
_PAIR = re.compile(r"A(\d+)\D.*?B(\d+)|A(\d{2})\d*_B(\d{2})\d*")
_NUMBER = re.compile(r"(\d+)[_-]")


class Unsound(ValueError):
    """A row that cannot become a sample; `kind` is what such rows are counted under."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class View:
    """A view of the tree that a row names.

    Attributes
    ----------
    path
        Its picture.
    number, frame
        As its name has them, such as "01".
    split, scene, uid
        Of its folder.
    """

    path: Path
    number: str
    frame: str
    split: str
    scene: str
    uid: str

    def beside(self, *kinds: str) -> Path | None:
        """Return the first of these files of the view that is there."""
        names = (self.path.with_name(f"{self.number}_{self.frame}_{kind}.png") for kind in kinds)
        return next((path for path in names if path.is_file()), None)


def imported(row: Mapping[str, Any], *, prompts: str = "today") -> Sample:
    """Return a row of the research builder as a sample.

    Parameters
    ----------
    row
        The decoded row.
    prompts
        "today" asks as `build` does, "kept" leaves the question of a row with two images as it is.

    Raises
    ------
    Unsound
        The row cannot be made sound; the message says why.
    """
    try:
        identity, said = row["id"], row["conversations"]
        question, answer = str(said[0]["value"]).replace("<image>", "").strip(), str(said[1]["value"]).strip()
        images = [row["image"]] if isinstance(row["image"], str) else list(row["image"])
    except (KeyError, IndexError, TypeError) as error:
        raise Unsound("no such row", f"expected id, image and conversations, got {sorted(row)} ({error!r})") from error
    if "coord_frame" in row:
        raise Unsound(
            "a sample already", f"coord_frame {row['coord_frame']!r} is a field of today's `build`: use it as it is"
        )
    task = _task(str(row.get("task", "")), str(identity), images)
    query = _view(Path(row.get("query_original") or images[-1]))
    raw, dilated = query.beside("mask"), query.beside("mask_dialated", "mask_dilated")
    masks = {name: read_mask(path) for name, path in (("raw", raw), ("dilated", dilated)) if path is not None}
    if not masks:
        raise Unsound("no mask", f"{query.path}: no mask beside it, so the answer cannot be tried")
    size = (next(iter(masks.values())).shape[1], next(iter(masks.values())).shape[0])
    concat, ref, reference = None, None, None
    if task == "t1_concat":
        reference = _reference(str(identity), query)
        concat, ref = _side_by_side(Path(images[0]), reference, query, size)
        question = correspondence_side_by_side(format_points([ref], concat.size_wh))
    elif prompts == "today":
        question = DIFFERENCE if task == "t2b_multi" else CORRESPONDENCE
    point, gt_mask = _point(answer, masks, size)
    if concat and point:
        point = concat.right_to_full(*point)
    whole = concat.size_wh if concat else size
    return Sample(
        id=str(identity),
        task=task,
        image=images,
        query_original=str(query.path),
        turns=turns(question, format_points([point], whole) if point else NOT_VISIBLE),
        mask_path=None if raw is None else str(raw),
        mask_dilated_path=None if dilated is None else str(dilated),
        gt_mask=gt_mask,
        query_size=size,
        ref_point=ref,
        answer_point=point,
        coord_frame="concat" if concat else "query",
        concat=concat,
        seed=0,
        split=query.split,
        scene=query.scene,
        uid=query.uid,
        view_ref=reference.number if reference else _reference_number(str(identity), images, query),
        view_query=query.number,
    )


def _task(stated: str, identity: str, images: list[str]) -> str:
    """Return the task of today's name; a row says it, or its id does."""
    words = f"{stated} {identity}".lower()
    if "concat" in words or len(images) == 1:
        return "t1_concat"
    for start, task in TASKS.items():
        if start in words:
            return task
    raise Unsound("unknown task", f"neither task {stated!r} nor id {identity!r} names one of {', '.join(TASKS)}")


def _view(path: Path) -> View:
    found = _VIEW.fullmatch(path.name)
    uid, scene, split = path.parent, path.parent.parent, path.parent.parent.parent
    if found is None or not uid.name.startswith("uid_") or split.name not in SPLIT_FOLDERS:
        raise Unsound(
            "not in an x3 tree",
            f"{path}: expected .../SPLIT/SCENE/uid_UID/KK_FRAME_original.png, where the masks of the view are, too",
        )
    if not path.is_file():
        raise Unsound("no such picture", f"{path}: no such file; has the tree moved? (--moved FROM TO)")
    return View(path, found[1], found[2], SPLIT_FOLDERS[split.name], scene.name, uid.name.removeprefix("uid_"))


def _reference_number(identity: str, images: list[str], query: View) -> str:
    pair = _PAIR.search(identity)
    if pair:
        return (pair[1] or pair[3])[: len(query.number)]
    named = _NUMBER.match(Path(images[0]).name)
    return named[1] if named else query.number


def _reference(identity: str, query: View) -> View:
    """Return the view A of a side-by-side row, by the number in its id."""
    number = _reference_number(identity, [""], query)
    found = sorted(query.path.parent.glob(f"{number}_*_original.*"))
    if not found:
        raise Unsound("no reference", f"{query.path.parent}: id {identity!r} names no view of it as A")
    return _view(found[0])


def _side_by_side(whole: Path, a: View, b: View, b_size: tuple[int, int]) -> tuple[ConcatMap, Point]:
    """Return where A and B lie in a side-by-side picture, and A's point in its frame."""
    path = a.beside("mask_dialated", "mask_dilated", "mask")
    if path is None:
        raise Unsound("no mask", f"{a.path}: no mask beside it, so the question cannot name a point of it")
    mask = read_mask(path)
    frame = ConcatMap((mask.shape[1], mask.shape[0]), b_size)
    try:
        height, width = read_rgb(whole).shape[:2]
    except ValueError as error:
        raise Unsound("no such picture", str(error)) from error
    if (width, height) != frame.size_wh:
        raise Unsound(
            "resized side by side",
            f"{whole} is {width}x{height}, A and B side by side are {frame.size_wh[0]}x{frame.size_wh[1]}: one was "
            "resized, and no point of it can be trusted",
        )
    pixel = point_of_mask(mask, sample_seed(0, a.scene, a.uid, a.number))
    if pixel is None:
        raise Unsound("reference not marked", f"{path} is empty: A shows no mark, so nothing was asked for")
    return frame, frame.left_to_full((pixel[0] + 0.5) / mask.shape[1], (pixel[1] + 0.5) / mask.shape[0])


def _point(answer: str, masks: dict[str, Bools], size: tuple[int, int]) -> tuple[Point | None, str]:
    """Return the answer's point in B's frame, and the mask that it is on (dilated, or else raw)."""
    said = parse(answer)
    empty = not any(np.any(mask) for mask in masks.values())
    order = [name for name in ("dilated", "raw") if name in masks]
    if said.not_visible:
        if not empty:
            raise Unsound(
                "visible after all", f"the answer is NOT_VISIBLE, and a mask of the view has pixels: {answer!r}"
            )
        return None, order[0]
    if len(said.points) != 1:
        raise Unsound(
            "no single point", f"the answer is neither one point nor {NOT_VISIBLE}: {answer!r} ({said.reason})"
        )
    pixel = pixel_of(*said.points[0], size)
    for name in order:
        if pixel is not None and masks[name][pixel[1], pixel[0]]:
            return said.points[0], name
    raise Unsound("misses its mask", f"the true point {answer!r} is not on the object's mask")


def moved(row: Mapping[str, Any], start: str, to: str) -> dict[str, Any]:
    """Return a row whose paths begin with `to` where they began with `start`."""

    def path(value: Any) -> Any:
        if isinstance(value, list):
            return [path(one) for one in value]
        return to + value[len(start) :] if isinstance(value, str) and value.startswith(start) else value

    return {key: path(value) if key in ("image", "query_original") else value for key, value in row.items()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `roborefer-spatial import-notes`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "example:\n  roborefer-spatial import-notes old/t1_val_multi.json --out tasks_old/t1_val_multi.json\n\n"
        "Rows that cannot be made sound are left out, counted by reason, and listed whole in OUT.refused.jsonl. Exit\n"
        "status: 0 if every row was taken over, 1 if some were refused."
    )
    add = parser.add_argument
    add("old", type=Path, metavar="OLD", help="task file of the research builder, JSON or JSONL")
    add("--out", type=Path, required=True, help="sample file to write, .json or .jsonl")
    add("--moved", nargs=2, metavar=("FROM", "TO"), help="paths that begin with FROM begin with TO now")
    add(
        "--prompts",
        choices=("today", "kept"),
        default="today",
        help="questions of two images as `build` asks them today (default), or as the file has them",
    )
    add("--json", action="store_true", help="print what was found as JSON")


def run(args: argparse.Namespace) -> int:
    """Run `roborefer-spatial import-notes`."""
    rows = _rows(args.old)
    samples: dict[str, Sample] = {}
    refused: list[dict[str, Any]] = []
    for where, row in rows:
        try:
            if not isinstance(row, dict):
                raise Unsound("no such row", f"expected an object, got {type(row).__name__}")
            sample = imported(moved(row, *args.moved) if args.moved else row, prompts=args.prompts)
            if sample.id in samples:
                raise Unsound("id twice", f"id {sample.id!r} occurs twice")
            samples[sample.id] = sample
        except Unsound as error:
            refused.append({"where": where, "reason": error.kind, "detail": str(error), "row": row})
        except ValueError as error:  # a mask that cannot be read
            refused.append({"where": where, "reason": "unreadable", "detail": str(error), "row": row})
    _write(args.out, list(samples.values()), refused)
    counts = dict(Counter(item["reason"] for item in refused).most_common())
    if args.json:
        print(json.dumps({"rows": len(rows), "samples": len(samples), "refused": counts}, indent=2))
    else:
        print(
            f"{args.old}: {len(samples)} of {len(rows)} rows are samples now" + (f", in {args.out}" if samples else "")
        )
        for reason, count in counts.items():
            first = next(item for item in refused if item["reason"] == reason)
            print(f"refused: {count} x {reason}; first: {first['where']}: {first['detail']}")
    return terminal.FAILED if refused else terminal.DONE


def _rows(path: Path) -> list[tuple[str, Any]]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.suffix == ".jsonl":
        lines = enumerate(path.read_bytes().split(b"\n"), 1)
        found = [
            (f"line {number}", files.decode_json(line, f"{path}, line {number}")) for number, line in lines if line
        ]
    else:
        rows = files.read_json(path)
        if not isinstance(rows, list):
            raise ValueError(f"{path}: expected a JSON list of rows, got {type(rows).__name__}")
        found = [(f"row {index}", row) for index, row in enumerate(rows)]
    if not found:
        raise ValueError(f"{path}: holds no rows")
    return found


def _write(out: Path, samples: list[Sample], refused: list[dict[str, Any]]) -> None:
    if samples and out.suffix == ".jsonl":
        text = "".join(json.dumps(sample.to_row(), ensure_ascii=False) + "\n" for sample in samples)
        files.write_bytes(out, text.encode())
    elif samples:
        files.write_json(out, [sample.to_row(image_as_list=False) for sample in samples])
    listing = out.with_name(out.name + ".refused.jsonl")
    if refused:
        files.write_bytes(listing, "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in refused).encode())
    else:
        listing.unlink(missing_ok=True)
