"""Regions of a recording without instances: patches of one surface, carried from frame to frame by depth and pose.

They are for Task 1 and 2A: where is this patch in the other picture? Nothing says what a patch is, so nothing can be
removed for Task 2B.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roborefer_spatial.importing.recording import (
    Floats,
    Frame,
    Mask,
    Recording,
    back_project,
    evenly,
    project,
    read_color,
    read_depth,
    to_camera,
    to_world,
    tolerance,
)

RADIUS = 0.06
"""Radius of a patch as a share of the picture's width: about 1.5 % of a 4:3 picture's area."""
APART_M = 0.25
"""Patches are at least so far from each other."""
_POINTS = 400


@dataclass(frozen=True)
class Patch:
    """A region of one frame.

    Attributes
    ----------
    anchor
        Index of its frame.
    mask
        (h, w) on the depth grid of that frame.
    depth
        (h, w) metres of that frame, 0 where not known.
    points
        (P, 3) of it in the world frame.
    """

    anchor: int
    mask: Mask
    depth: Floats
    points: Floats


def find_patches(recording: Recording, most: int) -> list[Patch]:
    """Return up to `most` patches, from frames that are spread over the recording.

    A patch is a disc around a place with structure, cut where the depth jumps. Its frame knows the depth of
    nearly all of it.
    """
    found: list[Patch] = []
    indices = evenly(range(len(recording.frames)), max(most, 1))
    candidates = [_candidates(recording.frames[index], recording) for index in indices]
    for rank in range(max(map(len, candidates), default=0)):
        for index, places in zip(indices, candidates):
            if len(found) == most:
                return found
            if rank < len(places):
                patch = _grow(index, read_depth(recording.frames[index], recording), places[rank], recording)
                if patch is not None and all(_gap(patch, other) >= APART_M for other in found):
                    found.append(patch)
    return found


def _gap(one: Patch, other: Patch) -> float:
    return float(np.linalg.norm(one.points.mean(axis=0) - other.points.mean(axis=0)))


def _candidates(frame: Frame, recording: Recording) -> list[tuple[int, int]]:
    """Return (col, row) of places with structure on the depth grid, most of it first, apart from each other."""
    import cv2

    depth = read_depth(frame, recording)
    height, width = depth.shape
    grey = cv2.cvtColor(read_color(frame), cv2.COLOR_RGB2GRAY)
    # the colour picture on the depth grid: pixels of both share a ray through the same camera
    k, kd = recording.k_color, recording.k_depth
    ratio = np.array([[k[0, 0] / kd[0, 0], 0, k[0, 2] - kd[0, 2] * k[0, 0] / kd[0, 0]],
                      [0, k[1, 1] / kd[1, 1], k[1, 2] - kd[1, 2] * k[1, 1] / kd[1, 1]]])  # fmt: skip
    grey = cv2.warpAffine(grey, ratio, (width, height), flags=cv2.INTER_AREA | cv2.WARP_INVERSE_MAP)
    radius = round(RADIUS * width)
    structure = cv2.cornerMinEigenVal(grey, 7)
    structure = cv2.blur(np.minimum(structure, float(np.quantile(structure, 0.95))), (2 * radius + 1,) * 2)
    known = cv2.blur((depth > 0).astype(np.float32), (2 * radius + 1,) * 2)
    structure[known < 0.95] = 0
    edge = radius + 4
    structure[:edge], structure[-edge:], structure[:, :edge], structure[:, -edge:] = 0, 0, 0, 0
    places = []
    least = 0.25 * float(structure.max())
    while structure.max() > max(least, 0.0):
        row, col = np.unravel_index(int(structure.argmax()), structure.shape)
        places.append((int(col), int(row)))
        cv2.circle(structure, (int(col), int(row)), 3 * radius, 0.0, -1)
    return places


def _grow(anchor: int, depth: Floats, place: tuple[int, int], recording: Recording) -> Patch | None:
    """Return the surface around a place within the disc, or None if most of the disc is other surfaces."""
    import cv2

    height, width = depth.shape
    radius = round(RADIUS * width)
    disc = np.zeros((height, width), np.uint8)
    cv2.circle(disc, place, radius, 1, -1)
    jump = np.zeros((height, width), bool)
    for axis in (0, 1):
        step = np.abs(np.diff(depth, axis=axis, append=np.take(depth, [-1], axis=axis)))
        jump |= step > 0.5 * tolerance(depth)
    smooth = (disc > 0) & (depth > 0) & ~jump
    smooth_u8 = cv2.morphologyEx(smooth.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, parts, stats, _ = cv2.connectedComponentsWithStats(smooth_u8)
    if len(stats) < 2:
        return None
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    mask = parts == largest
    if mask.sum() < 0.5 * disc.sum():
        return None
    xyz = to_world(back_project(depth, recording.k_depth)[mask], recording.frames[anchor].pose)
    return Patch(anchor, mask, depth, xyz[:: max(len(xyz) // _POINTS, 1)])


def carried(patch: Patch, world: Floats, known: Mask, recording: Recording) -> Mask:
    """Return the pixels (h, w) of a frame that lie on a patch.

    Parameters
    ----------
    patch
        Of another frame, or of this one.
    world
        (h, w, 3) world points of the frame's pixels.
    known
        (h, w) where they are known.
    recording
        Of both.
    """
    import cv2

    height, width = known.shape
    mask = np.zeros((height, width), bool)
    reach = np.linalg.norm(patch.points - patch.points.mean(axis=0), axis=1).max() + 0.1
    near = known & (np.abs(world - patch.points.mean(axis=0)).max(axis=-1) <= reach)
    camera = to_camera(world[near], recording.frames[patch.anchor].pose)
    pixel, inside = project(camera, recording.k_depth, (width, height))
    col, row = pixel[:, 0], pixel[:, 1]
    z = camera[:, 2]
    mask[near] = inside & patch.mask[row, col] & (np.abs(patch.depth[row, col] - z) <= tolerance(z))
    whole: NDArray[Any] = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    return np.asarray(whole > 0)
