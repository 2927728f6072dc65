"""The samples of one object: pairs of its views become images, prompts and answers."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from roborefer_spatial.answers import NOT_VISIBLE, format_points
from roborefer_spatial.images import ConcatMap
from roborefer_spatial.sample import Point, Sample, turns
from roborefer_spatial.tasks.derived import CONCAT_FORMATS, NAMES, DerivedImages
from roborefer_spatial.tasks.object_views import Unusable, View, read_views
from roborefer_spatial.tasks.prompts import CORRESPONDENCE, DIFFERENCE, correspondence_side_by_side
from roborefer_spatial.tasks.scenes import Skip, UidFolder
from roborefer_spatial.tasks.view_pairs import MODES, limit_pairs, ordered_pairs, thin_negatives

FAMILIES = ("t1", "t2a", "t2b")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What decides the samples of an object; `build --help` explains each.

    `neg_ratio` and `max_pairs_per_uid` are None for "all"; `concat_format` is None when no side-by-side image
    is made. `out_dir` is absolute.
    """

    out_dir: Path
    mode: str = "anchor"
    anchor_k: int = 1
    alpha: float = 0.45
    use_dilated_mask: bool = True
    concat_format: str | None = "png"
    seed: int = 42
    max_pairs_per_uid: int | None = None
    neg_ratio: float | None = None
    relative_paths: bool = False
    families: tuple[str, ...] = FAMILIES
    names: str = "today"

    def __post_init__(self) -> None:
        """Raise ValueError for a value that no build can act on."""
        if not self.out_dir.is_absolute():
            raise ValueError(f"out_dir is {self.out_dir}: expected an absolute path")
        if self.mode not in MODES:
            raise ValueError(f"mode is {self.mode!r}: expected one of {', '.join(MODES)}")
        if self.anchor_k < 0:
            raise ValueError(f"anchor_k is {self.anchor_k}: expected a view number, such as 1 for 01_*")
        if not 0 < self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha}: expected 0 < alpha <= 1 (0 would leave the object unmarked)")
        if self.concat_format not in (None, *CONCAT_FORMATS):
            raise ValueError(f"concat_format is {self.concat_format!r}: expected {' or '.join(CONCAT_FORMATS)}")
        if self.names not in NAMES:
            raise ValueError(f"names is {self.names!r}: expected {' or '.join(NAMES)}")
        if self.max_pairs_per_uid is not None and self.max_pairs_per_uid < 1:
            raise ValueError(f"max_pairs_per_uid is {self.max_pairs_per_uid}: expected at least 1")
        if self.neg_ratio is not None and not (self.neg_ratio >= 0 and math.isfinite(self.neg_ratio)):
            raise ValueError(f"neg_ratio is {self.neg_ratio}: expected a number of at least 0")
        if not self.families or not set(self.families) <= set(FAMILIES):
            raise ValueError(f"tasks are {list(self.families)}: expected some of {', '.join(FAMILIES)}")


@dataclass(slots=True)
class UidResult:
    """What one object gave.

    Attributes
    ----------
    uid
        Where it came from.
    rows
        (set name, visible, JSON line, JSONL line), in order.
    skipped
        What was left out.
    digests
        File name to SHA-256, for every input read.
    originals
        SHA-256 of each usable view's picture: the same picture in both splits is leakage.
    images
        Path of every image that the rows use and the build made, and whether it was written now.
    """

    uid: UidFolder
    rows: list[tuple[str, bool, str, str]]
    skipped: list[Skip]
    digests: dict[str, str] = field(default_factory=dict)
    originals: list[str] = field(default_factory=list)
    images: dict[Path, bool] = field(default_factory=dict)


def build_uid(uid: UidFolder, options: BuildOptions) -> UidResult:
    """Build the samples of one object and write its images."""
    views, skipped = read_views(
        uid,
        use_dilated_mask=options.use_dilated_mask,
        want_inpainted="t2b" in options.families,
        seed=options.seed,
    )
    while True:
        maker = _Maker(uid, {view.files.number: view for view in views}, options)
        try:
            rows = [_row(sample) for sample in maker.samples()]
            break
        except Unusable as error:  # a picture whose checksums are right but that does not decode
            assert error.files is not None
            skipped.append(Skip(f"{uid.where}/{error.files.label}", error.reason, str(error)))
            views = [view for view in views if view.files is not error.files]
    if not views:
        skipped.append(Skip(uid.where, "no_views", "no view has an original image and a mask that can be used"))
    result = UidResult(uid, rows, skipped + maker.skipped, images=maker.derived.made)
    for view in views:
        result.digests |= view.digests
        result.originals.append(view.digest)
    return result


def _row(sample: Sample) -> tuple[str, bool, str, str]:
    """Return a sample's set, whether its object is visible, and its rows for JSON and JSONL.

    A single image is a string in JSON; in JSONL `image` is always a list, because Hugging Face
    `datasets` cannot mix the two.
    """
    family, kind = sample.task.split("_")
    line = json.dumps(sample.to_row(), ensure_ascii=False, allow_nan=False)
    short = line
    if len(sample.image) == 1:
        short = json.dumps(sample.to_row(image_as_list=False), ensure_ascii=False, allow_nan=False)
    return f"{family}_{sample.split}_{kind}", sample.visible, short, line


class _Maker:
    """Makes the samples of one object from its views, by number."""

    def __init__(self, uid: UidFolder, views: dict[int, View], options: BuildOptions) -> None:
        self.uid, self.views, self.options = uid, views, options
        self.skipped: list[Skip] = []
        folder = Path(uid.split) / uid.scene / f"uid_{uid.uid}"
        self.derived = DerivedImages(options.out_dir, folder, options.alpha, options.names)

    def samples(self) -> Iterator[Sample]:
        families = self.options.families
        if ("t1" in families or "t2a" in families) and self.views:
            yield from self.correspondences()
        if "t2b" in families:
            for view in self.views.values():
                if view.inpainted is not None:
                    yield self.difference(view)

    def correspondences(self) -> Iterator[Sample]:
        """Yield Task 1 (multi, concat) and Task 2A."""
        options, keys = self.options, (self.uid.scene, self.uid.uid)
        pairs = ordered_pairs(list(self.views), self.references())
        pairs = limit_pairs(pairs, options.max_pairs_per_uid, options.seed, *keys)
        visible = [self.views[b].pixel is not None for _, b in pairs]
        if "t1" in options.families:
            for a, b in thin_negatives(pairs, visible, options.neg_ratio, options.seed, *keys):
                yield self.pair("t1_multi", self.views[a], self.views[b])
                if options.concat_format:
                    yield self.side_by_side(self.views[a], self.views[b], options.concat_format)
        if "t2a" in options.families:
            for (a, b), seen in zip(pairs, visible):
                if not seen:
                    yield self.pair("t2a_multi", self.views[a], self.views[b])

    def references(self) -> list[int]:
        """Return the views that can be marked, and note those that were meant to be but cannot."""
        labels = ", ".join(view.files.label for view in self.views.values())
        if len(self.views) < 2:
            self.skip("single_view", f"view {labels} alone")
            return []
        wanted = list(self.views) if self.options.mode == "allpairs" else [self.options.anchor_k]
        if not set(wanted) <= set(self.views):
            self.skip("no_anchor_view", f"anchor_k is {self.options.anchor_k}; usable views: {labels}")
            return []
        for number in wanted:
            if self.views[number].pixel is None:
                self.skip("anchor_not_visible", f"the mask of view {self.views[number].files.label} is empty")
        return [number for number in wanted if self.views[number].pixel is not None]

    def skip(self, reason: str, detail: str) -> None:
        self.skipped.append(Skip(self.uid.where, reason, detail))

    def pair(self, task: str, a: View, b: View) -> Sample:
        """Make [A marked, B]."""
        images = [self.path(self.derived.marked(a)), self.picture(b, b.files.original)]
        return self.sample(task, a, b, images, CORRESPONDENCE, b.point, ref_point=a.point)

    def side_by_side(self, a: View, b: View, suffix: str) -> Sample:
        """Make one image, A marked left and B right, with points in its own frame."""
        frame = ConcatMap(a.size_wh, b.size_wh)
        assert a.point is not None
        ref = frame.left_to_full(*a.point)
        answer = None if b.point is None else frame.right_to_full(*b.point)
        prompt = correspondence_side_by_side(format_points([ref], frame.size_wh))
        images = [self.path(self.derived.side_by_side(a, b, suffix))]
        return self.sample("t1_concat", a, b, images, prompt, answer, ref_point=ref, frame=frame)

    def difference(self, view: View) -> Sample:
        """Make [original, inpainted] of one view."""
        assert view.inpainted is not None
        images = [self.picture(view, view.files.original), self.picture(view, view.inpainted)]
        return self.sample("t2b_multi", view, view, images, DIFFERENCE, view.point, query=view.inpainted)

    def sample(
        self,
        task: str,
        a: View,
        b: View,
        images: list[str],
        prompt: str,
        answer: Point | None,
        *,
        ref_point: Point | None = None,
        frame: ConcatMap | None = None,
        query: Path | None = None,
    ) -> Sample:
        text = NOT_VISIBLE if answer is None else format_points([answer], frame.size_wh if frame else b.size_wh)
        tag_a, tag_b = (f"{view.files.label}{view.files.frame}" for view in (a, b))
        views = f"K{tag_b}" if task == "t2b_multi" else f"A{tag_a}_B{tag_b}"
        masks = (b.files.mask, b.files.mask_dilated)
        mask_path, mask_dilated_path = (None if mask is None else self.picture(b, mask) for mask in masks)
        return Sample(
            id=f"{task.upper()}_{self.uid.scene}_uid{self.uid.uid}_{views}",
            task=task,
            image=images,
            query_original=self.picture(b, query or b.files.original),
            turns=turns(prompt, text),
            mask_path=mask_path,
            mask_dilated_path=mask_dilated_path,
            gt_mask="dilated" if self.options.use_dilated_mask else "raw",
            query_size=b.size_wh,
            ref_point=ref_point,
            answer_point=answer,
            coord_frame="concat" if frame else "query",
            concat=frame,
            seed=b.seed,
            split=self.uid.split,
            scene=self.uid.scene,
            uid=self.uid.uid,
            view_ref=a.files.label,
            view_query=b.files.label,
        )

    def picture(self, view: View, path: Path) -> str:
        """Return the path of one of a view's own files as the rows have it, of its upright copy if it is turned."""
        return self.path(self.derived.upright(view, path))

    def path(self, path: Path) -> str:
        """Return a path as the rows have it."""
        return os.path.relpath(path, self.options.out_dir) if self.options.relative_paths else str(path)
