"""Do a camera's image and its calibration belong together?

The YAML states no image size. CARLA's cameras have their principal point in the image's middle, so a file whose
``cx`` and ``cy`` are halves of whole numbers and whose ``fx`` and ``fy`` are equal stands for images of exactly
2 cx by 2 cy pixels. Other calibrations (of real cameras) only have to have their principal point near the middle.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from mapanything_opv2v.geometry import FloatArray
from mapanything_opv2v.rawdata.agent_yaml import CameraMeta

logger = logging.getLogger(__name__)

_NEAR_MIDDLE = 0.15
"""Share of the image's size by which a real camera's principal point may lie off the middle."""

_said: set[tuple[tuple[int, int], tuple[int, int]]] = set()


def calibrated_size(camera: CameraMeta) -> tuple[int, int] | None:
    """Return width and height of the images that a camera's intrinsics are for; None if they do not say.

    Examples
    --------
    >>> K = np.array([[335.64, 0, 399.5], [0, 335.64, 299.5], [0, 0, 1]])
    >>> calibrated_size(CameraMeta(np.zeros(6), None, K))
    (800, 600)
    """
    if camera.size_wh is not None:
        return camera.size_wh
    K = camera.intrinsic
    twice = 2 * (K[:2, 2] + 0.5)
    whole = np.rint(twice)
    if abs(K[0, 0] - K[1, 1]) > 1e-6 * K[0, 0] or np.abs(twice - whole).max() > 1e-3 or whole.min() < 2:
        return None
    return int(whole[0]), int(whole[1])


def fitted_intrinsic(camera: CameraMeta, size_wh: tuple[int, int], where: str | Path) -> FloatArray:
    """Return a camera's intrinsics for an image of this size.

    An image of the calibration's size takes them as they are. Where both sides have the same ratio to it (a data set
    that was resized as a whole), they are scaled, and that is logged once for each pair of sizes.

    Parameters
    ----------
    camera : CameraMeta
        Calibration.
    size_wh : (int, int)
        Of the image.
    where : str or Path
        The image's file, for messages.

    Raises
    ------
    ValueError
        If the image's size does not belong to the calibration; names the file and both sizes.
    """
    size, (width, height) = calibrated_size(camera), size_wh
    if size == (width, height):
        return camera.intrinsic
    if size is None:
        off = np.abs((camera.intrinsic[:2, 2] + 0.5) / (width, height) - 0.5)
        if off.max() > _NEAR_MIDDLE:
            cx, cy = camera.intrinsic[:2, 2] + 0.5
            raise ValueError(
                f"{where}: the image is {width} x {height}, but its calibration has the principal point at "
                f"({cx:.1f}, {cy:.1f}), {off.max():.0%} of its size off the middle; was it resized? Use images of the "
                "calibrated size, or scale the calibration"
            )
        return camera.intrinsic
    if width * size[1] != height * size[0]:
        raise ValueError(
            f"{where}: the image is {width} x {height}, its calibration is for {size[0]} x {size[1]} (2 cx by 2 cy), "
            "and the two are not of one shape; use the images as published, or, if the principal point is really off "
            "the middle, state `image_size: [width, height]` beside `intrinsic` in the YAML"
        )
    if (size, (width, height)) not in _said:
        _said.add((size, (width, height)))
        logger.warning(
            "%s: the image is %d x %d, its calibration is for %d x %d: intrinsics are multiplied by %g. Said once for "
            "each pair of sizes",
            where,
            width,
            height,
            *size,
            width / size[0],
        )
    return scaled_intrinsic(camera.intrinsic, width / size[0])


def scaled_intrinsic(intrinsic: FloatArray, factor: float) -> FloatArray:
    """Return the intrinsics of images resized by a factor; pixel centres at integers.

    Examples
    --------
    >>> scaled_intrinsic(np.array([[8.0, 0, 3.5], [0, 8, 2.5], [0, 0, 1]]), 0.5).tolist()
    [[4.0, 0.0, 1.5], [0.0, 4.0, 1.0], [0.0, 0.0, 1.0]]
    """
    scaled = intrinsic.copy()
    scaled[:2] *= factor
    scaled[:2, 2] = (intrinsic[:2, 2] + 0.5) * factor - 0.5
    return scaled
