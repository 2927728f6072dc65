"""A mesh of a room, seen by a camera: which triangle each pixel's centre meets first, and how far away it is."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

NEAR_M = 0.05
"""What is nearer to the camera's plane is cut off."""
_CANDIDATES = 2_000_000
_KEPT = 3


@dataclass(frozen=True)
class Surface:
    """A mesh with the number of each triangle's object.

    Attributes
    ----------
    xyz, faces
        (N, 3) vertices in metres in the world frame, and (F, 3) their indices.
    label
        (F,) object numbers, 0 where there is none.
    """

    xyz: Floats
    faces: Labels
    label: Labels
    _seen: collections.OrderedDict[Any, tuple[Floats, Labels]] = field(
        default_factory=collections.OrderedDict, repr=False, compare=False
    )

    def seen(self, pose: Floats, k: Floats, size_wh: tuple[int, int]) -> tuple[Floats, Labels]:
        """Return depth (h, w) in metres, 0 where nothing is, and object numbers (h, w); the last few are kept.

        Parameters
        ----------
        pose, k
            T_world_cam (4, 4), and the camera's (3, 3).
        size_wh
            Of the picture.
        """
        key = pose.tobytes(), k.tobytes(), size_wh
        if key not in self._seen:
            depth, face = rasterize((self.xyz - pose[:3, 3]) @ pose[:3, :3], self.faces, k, size_wh)
            self._seen[key] = depth, np.where(face >= 0, self.label[face], 0)
            while len(self._seen) > _KEPT:
                self._seen.popitem(last=False)
        return self._seen[key]


def rasterize(xyz_cam: Floats, faces: Labels, k: Floats, size_wh: tuple[int, int]) -> tuple[Floats, Labels]:
    """Return depth (h, w), 0 where nothing is, and the index (h, w) of the nearest triangle, -1 where there is none.

    Exact at pixel centres: a triangle counts where it holds the centre, both of its sides are seen, and its depth there
    is that of its plane. Triangles that reach behind the camera are cut at `NEAR_M`.
    """
    width, height = size_wh
    corners, index = _clipped(xyz_cam, faces, k, size_wh)
    near = np.full(width * height, np.inf)
    nearest = np.full(width * height, -1, np.int64)
    z = corners[..., 2]
    u, v = (corners[..., axis] / z * k[axis, axis] + k[axis, 2] for axis in (0, 1))
    first_col, last_col = _span(u, width)
    first_row, last_row = _span(v, height)
    wide, high = last_col - first_col + 1, last_row - first_row + 1
    reached = np.flatnonzero((wide > 0) & (high > 0))
    kinds = np.ceil(np.log2(wide[reached])).astype(int) * 64 + np.ceil(np.log2(high[reached])).astype(int)
    for kind in np.unique(kinds):
        group = reached[kinds == kind]
        most_wide, most_high = int(wide[group].max()), int(high[group].max())
        step = max(_CANDIDATES // (most_wide * most_high), 1)
        for start in range(0, len(group), step):
            some = group[start : start + step]
            col = first_col[some, None, None] + np.arange(most_wide)
            row = first_row[some, None, None] + np.arange(most_high)[:, None]
            shares, size = _shares(u[some], v[some], col + 0.5, row + 0.5)
            inside = (shares >= 0).all(axis=0) & (size != 0)
            inside &= (col <= last_col[some, None, None]) & (row <= last_row[some, None, None])
            which, down, right = np.nonzero(inside)
            inverse = (shares[:, which, down, right] / z[some[which]].T).sum(axis=0)
            at = row[which, down, 0] * width + col[which, 0, right]
            depth = 1 / inverse
            order = np.flatnonzero(depth < near[at])
            order = order[np.argsort(-depth[order], kind="stable")]  # of several at one pixel the nearest is set last
            near[at[order]] = depth[order]
            nearest[at[order]] = index[some[which[order]]]
    depth = np.where(np.isfinite(near), near, 0).reshape(height, width)
    return depth, nearest.reshape(height, width)


def _span(values: Floats, size: int) -> tuple[Labels, Labels]:
    """Return the first and the last pixel (F,) along one axis whose centres may lie in the triangles."""
    first = np.ceil(np.clip(values.min(axis=1), -1, size + 1) - 0.5).astype(np.int64)
    last = np.floor(np.clip(values.max(axis=1), -1, size + 1) - 0.5).astype(np.int64)
    return np.maximum(first, 0), np.minimum(last, size - 1)


def _shares(u: Floats, v: Floats, x: NDArray[Any], y: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return the barycentric shares (3, F, rows, cols) of points in triangles (F, 3), and twice their areas."""
    u, v = u[:, :, None, None], v[:, :, None, None]
    parts = [
        (u[:, b] - u[:, a]) * (y - v[:, a]) - (v[:, b] - v[:, a]) * (x - u[:, a]) for a, b in ((1, 2), (2, 0), (0, 1))
    ]
    size = (u[:, 1] - u[:, 0]) * (v[:, 2] - v[:, 0]) - (v[:, 1] - v[:, 0]) * (u[:, 2] - u[:, 0])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.stack(parts) / size, size


def _clipped(xyz: Floats, faces: Labels, k: Floats, size_wh: tuple[int, int]) -> tuple[Floats, Labels]:
    """Return the corners (T, 3, 3) of the triangles that may be seen, cut at the near plane, and their faces (T,)."""
    ahead = xyz[:, 2] > NEAR_M
    scaled = xyz[:, :2] * (k[0, 0], k[1, 1]) + xyz[:, 2:] * (k[0, 2], k[1, 2])  # pixels times depth
    sides = np.stack(
        [scaled[:, 0] < 0, scaled[:, 0] > size_wh[0] * xyz[:, 2], scaled[:, 1] < 0,
         scaled[:, 1] > size_wh[1] * xyz[:, 2], ~ahead], axis=1,
    )  # fmt: skip
    front = ahead[faces]
    count = front.sum(axis=1)
    beyond: NDArray[np.bool_] = np.logical_and.reduce(sides[faces], axis=1)
    kept: NDArray[np.bool_] = ~np.logical_or.reduce(beyond, axis=1)
    whole, one, two = (np.flatnonzero(kept & (count == number)) for number in (3, 1, 2))
    parts, index = [xyz[faces[whole]]], [whole]
    for chosen, odd in ((one, True), (two, False)):
        # the corner that is alone on its side comes first
        order = (np.argmax(front[chosen] == odd, axis=1)[:, None] + np.arange(3)) % 3
        a, b, c = np.moveaxis(xyz[np.take_along_axis(faces[chosen], order, 1)], 1, 0)
        to_b, to_c = (a + ((NEAR_M - a[:, 2]) / (end[:, 2] - a[:, 2]))[:, None] * (end - a) for end in (b, c))
        if odd:
            parts.append(np.stack([a, to_b, to_c], axis=1))
            index.append(chosen)
        else:
            parts += [np.stack([to_b, b, c], axis=1), np.stack([to_b, c, to_c], axis=1)]
            index += [chosen, chosen]
    return np.concatenate(parts), np.concatenate(index)
