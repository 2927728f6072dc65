"""Two pictures compared without a language model: where a marked object went, and where two pictures differ.

Pictures are (h, w, 3) uint8 RGB; points are pixels (N, 2) float64 as (x, y), the centre of pixel (col, row) being
(col + 0.5, row + 0.5). OpenCV is imported when something is computed.
"""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roborefer_spatial.images import MARK_RGB, mark

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Matcher = Callable[[Picture, Picture, Mask], tuple[Floats, Floats]]
"""(A, B, mask of A) -> points of A inside the mask and their matches in B, both (N, 2)."""

MIN_RED = 60
"""A tinted pixel is redder than green and blue by this much: grey by 0.45 * 255 = 115, dark green still by 60."""
_SHIFT = 3
"""Colours are compared in steps of 8."""
_RECENT = 16
"""Pictures whose features are kept."""
MIN_AROUND = 6
"""So many matches in and around a mark have to agree where too few inside it do."""
_AROUND_PX = 10.0
"""They agree if they lie within this distance of where the movement puts them."""
_DIFFERENT = 12
"""Two pictures differ where a channel, averaged over 5x5 pixels, does so by more than this: noise does not."""


def find_mark(picture: Picture, alpha: float, unmarked: Picture | None = None) -> Mask:
    """Return the pixels (h, w) that look tinted as `images.mark` tints them: the largest such patches.

    Blending with opacity alpha leaves red at 255 alpha or more, green and blue at 255 (1 - alpha) or less. Something
    red that is not marked can look the same. A second picture of the scene, without a mark, tells such colours: where a
    colour is more frequent in it than among its own colours tinted, it is not the mark. Of the patches that are left,
    those count that go best with their surroundings once the tint is taken away.
    """
    import cv2

    red, green, blue = (picture[..., channel].astype(np.int16) for channel in range(3))
    other = np.maximum(green, blue)
    tinted = (red >= round(255 * alpha) - 1) & (other <= round(255 * (1 - alpha)) + 1) & (red - other >= MIN_RED)
    if unmarked is not None:
        whole = np.ones(unmarked.shape[:2], dtype=bool)
        likely = _frequencies(mark(unmarked, whole, alpha)) > _frequencies(unmarked)
        bins = picture >> _SHIFT
        score = cv2.blur(likely[bins[..., 0], bins[..., 1], bins[..., 2]].astype(np.float32), (7, 7))
        tinted &= score > 0.5
    opened = cv2.morphologyEx(tinted.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(opened if opened.any() else tinted.astype(np.uint8))
    if count < 2:
        return np.zeros(tinted.shape, dtype=bool)
    areas = stats[1:, cv2.CC_STAT_AREA]
    large = 1 + np.flatnonzero(areas >= max(areas.max() / 50, 12))
    gains = np.array([_border_gain(picture, labels == label, alpha) for label in large])
    if gains.max() <= 0:
        return np.asarray(labels == 1 + int(areas.argmax()))
    best = int(stats[large[int((gains * np.sqrt(areas[large - 1])).argmax())], cv2.CC_STAT_AREA])
    kept = large[(gains >= gains.max() / 2) & (areas[large - 1] >= best / 5)]
    return np.asarray(np.isin(labels, kept))


def _border_gain(picture: Picture, patch: Mask, alpha: float) -> float:
    """Return how much better a patch goes with what is around it once the tint is taken away (8-bit steps).

    Along its border the colours inside and outside are averaged over 9x9 pixels. A marked object goes on beside the
    mark, which is a little larger than it is, in its untinted colours; something red ends where it ends.
    """
    import cv2

    flags = patch.astype(np.uint8)
    border = patch & (cv2.erode(flags, np.ones((5, 5), np.uint8)) == 0)
    border[[0, -1]], border[:, [0, -1]] = False, False
    inner, outer = (cv2.blur(part.astype(np.float32), (9, 9)) for part in (patch, ~patch))
    at = border & (inner > 0.1) & (outer > 0.1)
    if not at.any():
        return 0.0
    values = picture.astype(np.float32)
    inside, outside = (
        cv2.blur(values * part[..., None], (9, 9))[at] / share[at][:, None]
        for part, share in ((patch, inner), (~patch, outer))
    )
    plain = np.clip((inside - alpha * np.array(MARK_RGB, np.float32)) / max(1 - alpha, 0.05), 0, 255)
    return float((np.abs(inside - outside) - np.abs(plain - outside)).sum(axis=1).mean())


def _frequencies(picture: Picture) -> NDArray[np.float32]:
    """Return how frequent each of 32^3 colours is, smoothed, so that a colour beside a frequent one counts, too."""
    bins = (picture >> _SHIFT).reshape(-1, 3).astype(np.int64)
    count = 256 >> _SHIFT
    codes = (bins[:, 0] * count + bins[:, 1]) * count + bins[:, 2]
    table: NDArray[Any] = np.bincount(codes, minlength=count**3).reshape((count,) * 3).astype(np.float32)
    for axis in range(3):
        padded = np.pad(table, [(1, 1) if a == axis else (0, 0) for a in range(3)])
        cuts = [np.take(padded, range(start, start + count), axis=axis) for start in range(3)]
        table = (cuts[0] + 2 * cuts[1] + cuts[2]) / 4
    return table


def without_mark(picture: Picture, mask: Mask, alpha: float) -> Picture:
    """Return the picture with the tint taken away inside the mask, as far as 8 bits allow."""
    if alpha >= 1:
        return picture
    plain = picture.copy()
    inside = (picture[mask].astype(np.float64) - alpha * np.array(MARK_RGB)) / (1 - alpha)
    plain[mask] = np.clip(np.rint(inside), 0, 255).astype(np.uint8)
    return plain


def sift(ratio: float = 0.8) -> Matcher:
    """Return a matcher of OpenCV's SIFT: the nearest in B, nearer than the second by `ratio`."""
    import cv2

    finder: Any = cv2.SIFT.create(contrastThreshold=0.02)
    recent: collections.OrderedDict[bytes, Any] = collections.OrderedDict()

    def features(grey: NDArray[Any], mask: Mask | None = None) -> Any:
        """Find a picture's features, or take those of one just asked about: rooms have few pictures."""
        key = hashlib.sha256(grey.tobytes() + (b"" if mask is None else mask.tobytes())).digest()
        if key not in recent:
            recent[key] = finder.detectAndCompute(grey, None if mask is None else mask.astype(np.uint8))
            if len(recent) > _RECENT:
                recent.popitem(last=False)
        recent.move_to_end(key)
        return recent[key]

    def match(a: Picture, b: Picture, mask: Mask) -> tuple[Floats, Floats]:
        grey_a, grey_b = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (a, b))
        points_a, words_a = features(grey_a, mask)
        points_b, words_b = features(grey_b)
        if words_a is None or words_b is None or len(words_b) < 2:
            return np.zeros((0, 2)), np.zeros((0, 2))
        pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(words_a, words_b, k=2)
        good = [first for first, second in pairs if first.distance < ratio * second.distance]
        return _at([points_a[m.queryIdx] for m in good]), _at([points_b[m.trainIdx] for m in good])

    return match


def _at(points: Sequence[Any]) -> Floats:
    """Return OpenCV's key points as (N, 2) pixels; to OpenCV a pixel's centre is a whole number."""
    return np.array([point.pt for point in points], dtype=np.float64).reshape(-1, 2) + 0.5


@dataclass(frozen=True, slots=True)
class Found:
    """Where an object is in B: its point (x, y) in pixels, or None, and how many matches agree on it."""

    point: tuple[float, float] | None
    agreeing: int
    matches: int


def carry(points_a: Floats, points_b: Floats, min_agree: int) -> Found:
    """Carry a marked object over to B by its matched points.

    Matches agree with one of them if they lie, in B, within the spread of the matched points of A (at twice the
    scale, as B may be nearer). The match that most others agree with has its neighbours' medoid as the answer: the
    point of B whose distances to the others are least, which is a point of the object where a mean need not be.

    Parameters
    ----------
    points_a, points_b
        (N, 2) pixels of A inside the mark, and their matches.
    min_agree
        With fewer in agreement the object is taken not to be visible.
    """
    if len(points_b) < min_agree:
        return Found(None, len(points_b), len(points_b))
    spread = np.linalg.norm(points_a - np.median(points_a, axis=0), axis=1)
    reach = 2 * max(float(np.quantile(spread, 0.9)), 4.0)
    gaps = np.linalg.norm(points_b[:, None] - points_b[None], axis=-1)
    near = gaps <= reach
    chosen = near[int(near.sum(axis=1).argmax())]
    agreeing = int(chosen.sum())
    if agreeing < min_agree:
        return Found(None, agreeing, len(points_b))
    group = points_b[chosen]
    medoid = group[int(gaps[np.ix_(chosen, chosen)].sum(axis=1).argmin())]
    return Found((float(medoid[0]), float(medoid[1])), agreeing, len(points_b))


def surroundings(mask: Mask) -> Mask:
    """Return the mask (h, w) grown by the diameter of a disc of its area.

    It is OpenCV's dilation by a disc, some thirty times faster: a row of the disc is a run of pixels, so a pixel is
    reached from a row of the mask if the nearest pixel of the mask in that row is no further than half that run.
    """
    import cv2

    reach = max(round(2 * float(np.sqrt(mask.sum() / np.pi))), 1)
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    grown = np.zeros(mask.shape, dtype=bool)
    if not len(rows):
        return grown
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2)
    first = int(rows[0])
    left, right = max(int(cols[0]) - reach, 0), int(cols[-1]) + 1 + reach
    aside = _columns_to_nearest(mask[first : rows[-1] + 1, left:right])
    for shift, half in zip(range(-reach, reach + 1), disc.sum(axis=1) // 2):
        top = first + shift
        cut = aside[max(-top, 0) : max(mask.shape[0] - top, 0)]
        grown[max(top, 0) : max(top, 0) + len(cut), left:right] |= cut <= half
    return grown


def _columns_to_nearest(mask: Mask) -> NDArray[np.int32]:
    """Return how many columns lie between each pixel and the nearest one of the mask in its row (a lot: none)."""
    at = np.arange(mask.shape[1], dtype=np.int32)
    before = np.maximum.accumulate(np.where(mask, at, np.int32(-(2**20))), axis=1)
    after = np.minimum.accumulate(np.where(mask, at, np.int32(2**20))[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(np.minimum(at - before, after - at))


def carry_with_surroundings(
    points_a: Floats, points_b: Floats, mask: Mask, query_wh: tuple[int, int]
) -> tuple[float, float] | None:
    """Return where the middle of a mask is carried by matches in and around it, or None.

    Matches that agree on one shift, turn and scale say where the mask's middle is, with `MIN_AROUND` of them or more:
    what is around an object can be seen where the object is hidden, so it takes more to believe it. A middle outside
    the query, or a scale beyond a third to three times, is no answer.
    """
    import cv2

    if len(points_a) < MIN_AROUND:
        return None
    cv2.setRNGSeed(0)  # the same answer in every run
    moved, agree = cv2.estimateAffinePartial2D(points_a, points_b, ransacReprojThreshold=_AROUND_PX)
    if moved is None or int(agree.sum()) < MIN_AROUND:
        return None
    rows, cols = np.nonzero(mask)
    x, y = moved @ (np.median(cols) + 0.5, np.median(rows) + 0.5, 1.0)
    scale = float(np.sqrt(abs(np.linalg.det(moved[:, :2]))))
    inside = 0 <= x < query_wh[0] and 0 <= y < query_wh[1]
    return (float(x), float(y)) if inside and 1 / 3 < scale < 3 else None


def difference(before: Picture, after: Picture) -> tuple[float, float] | None:
    """Return the pixel (x, y) in the middle of where two pictures of equal size differ most, or None.

    Of the patches that differ, the one with the largest sum of differences counts; its point is the pixel of it
    nearest to its centre of gravity.

    Raises
    ------
    ValueError
        The pictures differ in size.
    """
    import cv2

    if before.shape != after.shape:
        raise ValueError(f"the pictures are {before.shape[1::-1]} and {after.shape[1::-1]}: expected equal sizes")
    gap = np.abs(before.astype(np.int16) - after.astype(np.int16)).max(axis=2).astype(np.float32)
    gap = cv2.blur(gap, (5, 5))
    count, labels = cv2.connectedComponents((gap > _DIFFERENT).astype(np.uint8))
    if count < 2:
        return None
    weight = np.bincount(labels.ravel(), weights=gap.ravel(), minlength=count)
    rows, cols = np.nonzero(labels == 1 + int(weight[1:].argmax()))
    parts = gap[rows, cols]
    at = np.average(rows, weights=parts), np.average(cols, weights=parts)
    best = int(((rows - at[0]) ** 2 + (cols - at[1]) ** 2).argmin())
    return float(cols[best]) + 0.5, float(rows[best]) + 0.5
