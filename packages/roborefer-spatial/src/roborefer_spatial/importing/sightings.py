"""Which frames show an object, how much of it, and which do not show it, and why.

An object is (P, 3) points of the world. In a frame each point is out of the picture, seen, covered by something nearer,
or unclear, where no depth is known or the depth lies behind the point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from roborefer_spatial.importing.recording import (
    Floats,
    Labels,
    Mask,
    Recording,
    project,
    to_camera,
    tolerance,
)

VISIBLE, HIDDEN, OUT_OF_VIEW, UNCLEAR = "visible", "hidden", "out_of_view", "unclear"


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one frame shows of an object.

    Attributes
    ----------
    state
        "visible", "hidden" (all of it is behind something), "out_of_view", or "unclear": the frame is not used.
    share
        Part of the object's points that are seen.
    pixels, image_share
        Size of its mask in pixels of the colour picture, and as a share of the picture.
    truncated
        Whether the mask touches the picture's border.
    """

    state: str
    share: float
    pixels: int
    image_share: float
    truncated: bool


def sight(
    points: Floats, depth: Floats, labels: Labels | None, number: int, pose: Floats, recording: Recording
) -> tuple[float, str]:
    """Return the share of an object's points that a frame shows, and its state if the mask is empty.

    Parameters
    ----------
    points
        (P, 3) of the object, world frame.
    depth
        (h, w) of the frame.
    labels
        (h, w) object numbers on the depth grid, or None: then depth alone decides whether a point is seen.
    number
        The object's number.
    pose, recording
        Of the frame.
    """
    camera = to_camera(points, pose)
    size_wh = depth.shape[1], depth.shape[0]
    pixel, inside = project(camera, recording.k_depth, size_wh)
    col, row = pixel[..., 0], pixel[..., 1]
    measured, z = depth[row, col], camera[:, 2]
    known = inside & (measured > 0)
    covered = known & (measured < z - tolerance(z))
    same = known & (np.abs(measured - z) <= tolerance(z))
    if labels is None:
        seen = same
    else:  # labels are the truth; what touches the object is nearly as deep as it is
        seen = same & (labels[row, col] == number)
        covered |= same & ~seen
    share = float(seen.mean())
    in_view = int(inside.sum())
    if seen.any():
        return share, UNCLEAR
    if in_view == 0:
        return share, UNCLEAR if _near_the_border(camera, recording, size_wh) else OUT_OF_VIEW
    return share, HIDDEN if covered.sum() >= 0.95 * in_view else UNCLEAR


def _near_the_border(camera: Floats, recording: Recording, size_wh: tuple[int, int]) -> bool:
    """Whether a point misses the picture by less than 1 % of its width: poses are not that exact."""
    margin = 0.01 * size_wh[0]
    k = recording.k_depth.copy()
    k[:2, 2] += margin
    _, inside = project(camera, k, (round(size_wh[0] + 2 * margin), round(size_wh[1] + 2 * margin)))
    return bool(inside.any())


def judged(share: float, empty_state: str, mask: Mask, min_visible: float, min_size: float) -> Sighting:
    """Return the sighting of a mask (h, w) on the colour picture, by the least share and size that count."""
    pixels = int(mask.sum())
    image_share = pixels / mask.size
    border = bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())
    if pixels == 0:
        state = empty_state
    else:
        state = VISIBLE if share >= min_visible and image_share >= min_size else UNCLEAR
    return Sighting(state, share, pixels, image_share, border)


def choose(
    sightings: list[Sighting], centres: Floats, views: int, not_visible: int, first: int | None = None
) -> list[int]:
    """Return the frames of an object's views: the best first, then the others in the order of the recording.

    The best view shows the object largest. Further ones that show it are taken farthest from those taken already;
    of those that do not, hidden ones before ones out of view, nearest to the best one first: they are the hardest.

    Parameters
    ----------
    sightings
        One for each frame.
    centres
        (F, 3) camera centres in metres.
    views
        Views in all, as far as there are usable frames.
    not_visible
        How many of them are not to show the object; more where too few show it.
    first
        The best view, where it is given.
    """
    shown = [index for index, one in enumerate(sightings) if one.state == VISIBLE]
    if not shown:
        return []
    best = max(shown, key=lambda index: (sightings[index].pixels, -index)) if first is None else first
    absent = [index for index, one in enumerate(sightings) if one.state in (HIDDEN, OUT_OF_VIEW)]
    away = np.linalg.norm(centres - centres[best], axis=1)
    absent.sort(key=lambda index: (sightings[index].state != HIDDEN, away[index], index))
    wanted = max(views - 1 - min(not_visible, len(absent)), 0)
    taken, left = [best], [index for index in shown if index != best]
    while left and len(taken) <= wanted:
        gaps = np.linalg.norm(centres[left][:, None] - centres[taken][None], axis=-1).min(axis=1)
        taken.append(left.pop(int(gaps.argmax())))
    taken += absent[: views - len(taken)]
    return [best, *sorted(taken[1:])]
