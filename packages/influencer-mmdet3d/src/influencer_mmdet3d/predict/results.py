"""What `predict` writes of a cloud, and the one function that reads it again.

Shape letters: ``N`` points, ``K`` instances, ``P`` points of an instance.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from influencer_mmdet3d.data.clouds import GREY, Cloud
from influencer_mmdet3d.data.scratch import MEMORY, Scratch
from influencer_mmdet3d.files import whole_file, write_whole
from influencer_mmdet3d.predict.stitch import Piece
from influencer_mmdet3d.predict.tiles import Rows, row_type

NONE = -1
"""Instance or class of a point that has none."""
_PART = 1 << 18
"""Points of the .ply that are made at a time."""


@dataclass(frozen=True)
class Predictions:
    """Instances of a cloud, best score first.

    Attributes
    ----------
    count : int
        N, the points of the cloud.
    indices : ndarray of integers
        Points of instance k are ``indices[starts[k] : starts[k + 1]]``.
    starts : ndarray of int64, shape (K + 1,)
    labels : ndarray of int64, shape (K,)
        Index into `class_names`.
    scores : ndarray of float32, shape (K,)
    class_names : tuple of str
        Classes of instances.
    semantic : ndarray of integers, shape (N,)
        Class of each point by the model's semantic head, index into `semantic_names`; -1 where it has none.
    semantic_names : tuple of str
        Classes of points.
    scratch : Scratch
        Makes arrays of N entries.
    """

    count: int
    indices: Rows
    starts: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    class_names: tuple[str, ...]
    semantic: Rows
    semantic_names: tuple[str, ...]
    scratch: Scratch = field(default=MEMORY, repr=False, compare=False)

    def __len__(self) -> int:
        """Return the number of instances."""
        return len(self.labels)

    def points_of(self, number: int) -> Rows:
        """Return the points (P,) of an instance."""
        return self.indices[self.starts[number] : self.starts[number + 1]]

    def parts_of(self, number: int) -> Iterator[Rows]:
        """Yield the points of an instance, some at a time."""
        rows = self.points_of(number)
        for part in self.scratch.parts(len(rows)):
            yield rows[part]

    @property
    def masks(self) -> npt.NDArray[np.bool_]:
        """Masks (K, N): one byte for each instance and point."""
        masks = np.zeros((len(self), self.count), bool)
        for number in range(len(self)):
            masks[number, self.points_of(number)] = True
        return masks

    def instance_of_points(self, least: float = 0.0) -> npt.NDArray[np.int32]:
        """Return the best instance (N,) of each point among those with a score of `least` or more; -1 for none."""
        instance = self.scratch.full(self.count, NONE, np.int32)
        for number in reversed(range(len(self))):  # the better one comes later and stays
            if self.scores[number] >= least:
                for rows in self.parts_of(number):
                    instance[rows] = number
        return instance


def collect(
    pieces: list[Piece],
    count: int,
    class_names: Sequence[str],
    semantic: Rows,
    semantic_names: Sequence[str],
    scratch: Scratch = MEMORY,
) -> Predictions:
    """Return the pieces, best first, as predictions of a cloud of `count` points.

    The list is emptied on the way: the points of all instances are most of what is held, and are not held twice, if
    `scratch` holds arrays in memory.
    """
    pieces.sort(key=lambda piece: (-piece.score, piece.ends[0]))
    labels = np.array([piece.label for piece in pieces], np.int64)
    scores = np.array([piece.score for piece in pieces], np.float32)
    starts = np.cumsum([0, *(len(piece.rows) for piece in pieces)]).astype(np.int64)
    indices = scratch.empty(int(starts[-1]), row_type(count))
    while pieces:
        piece = pieces.pop()
        own = indices[starts[len(pieces)] : starts[len(pieces) + 1]]
        for part in scratch.parts(len(own)):
            own[part] = piece.rows[part]
    return Predictions(
        count,
        indices,
        starts,
        labels,
        scores,
        tuple(class_names),
        semantic,
        tuple(semantic_names),
        scratch,
    )


def write_predictions(path: Path, found: Predictions) -> None:
    """Write a .npz that `read_predictions` reads; whole or not at all."""
    table = {
        "count": np.array(found.count, np.int64),
        "indices": found.indices.astype(row_type(found.count), copy=False),
        "starts": found.starts,
        "labels": found.labels.astype(np.int16),
        "scores": found.scores,
        "class_names": np.array(found.class_names, dtype=np.str_),
        "semantic": found.semantic.astype(np.int16, copy=False),
        "semantic_names": np.array(found.semantic_names, dtype=np.str_),
    }
    with whole_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        _store(archive, table, found.scratch)


def _store(archive: zipfile.ZipFile, table: Mapping[str, npt.NDArray[Any]], scratch: Scratch) -> None:
    """Write arrays as `numpy.savez_compressed` does, a part at a time."""
    for name, array in table.items():
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, np.lib.format.header_data_from_array_1_0(array))
            for part in scratch.parts(array.size):
                member.write(array.reshape(-1)[part].tobytes())


def read_predictions(path: Path | str) -> Predictions:
    """Read the instances that `influencer-mmdet3d predict` wrote of a cloud.

    Parameters
    ----------
    path : Path or str
        ``OUT/<cloud>/instances.npz``.

    Returns
    -------
    Predictions
        ``.masks`` (K, N) bool, ``.labels`` (K,), ``.scores`` (K,), ``.class_names``, best score first; points in the
        order of the cloud's file.

    Raises
    ------
    ValueError
        If the file is not what `predict` writes.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} does not exist; expected the instances.npz that predict wrote")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            table = dict(arrays)
    except Exception as error:  # zipfile and numpy have many
        raise ValueError(f"{path} is no readable .npz: {type(error).__name__}: {error}") from error
    wanted = ("count", "indices", "starts", "labels", "scores", "class_names", "semantic", "semantic_names")
    missing = [name for name in wanted if name not in table]
    if missing:
        raise ValueError(f"{path} was not written by predict: it has no {', '.join(missing)}, but {sorted(table)}")
    return Predictions(
        int(table["count"]),
        table["indices"].astype(np.int64),
        table["starts"].astype(np.int64),
        table["labels"].astype(np.int64),
        table["scores"].astype(np.float32),
        tuple(map(str, table["class_names"])),
        table["semantic"].astype(np.int64),
        tuple(map(str, table["semantic_names"])),
    )


def instance_colours(count: int) -> npt.NDArray[np.uint8]:
    """Return `count` colours (K, 3) of instances; neighbours in number differ clearly."""
    hue = (0.13 + 0.381966 * np.arange(count)) % 1.0
    saturation, value = 0.55 + 0.35 * (np.arange(count) % 2), 0.95 - 0.2 * (np.arange(count) // 2 % 2)
    k = (np.array([5.0, 3.0, 1.0]) + hue[:, None] * 6) % 6
    part = np.clip(np.minimum(k, 4 - k), 0, 1)
    return np.rint(255 * value[:, None] * (1 - saturation[:, None] * part)).astype(np.uint8).reshape(-1, 3)


def write_coloured(path: Path, cloud: Cloud, found: Predictions, least: float) -> None:
    """Write a binary .ply in the cloud's own coordinates: colours, instance, class and score of each point.

    Instances with a score below `least` are left out; points in none have instance and class -1 and are grey.
    """
    write_whole(path, _ply(cloud, found, found.instance_of_points(least)))


def _ply(cloud: Cloud, found: Predictions, instance: npt.NDArray[np.int32]) -> Iterator[bytes]:
    """Yield the header, then the points, a part of a large cloud at a time."""
    from plyfile import PlyData, PlyElement

    types = _ply_types("<f4" if cloud.is_float32() else "<f8")
    names = [f"class {number}: {name}" for number, name in enumerate(found.class_names)]
    names = [name.encode("ascii", "backslashreplace").decode() for name in names]  # a .ply's header is ASCII
    empty = PlyData([PlyElement.describe(np.empty(0, types), "vertex")], comments=names, byte_order="<")
    yield f"{empty.header}\n".replace("\nelement vertex 0\n", f"\nelement vertex {found.count}\n").encode("ascii")
    colours = np.concatenate([instance_colours(len(found)), np.full((1, 3), GREY, np.uint8)])
    labels, scores = np.append(found.labels, NONE), np.append(found.scores, np.float32(0))
    for part in found.scratch.parts(found.count, _PART):
        own = instance[part]
        table = np.empty(len(own), types)
        for axis, name in enumerate("xyz"):
            table[name] = cloud.xyz[part, axis]
        for axis, name in enumerate(("red", "green", "blue")):
            table[name] = colours[own, axis]
        table["instance"], table["class"], table["score"] = own, labels[own], scores[own]
        yield table.tobytes()


def _ply_types(coordinate: str) -> list[Any]:
    colours = [(name, "u1") for name in ("red", "green", "blue")]
    return [*((name, coordinate) for name in "xyz"), *colours, ("instance", "<i4"), ("class", "<i4"), ("score", "<f4")]


def per_class(found: Predictions, least: float) -> dict[str, int]:
    """Return how many instances of each class have a score of `least` or more; classes without any are left out."""
    counts = np.bincount(found.labels[found.scores >= least], minlength=len(found.class_names))
    return {name: int(count) for name, count in zip(found.class_names, counts) if count}


def boxes(found: Predictions, xyz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the least and the greatest coordinates (K, 2, 3) of each instance."""
    corners = np.empty((len(found), 2, 3))
    corners[:, 0], corners[:, 1] = np.inf, -np.inf
    for number, (low, high) in enumerate(corners):
        for rows in found.parts_of(number):
            own = xyz[rows]
            np.minimum(low, own.min(0), out=low)
            np.maximum(high, own.max(0), out=high)
    return corners


def listed(found: Predictions, corners: npt.NDArray[np.float64]) -> list[dict[str, Any]]:
    """Return a record of each instance: class, score, points, and its box in the cloud's own coordinates."""
    records = []
    for number, (low, high) in enumerate(corners):
        records.append(
            {
                "instance": number,
                "class": found.class_names[found.labels[number]],
                "score": round(float(found.scores[number]), 4),
                "points": len(found.points_of(number)),
                "low": low.round(4).tolist(),
                "high": high.round(4).tolist(),
            }
        )
    return records
