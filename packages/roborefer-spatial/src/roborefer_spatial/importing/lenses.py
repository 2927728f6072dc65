"""Lenses: pictures and depth of a bent camera as a straight one (a pinhole) would have them, by OpenCV."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BENT = {"OPENCV_FISHEYE": 4, "OPENCV": 4, "PINHOLE": 0, "SIMPLE_PINHOLE": 0}
"""COLMAP's names of camera models that can be straightened, and how many numbers they have after the intrinsics."""


@dataclass(frozen=True)
class Lens:
    """A camera as it is, and the straight one that its pictures are turned into.

    Attributes
    ----------
    model
        A key of `BENT`.
    size_wh
        Of the pictures that the numbers are for.
    k, k_straight
        (3, 3) of the camera, and of the straight one; pixel centres are at half numbers.
    bend
        OpenCV's k1 to k4 (fisheye) or k1, k2, p1, p2; empty for a pinhole.
    """

    model: str
    size_wh: tuple[int, int]
    k: Floats
    k_straight: Floats
    bend: tuple[float, ...] = ()

    def straighten(self, values: NDArray[Any], *, nearest: bool = False) -> NDArray[Any]:
        """Return (h, w) or (h, w, 3) values of the straight camera; pictures of another size are of the same view.

        What the camera does not see is 0. `nearest` takes values as they are, for depth and labels.
        """
        import cv2

        size_wh = values.shape[1], values.shape[0]
        if self.model.endswith("PINHOLE") and np.array_equal(self.k, self.k_straight):
            return values
        kind = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
        return np.asarray(cv2.remap(values, *self._maps(size_wh), kind, borderMode=cv2.BORDER_CONSTANT))

    def _maps(self, size_wh: tuple[int, int]) -> tuple[NDArray[Any], NDArray[Any]]:
        return maps(self.model, scaled(self.k, self.size_wh, size_wh).tobytes(), self.bend,
                    scaled(self.k_straight, self.size_wh, size_wh).tobytes(), size_wh)  # fmt: skip


def scaled(k: Floats, from_wh: tuple[int, int], to_wh: tuple[int, int]) -> Floats:
    """Return the (3, 3) of a picture of another size."""
    return np.asarray(np.diag([to_wh[0] / from_wh[0], to_wh[1] / from_wh[1], 1.0]) @ k)


@functools.lru_cache(maxsize=4)
def maps(
    model: str, k: bytes, bend: tuple[float, ...], k_straight: bytes, size_wh: tuple[int, int]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return OpenCV's maps from the straight picture to the bent one; to OpenCV pixel centres are whole numbers."""
    import cv2

    before, after = (np.frombuffer(one).reshape(3, 3).copy() for one in (k, k_straight))
    before[:2, 2] -= 0.5
    after[:2, 2] -= 0.5
    coefficients = np.array(bend, np.float64)
    if model == "OPENCV_FISHEYE":
        found = cv2.fisheye.initUndistortRectifyMap(before, coefficients, np.eye(3), after, size_wh, cv2.CV_32FC1)
    else:
        found = cv2.initUndistortRectifyMap(before, coefficients if bend else None, None, after, size_wh, cv2.CV_32FC1)
    return found[0], found[1]


def straight_k(model: str, k: Floats, bend: tuple[float, ...], size_wh: tuple[int, int]) -> Floats:
    """Return the (3, 3) of the straight camera; of a lens that does not bend, the camera's own.

    For a fisheye it is chosen as ScanNet++'s own tools do, for OPENCV so that no pixel looks beyond the picture: with
    the camera's own (3, 3) a pincushion's corners would be black.
    """
    if model != "OPENCV_FISHEYE" and not any(bend):
        return k
    import cv2

    before = k.copy()
    before[:2, 2] -= 0.5
    if model == "OPENCV_FISHEYE":
        found = cv2.fisheye.estimateNewCameraMatrixForUndistortRectify(
            before, np.array(bend), size_wh, np.eye(3), balance=0.0
        )
    else:
        found, _ = cv2.getOptimalNewCameraMatrix(before, np.array(bend), size_wh, 0)
    half = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    return np.asarray(found + half, np.float64)
