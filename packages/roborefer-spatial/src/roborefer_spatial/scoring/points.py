"""Many points at once: which pixel of the query image each one names, and whether a mask has it.

P points of N samples. A point is given in its sample's `coord_frame` and found in the query image's pixels,
by the rules of `images.pixel_of` and `images.ConcatMap.right_pixel`. Nothing clamps.
"""

from __future__ import annotations

import itertools
import operator
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from roborefer_spatial import terminal
from roborefer_spatial.images import ConcatMap, decode, refuse_turned
from roborefer_spatial.sample import Sample
from roborefer_spatial.tasks.masks import to_mask

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MASKS_IN_MEMORY = 64


@dataclass(frozen=True, slots=True)
class Points:
    """Located points.

    Attributes
    ----------
    sample
        (P,) index of the sample.
    xy, xy_query
        (P, 2) as fractions of the answer's image, and of the query image: one array where these are the same.
    inside
        (P,) whether the point lies inside the answer's image.
    on_query
        (P,) whether it lies on the query image, not on the reference half or the padding.
    pixel
        (P, 2) its (column, row) in the query image; (0, 0) where it is not on it.
    """

    sample: Ints
    xy: Floats
    xy_query: Floats
    inside: Bools
    on_query: Bools
    pixel: Ints


Key = TypeVar("Key", bound=Hashable)
Frames = dict[tuple[ConcatMap | None, tuple[int, int]], int]


def numbered(keys: Iterable[Key]) -> tuple[dict[Key, int], Ints]:
    """Return the different keys, numbered in the order in which they come, and (N,) the number of each."""
    numbers: dict[Key, int] = defaultdict(itertools.count().__next__)  # a new key takes the next number
    codes = np.fromiter(map(numbers.__getitem__, keys), np.int64)
    return dict(numbers), codes


def frames_of(samples: Sequence[Sample]) -> tuple[Frames, Ints]:
    """Return the different frames of N samples with their numbers, and (N,) the number of each sample's."""
    return numbered(map(operator.attrgetter("concat", "query_size"), samples))


def locate(frames: Frames, frame_of_point: Ints, sample: Ints, xy: Floats) -> Points:
    """Find the points' pixels, one group of points with equal frames at a time.

    Parameters
    ----------
    frames
        Of `frames_of`.
    frame_of_point
        (P,) number of each point's frame.
    sample
        (P,) index of each point's sample.
    xy
        (P, 2) in the sample's `coord_frame`.
    """
    # answers may name numbers of any size: what overflows lies outside
    with np.errstate(over="ignore", invalid="ignore"):
        return _locate(frames, frame_of_point, sample, xy)


def joined(first: Points, second: Points) -> Points:
    """Return the points of both, one after the other."""
    return Points(
        *(np.concatenate([getattr(first, field.name), getattr(second, field.name)]) for field in fields(Points))
    )


def _locate(
    frames: Frames,
    frame_of_point: Ints,
    sample: Ints,
    xy: Floats,
) -> Points:
    inside = np.all((xy >= 0) & (xy < 1), axis=1)
    on_query, pixel = inside.copy(), np.zeros(xy.shape, np.int64)
    xy_query = xy.copy() if any(concat for concat, _ in frames) else xy
    for (concat, query_wh), code in frames.items():
        where = frame_of_point == code if len(frames) > 1 else slice(None)
        size = np.array(concat.size_wh if concat else query_wh)
        found = np.floor(np.where(inside[where, None], xy[where], 0) * size).astype(np.int64)
        if concat:
            found[:, 0] -= concat.left_wh[0]
            x, y = xy[where].T
            xy_query[where] = np.stack(concat.full_to_right(x, y), axis=1)
        there = inside[where] & np.all((found >= 0) & (found < query_wh), axis=1)
        on_query[where] = there
        pixel[where] = np.where(there[:, None], found, 0)
    return Points(sample, xy, xy_query, inside, on_query, pixel)


def inside_masks(
    points: Points,
    samples: Sequence[Sample],
    paths: Sequence[str | None],
    *,
    workers: int,
    progress: str | None = None,
) -> tuple[Bools, Floats]:
    """Look points up in their samples' masks; each mask file is decoded once.

    Parameters
    ----------
    points
        P located points.
    samples
        N samples.
    paths
        N mask files; a sample without one has None, and its points are not inside.
    workers
        Threads that decode.
    progress
        Name of a progress bar, or None for none.

    Returns
    -------
    inside
        (P,) whether the point's pixel is in the mask.
    coverage
        (N,) fraction of the image that the mask covers; NaN without a mask.

    Raises
    ------
    ValueError
        A mask is missing, unreadable, or of another size than its sample's query image.
    """
    inside, coverage = np.zeros(len(points.sample), dtype=bool), np.full(len(samples), np.nan)
    if not any(paths):
        return inside, coverage
    files, codes = numbered(paths)
    sizes, size_codes = numbered(map(operator.attrgetter("query_size"), samples))
    every_wh = np.array(list(sizes))
    members, points_of_file = _groups(codes, len(files)), _groups(codes[points.sample], len(files))
    if None in files:  # its place stays, without a file
        nothing = files.pop(None)
        members.pop(nothing)
        points_of_file.pop(nothing)
    decoded = _decode([path for path in files if path is not None], workers)
    bar = terminal.progress(decoded, description=progress or "", unit="mask", total=len(files), quiet=progress is None)
    for index, (path, mask) in enumerate(bar):
        other = (every_wh[size_codes[members[index]]] != mask.shape[::-1]).any(axis=1)
        if other.any():
            _refuse_size(path, mask, samples[members[index][np.argmax(other)]])
        coverage[members[index]] = np.count_nonzero(mask) / mask.size
        mine = points_of_file[index]
        col, row = points.pixel[mine].T
        inside[mine] = points.on_query[mine] & mask[row, col]
    return inside, coverage


def read_mask(path: str | Path) -> Bools:
    """Read a mask file as an (h, w) bool array; ValueError, naming the file, when it cannot be read."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: mask cannot be read: {error.strerror or error}") from error
    image = decode(data, path)
    refuse_turned(data, path)
    return to_mask(image, path)


def _groups(codes: Ints, count: int) -> list[Ints]:
    """Return, for each code 0..count-1, the indices that have it."""
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(count + 1))
    return [order[start:end] for start, end in itertools.pairwise(bounds)]


def _decode(paths: list[str], workers: int) -> Iterator[tuple[str, Bools]]:
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for start in range(0, len(paths), _MASKS_IN_MEMORY):
            chunk = paths[start : start + _MASKS_IN_MEMORY]
            yield from zip(chunk, pool.map(read_mask, chunk))


def _refuse_size(path: str, mask: Bools, sample: Sample) -> None:
    raise ValueError(
        f"{path}: the mask is {mask.shape[1]}x{mask.shape[0]} pixels and the query image of sample {sample.id} is "
        f"{sample.query_size[0]}x{sample.query_size[1]}; build the samples again"
    )
