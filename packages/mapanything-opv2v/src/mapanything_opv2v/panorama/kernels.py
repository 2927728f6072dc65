"""The inner loops of a panorama, compiled by numba (one core, cached on disk).

Legend: M panorama pixels (row by row), C cameras, E colour taps, S source pixels of all cameras one after the
other. A *source* is a depth pixel's number in that order.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

FAR = np.float32(1e30)
"""Stands for "no range" in a z-buffer (fast arithmetic must not meet infinities)."""

NO_SOURCE = -1

# columns of a camera's row: fx, fy, skew, cx, cy, width, height, first source, R_pano_cam (9), t_pano_cam
# (3), and how many pixels a ray may be followed from the sample that fell into its panorama pixel
_FX, _FY, _SKEW, _CX, _CY, _WIDTH, _HEIGHT, FIRST_SOURCE = range(8)
_R, _T, _REACH, CAMERA_COLUMNS = 8, 17, 20, 21

# columns of a cylinder's row
_COLUMNS_PER_RADIAN, _ROWS_PER_RADIAN, _PANO_WIDTH, _PANO_HEIGHT, _MIDDLE = range(5)

# atan(s) / s as a polynomial in s^2 on [0, 1], least squares on Chebyshev points; error below 6e-7 rad
# (tests/test_panorama_kernels.py fits it again)
_ATAN = (0.99999933, -0.33326375, 0.19879872, -0.13480406, 0.08374156, -0.03689863, 0.00782548)

MISSED, ISOLATED, MET = -1, 0, 1
_TRIES = 4
_SAME_SURFACE = 0.0025
"""Relative difference in depth up to which two neighbouring pixels need no second look."""
_STEEP = 0.2
"""Relative change of inverse depth between neighbours beyond which both sides must agree on a slope."""


@njit(cache=True, fastmath=True)
def blend(pixels, first, pixel, stride, fraction, weight, out) -> None:  # type: ignore[no-untyped-def]
    """Write the colour (M, 3) uint8 of every panorama pixel into `out`; black where there are no taps.

    Parameters
    ----------
    pixels : (N, 3) uint8
        The reduced images of all cameras, one after the other.
    first, pixel, stride, fraction, weight : arrays
        As in `tables.ColorTable`.
    out : (M, 3) uint8
        Result.
    """
    for m in range(out.shape[0]):
        red, green, blue = np.float32(0.5), np.float32(0.5), np.float32(0.5)
        start, end = first[m], first[m + 1]
        if start == end:
            out[m, 0] = out[m, 1] = out[m, 2] = 0
            continue
        for e in range(start, end):
            p, s = pixel[e], stride[e]
            x, y, w = fraction[e, 0], fraction[e, 1], weight[e]
            one = np.float32(1.0)
            a, b = (one - x) * (one - y) * w, x * (one - y) * w
            c, d = (one - x) * y * w, x * y * w
            q = p + s
            red += a * pixels[p, 0] + b * pixels[p + 1, 0] + c * pixels[q, 0] + d * pixels[q + 1, 0]
            green += a * pixels[p, 1] + b * pixels[p + 1, 1] + c * pixels[q, 1] + d * pixels[q + 1, 1]
            blue += a * pixels[p, 2] + b * pixels[p + 1, 2] + c * pixels[q, 2] + d * pixels[q + 1, 2]
        out[m, 0], out[m, 1], out[m, 2] = np.uint8(red), np.uint8(green), np.uint8(blue)


@njit(cache=True, fastmath=True, inline="always")
def _atan2(y, x):  # type: ignore[no-untyped-def]
    """Return atan2 in float32 without a branch, so that rows of it are vectorised."""
    ax, ay = abs(x), abs(y)
    s = min(ax, ay) / max(max(ax, ay), np.float32(1e-20))
    q = s * s
    p = np.float32(_ATAN[6])
    p = p * q + np.float32(_ATAN[5])
    p = p * q + np.float32(_ATAN[4])
    p = p * q + np.float32(_ATAN[3])
    p = p * q + np.float32(_ATAN[2])
    p = p * q + np.float32(_ATAN[1])
    p = (p * q + np.float32(_ATAN[0])) * s
    p = np.float32(math.pi / 2) - p if ay > ax else p
    p = np.float32(math.pi) - p if x < 0 else p
    return -p if y < 0 else p


@njit(cache=True, fastmath=True)
def splat(depth, camera, cylinder, ranges, sources) -> None:  # type: ignore[no-untyped-def]
    """Carry every depth pixel of one camera to the panorama pixel it falls into; the nearest stays.

    Parameters
    ----------
    depth : (H, W) float32
        z-depth in metres; what is not positive is left out.
    camera, cylinder : (20,), (5,) float64
        See the columns above.
    ranges : (M,) float32
        z-buffer, `FAR` where empty; written.
    sources : (M,) int32
        Source of each panorama pixel; written.
    """
    height, width = depth.shape
    x_over_z = np.empty(width, np.float32)
    columns, rows = np.empty(width, np.float32), np.empty(width, np.float32)
    distance = np.empty(width, np.float32)
    r = camera[_R:_T].astype(np.float32)
    tx, ty, tz = np.float32(camera[_T]), np.float32(camera[_T + 1]), np.float32(camera[_T + 2])
    pano_width, pano_height = int(cylinder[_PANO_WIDTH]), int(cylinder[_PANO_HEIGHT])
    per_column, per_row = np.float32(cylinder[_COLUMNS_PER_RADIAN]), np.float32(cylinder[_ROWS_PER_RADIAN])
    # + 0.5 so that truncation rounds to the nearest pixel
    column_zero, row_zero = (
        np.float32(pano_width / 2),
        np.float32(pano_height / 2 + cylinder[_MIDDLE] * per_row),
    )
    base = int(camera[FIRST_SOURCE])
    for v in range(height):
        y = np.float32((v - camera[_CY]) / camera[_FY])
        for u in range(width):
            x_over_z[u] = (u - camera[_CX] - camera[_SKEW] * y) / camera[_FX]
        ax, ay, az = r[1] * y + r[2], r[4] * y + r[5], r[7] * y + r[8]
        line = depth[v]
        for u in range(width):
            z, x = line[u], x_over_z[u]
            px, py, pz = (r[0] * x + ax) * z + tx, (r[3] * x + ay) * z + ty, (r[6] * x + az) * z + tz
            level = px * px + pz * pz
            columns[u] = _atan2(px, pz) * per_column + column_zero
            rows[u] = _atan2(py, np.sqrt(level)) * per_row + row_zero
            distance[u] = np.sqrt(level + py * py)
        for u in range(width):
            if line[u] > 0:
                row = rows[u]
                if row < 0 or row >= pano_height:
                    continue
                column = int(columns[u])
                if column >= pano_width or column < 0:
                    column = 0 if column >= pano_width else pano_width - 1
                m = int(row) * pano_width + column
                if distance[u] < ranges[m]:
                    ranges[m] = distance[u]
                    sources[m] = base + v * width + u


@njit(cache=True)
def _slope(depth, here, back, ahead, has_back, has_ahead):  # type: ignore[no-untyped-def]
    """Return the slope of inverse depth along one image axis at the pixel `here`, and whether there is one.

    Of the two neighbours the one that differs less is taken, which stays on the pixel's own surface at edges.
    A steep slope that the two sides do not share is no surface but a step: the pixel is taken to face the
    camera.
    """
    w0 = 1.0 / depth[here]
    behind = w0 - 1.0 / depth[back] if has_back and depth[back] > 0 else np.inf
    before = 1.0 / depth[ahead] - w0 if has_ahead and depth[ahead] > 0 else np.inf
    slope, other = (behind, before) if abs(behind) < abs(before) else (before, behind)
    if slope == np.inf:
        return 0.0, False
    if abs(slope) > _STEEP * w0 and not abs(other - slope) <= 0.5 * abs(slope):
        slope = 0.0
    return slope, True


@njit(cache=True)
def _follow(depth, camera, o0, o1, o2, d0, d1, d2, start):  # type: ignore[no-untyped-def]
    """Find where a ray meets the surfaces of a depth map, beginning at a depth pixel.

    Inverse depth of a plane is linear in the image, so a pixel and its neighbours give its plane. The ray
    meets that plane at a point; if another depth pixel is there and lies on another surface, that one is
    tried, and so on.

    Parameters
    ----------
    depth : (H * W,) float32
        z-depth of the camera, metres.
    camera : (21,) float64
        See the columns above.
    o0, o1, o2, d0, d1, d2 : float
        The ray in camera axes: origin and unit direction.
    start : int
        Pixel to begin with, counted row by row.

    Returns
    -------
    state : int
        `MET`, `ISOLATED` (too few samples around to say) or `MISSED` (the ray passes between what the camera
        saw).
    range_m : float
        Along the ray, if met.
    """
    width, height = int(camera[_WIDTH]), int(camera[_HEIGHT])
    fx, fy, skew, cx, cy = camera[_FX], camera[_FY], camera[_SKEW], camera[_CX], camera[_CY]
    here = start
    for _ in range(_TRIES):
        v = here // width
        u = here - v * width
        slope_u, found_u = _slope(depth, here, here - 1, here + 1, u > 0, u + 1 < width)
        slope_v, found_v = _slope(depth, here, here - width, here + width, v > 0, v + 1 < height)
        if not (found_u and found_v):
            return ISOLATED, 0.0
        y = (v - cy) / fy
        x = (u - cx - skew * y) / fx
        # plane . X = 1
        a, b = slope_u * fx, slope_u * skew + slope_v * fy
        c = 1.0 / depth[here] - a * x - b * y
        towards = a * d0 + b * d1 + c * d2
        if abs(towards) < 1e-9:
            return MISSED, 0.0
        t = (1.0 - a * o0 - b * o1 - c * o2) / towards
        z = o2 + t * d2
        if t <= 0.0 or z <= 0.0:
            return MISSED, 0.0
        y = (o1 + t * d1) / z
        column = (fx * (o0 + t * d0) + skew * (o1 + t * d1)) / z + cx
        row = fy * y + cy
        reach = camera[_REACH]
        first_v = start // width
        if abs(column - (start - first_v * width)) > reach or abs(row - first_v) > reach:
            return MISSED, 0.0
        new_u, new_v = math.floor(column + 0.5), math.floor(row + 0.5)
        if new_u < 0 or new_v < 0 or new_u >= width or new_v >= height:
            return MISSED, 0.0
        new = new_v * width + new_u
        if new == here or abs(depth[new] - z) <= _SAME_SURFACE * z:
            return MET, t
        if depth[new] <= 0:  # nothing known there, or sky
            return (ISOLATED if depth[new] == 0 else MISSED), 0.0
        here = new
    return MISSED, 0.0


@njit(cache=True)
def _meet(depths, cameras, x, y, z, source):  # type: ignore[no-untyped-def]
    """Follow the panorama ray (x, y, z) from a source; see `_follow`."""
    c = cameras.shape[0] - 1
    while source < cameras[c, FIRST_SOURCE]:
        c -= 1
    camera = cameras[c]
    first = int(camera[FIRST_SOURCE])
    end = first + int(camera[_WIDTH] * camera[_HEIGHT])
    tx, ty, tz = camera[_T], camera[_T + 1], camera[_T + 2]
    return _follow(
        depths[first:end],
        camera,
        -(camera[_R] * tx + camera[_R + 3] * ty + camera[_R + 6] * tz),
        -(camera[_R + 1] * tx + camera[_R + 4] * ty + camera[_R + 7] * tz),
        -(camera[_R + 2] * tx + camera[_R + 5] * ty + camera[_R + 8] * tz),
        camera[_R] * x + camera[_R + 3] * y + camera[_R + 6] * z,
        camera[_R + 1] * x + camera[_R + 4] * y + camera[_R + 7] * z,
        camera[_R + 2] * x + camera[_R + 5] * y + camera[_R + 8] * z,
        source - first,
    )


@njit(cache=True)
def refine(depths, cameras, rays, sources, ranges) -> None:  # type: ignore[no-untyped-def]
    """Replace the range of each panorama pixel's nearest sample by that of the surface its own ray meets.

    A pixel whose ray passes between what the camera saw loses its range: the sample that fell into it belongs
    to a surface beside the ray. Isolated samples (LiDAR) keep theirs.

    Parameters
    ----------
    depths : (S,) float32
        z-depth of all cameras.
    cameras : (C, 21) float64
        See the columns above.
    rays : (M, 3) float32
        Unit vectors of the panorama's pixels.
    sources, ranges : (M,) int32, float32
        From `splat`; changed in place.
    """
    for m in range(sources.shape[0]):
        if sources[m] >= 0:
            state, t = _meet(depths, cameras, rays[m, 0], rays[m, 1], rays[m, 2], sources[m])
            if state == MET:
                ranges[m] = t
            elif state == MISSED:
                ranges[m] = FAR
                sources[m] = NO_SOURCE


@njit(cache=True)
def gather(depths, cameras, rays, width, sources, ranges) -> int:  # type: ignore[no-untyped-def]
    """Give pixels without range that of a surface which their own ray meets and a neighbour's camera saw.

    Samples of a coarse image leave pixels of the panorama between them, and at the border of one camera's
    image the nearest sample may be one whose surface continues in another's. Nothing is invented: the ray
    must meet a surface inside a depth pixel that sees it.

    Parameters
    ----------
    depths, cameras, rays, sources, ranges : arrays
        As in `refine`.
    width : int
        Columns of the panorama, which closes at its sides.

    Returns
    -------
    int
        How many pixels were given a range.
    """
    height = sources.shape[0] // width
    found = 0
    before = sources.copy()
    for row in range(height):
        for column in range(width):
            m = row * width + column
            if before[m] >= 0:
                continue
            left = m - 1 if column > 0 else m + width - 1
            right = m + 1 if column + 1 < width else m - width + 1
            above = m - width if row > 0 else m
            below = m + width if row + 1 < height else m
            for neighbour in (left, right, above, below):
                if before[neighbour] >= 0:
                    state, t = _meet(depths, cameras, rays[m, 0], rays[m, 1], rays[m, 2], before[neighbour])
                    if state == MET and t < ranges[m]:
                        found += sources[m] == NO_SOURCE
                        ranges[m], sources[m] = t, before[neighbour]
    return found


@njit(cache=True)
def find_sky(depths, cameras, sky_pixel, sources, sky) -> None:  # type: ignore[no-untyped-def]
    """Mark pixels without range in whose direction some camera sees sky (negative depth).

    Parameters
    ----------
    depths, cameras, sources : arrays
        As in `refine`.
    sky_pixel : (M, C) int32
        Pixel of each camera in that direction, -1 where it does not look.
    sky : (M,) bool
        Result.
    """
    for m in range(sources.shape[0]):
        sky[m] = False
        if sources[m] < 0:
            for c in range(cameras.shape[0]):
                p = sky_pixel[m, c]
                if p >= 0 and depths[int(cameras[c, FIRST_SOURCE]) + p] < 0:
                    sky[m] = True
