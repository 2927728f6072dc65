"""By how many degrees is each camera turned against its stated pose? Told from where neighbours overlap."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.panorama.builder import PanoramaBuilder
from mapanything_opv2v.panorama.overlap import COMPARED, MIN_PIXELS, correlation
from mapanything_opv2v.panorama.rig import Rig

SEARCHED_DEG = 20.0
"""Largest turn between two cameras that is looked for."""

MIN_CORRELATION = 0.6
"""A best agreement below this tells no turn: the cameras show different things."""

MIN_CORRELATION_OF_FEW = 0.65
"""As `MIN_CORRELATION` where the stated poses leave less overlap than `overlap.MIN_PIXELS`, as that of a camera that is
turned away from its neighbour."""

RADIUS_M = 20.0
"""Distance at which cameras are compared, except for the ground, which is known better."""


def pair_turns(
    rig: Rig,
    images: Sequence[npt.NDArray[np.uint8]],
    ground_height_m: float | None = None,
    cylinder: Cylinder = COMPARED,
) -> dict[tuple[int, int], float]:
    """Return by how many degrees the first camera of each overlapping pair is turned to the right of the second.

    Each camera is projected into the panorama alone, at `RADIUS_M` and on the ground, where parallax is known; the
    second is moved sideways until brightness correlates best, to a fraction of a pixel by a parabola. Things that are
    much nearer or farther leave an error of a few degrees in one frame: take the median of several.

    Parameters
    ----------
    rig : Rig
        The cameras with their stated poses.
    images : sequence of (H, W, 3) uint8
        RGB, in the rig's order.
    ground_height_m : float, optional
        Height of the panorama's centre above the road (OPV2V's LiDAR: 1.9).
    cylinder : Cylinder
        Pixels in which to compare.

    Returns
    -------
    dict of (int, int) to float
        Degrees by pair of camera numbers; only pairs whose overlap tells it.
    """
    reach = round(SEARCHED_DEG / 360 * cylinder.width)
    alone = []
    for camera, image in zip(rig.cameras, images):
        builder = PanoramaBuilder(
            Rig((camera,)), cylinder, projection_radius_m=RADIUS_M, ground_height_m=ground_height_m
        )
        made = builder.build([image])
        gray = cv2.cvtColor(made.color, cv2.COLOR_RGB2GRAY).astype(np.float32)
        alone.append((cv2.GaussianBlur(gray, (0, 0), 0.8), made.covered))
    turns = {}
    for (i, first), (j, second) in itertools.combinations(enumerate(alone), 2):
        pixels = np.count_nonzero(first[1] & second[1])
        if pixels >= MIN_PIXELS // 3:
            least = MIN_CORRELATION if pixels >= MIN_PIXELS else MIN_CORRELATION_OF_FEW
            best = _best_shift([_at(first, second, shift) for shift in range(-reach, reach + 1)], least)
            if best is not None:
                turns[i, j] = (best - reach) * 360 / cylinder.width
    return turns


def _at(first: tuple[Any, Any], second: tuple[Any, Any], shift: int) -> float:
    """Return the agreement with the second camera moved right by so many columns, up or down by at most one row."""
    moved = ((row, shift) for row in (-1, 0, 1))
    return max(correlation(*first, *(np.roll(part, by, (0, 1)) for part in second)) for by in moved)


def _best_shift(agreement: Sequence[float], least: float = MIN_CORRELATION) -> float | None:
    """Return the position of the maximum, None where it is low or at an end."""
    k = int(np.argmax(agreement))
    if agreement[k] < least or k in (0, len(agreement) - 1):
        return None
    before, at, after = agreement[k - 1 : k + 2]
    bend = before - 2 * at + after
    return k + (0.5 * (before - after) / bend if bend < 0 else 0.0)


def camera_turns(pairs: Mapping[tuple[int, int], float]) -> dict[int, float]:
    """Return by how many degrees each camera is turned, as few cameras as possible.

    Overlaps tell differences only. In every group of cameras that overlaps connect, most are taken to be right: the
    median of the group is turned by nothing. A camera without overlaps is not there. Along a chain of overlaps the
    errors of its pairs add up, so a camera is never said to be turned by more than one of its own overlaps tells.

    Examples
    --------
    >>> camera_turns({(1, 3): 10.0, (2, 3): 0.0})
    {1: 10.0, 2: 0.0, 3: 0.0}
    >>> camera_turns({(1, 3): -10.0, (2, 3): -10.0})
    {1: 0.0, 2: 0.0, 3: 10.0}
    >>> camera_turns({(0, 1): 2.0, (1, 2): 2.0, (2, 3): 2.0})
    {0: 2.0, 1: 2.0, 2: 0.0, 3: -2.0}
    """
    most = {
        camera: max(abs(turn) for pair, turn in pairs.items() if camera in pair) for pair in pairs for camera in pair
    }
    turns: dict[int, float] = {}
    for start in sorted({camera for pair in pairs for camera in pair}):
        if start in turns:
            continue
        group, waiting = {start: 0.0}, [start]
        while waiting:
            here = waiting.pop()
            for (i, j), turn in pairs.items():
                for known, other, sign in ((i, j, -1), (j, i, 1)):
                    if known == here and other not in group:
                        group[other] = group[here] + sign * turn
                        waiting.append(other)
        middle = sorted(group.values())[(len(group) - 1) // 2] if len(group) > 2 else 0.0
        for camera, value in group.items():
            turn = _wrapped(value - middle)
            turns[camera] = math.copysign(min(abs(turn), most[camera]), turn) + 0.0
    return dict(sorted(turns.items()))


def _wrapped(degrees: float) -> float:
    return math.remainder(degrees, 360.0) + 0.0
