"""The x3 tree on disk: which scenes, objects and views there are, and what is wrong with them.

Layout: `{root}/{split}/{scene}/uid_{uid}/{kk}_{frame}_{kind}.png` with split `train`, `val` or `validation`,
any number of views `kk` (01, 02, ...), and kind `original`, `inpainted`, `mask`, `mask_dialated` or
`mask_dilated`. The suffix may also be .jpg or .jpeg, in any case of letters.
Only names are read here.
"""

from __future__ import annotations

import collections
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SPLIT_FOLDERS = {"train": "train", "val": "val", "validation": "val"}
"""Folder name to split."""

KINDS = ("original", "inpainted", "mask", "mask_dilated")
_NAME = re.compile(r"(\d+)_(.+)_(original|inpainted|mask|mask_dialated|mask_dilated)\.(?i:png|jpg|jpeg)")
_OTHER_FORMAT = re.compile(r"(\d+)_(.+)_(original|inpainted|mask|mask_dialated|mask_dilated)\.\w+")
_SCANNET_SCAN = re.compile(r"(scene\d{4})_\d{2}")

REASONS: dict[str, str] = {
    "ambiguous_view": "two files claim to be the same picture of a view",
    "no_original": "a view has no original image",
    "no_mask": "a view has no mask file",
    "no_dilated_mask": "a view has no dilated mask file, and the answers come from dilated masks",
    "no_inpainted": "a view has no inpainted image (Task 2B)",
    "unreadable": "a file cannot be read or decoded",
    "other_format": "a file has a view's name and is neither PNG nor JPEG",
    "lossy_mask": "a mask is JPEG inside, whatever its name: its edges are blurred, and blur counts as object",
    "rotated": "a mask lies as the picture's pixels did before the EXIF tag of the picture turns them",
    "size_mismatch": "mask, original and inpainted image differ in size",
    "mask_disagreement": "of the raw and the dilated mask one is empty and the other is not",
    "no_change": "the inpainted image is the original, although the mask is not empty (Task 2B)",
    "no_views": "an object has no usable view",
    "single_view": "an object has only one usable view, so no pair (Task 1, 2A)",
    "no_anchor_view": "an object lacks the anchor view (Task 1, 2A)",
    "anchor_not_visible": "the reference view does not show the object: nothing to mark (Task 1, 2A)",
}
"""Reason codes of what a build leaves out."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Something left out: where (path below the data root), a key of `REASONS`, and details."""

    where: str
    reason: str
    detail: str

    def __post_init__(self) -> None:
        assert self.reason in REASONS, self.reason


@dataclass(frozen=True, slots=True)
class ViewFiles:
    """The files of one view; paths are None where a kind is missing."""

    number: int
    frame: str
    original: Path
    inpainted: Path | None
    mask: Path | None
    mask_dilated: Path | None

    @property
    def label(self) -> str:
        """The view's number as the layout writes it, such as "01"."""
        return f"{self.number:02d}"

    @property
    def name(self) -> str:
        """Number and frame, such as "01_008710": unique within an object."""
        return f"{self.label}_{self.frame}"


@dataclass(frozen=True, slots=True)
class UidFolder:
    """One object of a scene with its views, in order of their numbers."""

    split: str
    scene: str
    uid: str
    folder: Path
    where: str
    views: tuple[ViewFiles, ...]
    skipped: tuple[Skip, ...] = ()


def scan(root: Path) -> list[UidFolder]:
    """Return the objects of a tree, ordered by split, scene and uid.

    Raises
    ------
    ValueError
        There is no such tree, it holds no objects, `val` and `validation` are both there, or a scene is in
        the training and in the validation split.
    """
    root = Path(os.path.abspath(root))  # noqa: PTH100  (resolve() would replace the user's links by their targets)
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder; --data-root is the folder that holds train/ and validation/")
    present = [name for name in SPLIT_FOLDERS if (root / name).is_dir()]
    if not present:
        raise ValueError(f"{root}: expected split folders {', '.join(SPLIT_FOLDERS)}; found {_listing(root)}")
    if {"val", "validation"} <= set(present):
        raise ValueError(f"{root}: holds both val/ and validation/, which are the same split; move one away")
    uids = [uid for name in present for uid in _scan_split(root, name)]
    if not uids:
        raise ValueError(f"{root}: no folder {{scene}}/uid_{{uid}} below {', '.join(present)}")
    check_leakage((uid.split, uid.scene) for uid in uids)
    names = collections.Counter(f"{uid.scene}_uid{uid.uid}" for uid in uids)
    if len(names) < len(uids):
        name = names.most_common(1)[0][0]
        raise ValueError(f"two objects would have samples named {name!r} (scene, _uid, uid): rename a folder")
    return uids


def check_leakage(scenes: Iterable[tuple[str, str]]) -> None:
    """Raise ValueError when a scene, or a second ScanNet scan of its room, is in both splits.

    ScanNet names scans `scene0123_01`: room 0123, scan 01. Two scans of a room show the same objects.
    """
    places: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for split, scene in scenes:
        scan_name = _SCANNET_SCAN.fullmatch(scene)
        places[scan_name.group(1) if scan_name else scene][split].add(scene)
    leaks = [
        f"{', '.join(sorted(by_split['train']))} (train) and {', '.join(sorted(by_split['val']))} (val)"
        for by_split in places.values()
        if len(by_split) > 1
    ]
    if leaks:
        shown = "; ".join(sorted(leaks)[:5]) + (f"; and {len(leaks) - 5} more" if len(leaks) > 5 else "")
        raise ValueError(
            f"{len(leaks)} room(s) are in the training and in the validation split: {shown}. Scores on rooms "
            "seen in training mean nothing; keep every room in one split"
        )


def _scan_split(root: Path, name: str) -> list[UidFolder]:
    found = []
    for scene in _folders(root / name):
        for folder in _folders(scene):
            if folder.name.startswith("uid_"):
                where = folder.relative_to(root).as_posix()
                views, skipped = _views(folder, where)
                uid = folder.name.removeprefix("uid_")
                found.append(UidFolder(SPLIT_FOLDERS[name], scene.name, uid, folder, where, views, skipped))
    return found


def _views(folder: Path, where: str) -> tuple[tuple[ViewFiles, ...], tuple[Skip, ...]]:
    """Return the views of one object's folder, and those that cannot be used."""
    by_view: dict[int, dict[str, list[tuple[str, Path]]]] = defaultdict(lambda: defaultdict(list))
    views: list[ViewFiles] = []
    skipped: list[Skip] = []
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        match = _NAME.fullmatch(name)
        if match:
            kind = match.group(3).replace("dialated", "dilated")
            by_view[int(match.group(1))][kind].append((match.group(2), folder / name))
        elif _OTHER_FORMAT.fullmatch(name):
            skipped.append(Skip(f"{where}/{name}", "other_format", "save it as PNG (pictures may be JPEG)"))
    for number, files in sorted(by_view.items()):
        here = f"{where}/{number:02d}"
        doubles = [path.name for paths in files.values() if len(paths) > 1 for _, path in paths]
        frames = sorted({frame for paths in files.values() for frame, _ in paths})
        if doubles or len(frames) > 1:
            detail = f"files {', '.join(doubles)}" if doubles else f"frames {', '.join(frames)}"
            skipped.append(Skip(here, "ambiguous_view", f"{detail}: keep one of each kind, all of one frame"))
        elif "original" not in files:
            skipped.append(Skip(here, "no_original", f"expected {number:02d}_{frames[0]}_original.png"))
        else:
            paths = {kind: files[kind][0][1] if kind in files else None for kind in KINDS}
            assert paths["original"] is not None
            views.append(
                ViewFiles(
                    number,
                    frames[0],
                    paths["original"],
                    paths["inpainted"],
                    paths["mask"],
                    paths["mask_dilated"],
                )
            )
    return tuple(views), tuple(skipped)


def _folders(parent: Path) -> list[Path]:
    with os.scandir(parent) as entries:
        return sorted(parent / entry.name for entry in entries if entry.is_dir())


def _listing(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"
