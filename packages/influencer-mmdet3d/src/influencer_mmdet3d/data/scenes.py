"""Rules on one entry of an infos file and on the raw files that it names."""

from __future__ import annotations

import os
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from influencer_mmdet3d.data.formats import Format, SceneReport
from influencer_mmdet3d.data.labels import check_labels, check_points, check_resolution, check_superpoints
from influencer_mmdet3d.data.plain_pickle import PickledArray
from influencer_mmdet3d.files import foreign_content

POINT_BYTES, MASK_BYTES = 24, 8  # six float32, one int64

_POINT_TYPES = {48: "float64", 12: "x y z without colour", 16: "four columns", 28: "seven columns", 36: "nine columns"}
_MASK_TYPES = {4: "int32", 2: "int16", 1: "int8"}


def check_scene(root: Path, kind: Format, entry: Any, where: str) -> SceneReport:
    """Check one entry of an infos file and the files it names.

    Parameters
    ----------
    root : Path
        Folder of the dataset.
    kind : Format
        Folders, keys and labels to expect.
    entry : object
        The entry as read from the infos file, of any type.
    where : str
        How to call the entry while it has no usable file name.

    Returns
    -------
    SceneReport
    """
    report = SceneReport(where)
    if not isinstance(entry, dict):
        report.error("info-entry", where, f"is of type {type(entry).__name__}, expected a dict")
        return report
    paths = _paths(root, kind, entry, report)
    _check_entry(kind, entry, report)
    try:
        if len(paths) == len(kind.folders) and _check_sizes(paths, report):
            _check_arrays(kind, paths, report)
    except OSError as error:
        report.error("unreadable", report.name, f"cannot be read: {error.strerror} ({error.filename})")
    return report


def _check_arrays(kind: Format, paths: dict[str, Path], report: SceneReport) -> None:
    points = np.fromfile(paths["points"], "<f4").reshape(-1, 6)
    semantic = np.fromfile(paths["semantic_mask"], "<i8")
    instance = np.fromfile(paths["instance_mask"], "<i8")
    report.points = len(points)
    check_points(points, report)
    check_resolution(kind, points, instance, report)
    check_labels(kind, semantic, instance, report)
    if "super_points" in paths:
        check_superpoints(kind, np.fromfile(paths["super_points"], "<i8"), semantic, instance, report)


def _paths(root: Path, kind: Format, entry: dict[Any, Any], report: SceneReport) -> dict[str, Path]:
    """Return folder -> existing file for the entry's paths, and name the report after its points file."""
    paths = {}
    for key, folder in kind.folders.items():
        value: Any = entry
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if not isinstance(value, str) or not value:
            report.error("info-key", report.name, f"has no {key}: the host stops with a KeyError")
            continue
        pure = PurePosixPath(value)
        if pure.is_absolute() or ".." in pure.parts or "\0" in value:
            report.error("info-path", report.name, f"{key} is {value!r}; expected a file name inside {folder}/")
            continue
        if folder == "points":
            report.name = pure.stem
        path = root / folder / value
        if os.path.isfile(path):  # noqa: PTH113  (Path.is_file raises for a name that is too long)
            paths[folder] = path
        else:
            hint = f"; {value} does: store the bare file name" if os.path.isfile(root / value) else ""  # noqa: PTH113
            report.error("missing-file", report.name, f"{folder}/{value} does not exist{hint}")
    return paths


def _check_entry(kind: Format, entry: dict[Any, Any], report: SceneReport) -> None:
    """Check the keys that are not paths."""
    lidar = entry.get("lidar_points")
    features = lidar.get("num_pts_feats") if isinstance(lidar, dict) else None
    if features is None and kind.name == "s3dis":
        report.error("info-key", report.name, "has no lidar_points.num_pts_feats: the host stops with a KeyError")
    elif features not in (None, 6):
        message = f"lidar_points.num_pts_feats is {features!r}, expected 6: x y z r g b"
        report.error("info-features", report.name, message)
    if kind.name == "s3dis":
        _check_boxes(kind, entry.get("instances"), report)


def _check_boxes(kind: Format, boxes: Any, report: SceneReport) -> None:
    """Check the boxes, which this host does not train on but by which it drops scenes."""
    accepted = range(-1, len(kind.classes))  # values of bbox_label_3d that the host's S3DIS dataset can look up
    if not isinstance(boxes, list):
        report.error("info-key", report.name, "has no list 'instances': the host stops with a KeyError")
        return
    if not boxes:
        report.error(
            "no-boxes",
            report.name,
            "lists no box in 'instances': in training the host drops the scene silently, and stops after 1,000 "
            "tries when every scene is like that. Give each object {'bbox_3d': [x, y, z, dx, dy, dz], "
            "'bbox_label_3d': 0}, or set filter_empty_gt=False in the config's training dataset",
        )
    for number, box in enumerate(boxes):
        label, corners = (box.get(key) if isinstance(box, dict) else None for key in ("bbox_label_3d", "bbox_3d"))
        if not isinstance(label, int) or label not in accepted:
            message = f"instances[{number}].bbox_label_3d is {label!r}, expected a whole number -1 to {accepted[-1]}"
            report.error("box-label", report.name, message)
            return
        values = corners.values.tolist() if isinstance(corners, PickledArray) else corners
        if not isinstance(values, list | tuple) or len(values) != 6 or not _numbers(values):
            report.error("box-shape", report.name, f"instances[{number}].bbox_3d is not six finite numbers")
            return


def _numbers(values: list[Any] | tuple[Any, ...]) -> bool:
    return all(isinstance(value, int | float) and abs(value) <= sys.float_info.max for value in values)


def _check_sizes(paths: dict[str, Path], report: SceneReport) -> bool:
    """Check that all files have the same number of rows of the right type; say what a wrong one looks like."""
    sizes = {folder: path.stat().st_size for folder, path in paths.items()}
    empty = [f"{folder}/{paths[folder].name}" for folder, size in sizes.items() if size == 0]
    if empty:
        report.error("empty-file", report.name, f"{', '.join(empty)} is empty; a scene needs points")
        return False
    foreign = {folder: found for folder, path in paths.items() if (found := foreign_content(path))}
    for folder, found in foreign.items():
        report.error("not-data", report.name, f"{folder}/{paths[folder].name} is {found}")
    if foreign:
        return False
    count = _likely_count(paths, sizes)
    fine = True
    for folder, size in sizes.items():
        row, types = (POINT_BYTES, _POINT_TYPES) if folder == "points" else (MASK_BYTES, _MASK_TYPES)
        if size == count * row:
            continue
        fine = False
        looks = types.get(size // count) if count and size % count == 0 else None
        what = "float32 rows x y z r g b" if folder == "points" else "int64 values"
        report.error(
            "file-size",
            report.name,
            f"{folder}/{paths[folder].name} has {size} bytes{f', which looks like {looks}' if looks else ''}; "
            f"expected {count * row}: {count} {what}, as many as the other files have",
        )
    return fine


def _likely_count(paths: dict[str, Path], sizes: dict[str, int]) -> int:
    """Return the number of points that explains all files of a scene best, by their sizes and by what they hold."""
    rows = {
        folder: [POINT_BYTES, *_POINT_TYPES] if folder == "points" else [MASK_BYTES, *_MASK_TYPES] for folder in sizes
    }
    guesses = {size // row for folder, size in sizes.items() for row in rows[folder] if size % row == 0}

    def score(count: int) -> int:
        total = 0
        for folder, size in sizes.items():
            row = size // count if count and size % count == 0 else 0
            if row in rows[folder]:
                total += 10 if row == rows[folder][0] else 3
                total += 8 if _plausible(paths[folder], folder, row) else -8
        return total

    return max(sorted(guesses), key=score)  # a mask of any size could be int8, so there is a guess


def _plausible(path: Path, folder: str, row: int) -> bool:
    """Tell whether the beginning of a file, read in rows of `row` bytes, looks like points or like labels."""
    if folder != "points":
        values = np.fromfile(path, f"<i{row}", count=4096)
        return bool((np.abs(values.astype(np.float64)) < 2**31).all()) and (row > 4 or bool((values >= -1).all()))
    if row == 48:
        table = np.fromfile(path, "<f8", count=6 * 4096).reshape(-1, 6)
    else:
        table = np.fromfile(path, "<f4", count=row // 4 * 4096).reshape(-1, row // 4)
    # numbers read in the wrong width are huge, or nearly zero
    size = np.abs(table[np.isfinite(table)])
    return bool((size < 1e8).all() and (size[size > 0] > 1e-12).all()) if len(size) else True
