"""Casting rays into an analytic town (compiled by numba); the truth that everything else is measured against.

World: CARLA axes (x forward, y right, z up), metres. Every surface is intersected exactly.

Legend: N rays, P ground planes, B boxes, C upright cylinders, S spheres, K streets.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

NONE = -1
"""Owner of what belongs to no vehicle."""

# columns of a box: centre 0:3, rows of R_box_world 3:12, half sizes 12:15, colour 15:18, texture, owner,
# bounding radius
BOX_COLUMNS, BOX_TEXTURE, BOX_OWNER, BOX_RADIUS = 21, 18, 19, 20
STREET_COLUMNS = 7  # x, y of a point, x, y of the direction (unit), half width, first and last metre along
# light and colours: sun (unit vector) 0:3, ambient, diffuse, exposure, haze length in metres, then colours, then the
# shift of the patterns
LOOK_COLUMNS, LOOK_EXPOSURE, LOOK_HAZE, LOOK_ASPHALT, LOOK_GRASS, LOOK_HORIZON, LOOK_ZENITH, LOOK_SHIFT = (
    24, 5, 7, 10, 13, 16, 19, 22,
)  # fmt: skip
ROUND_COLUMNS = 8  # cylinders: x, y, bottom, top, radius, colour; spheres: x, y, z, (unused), radius, colour
PLAIN, WINDOWS = 0, 1
FACADES = 4
"""Walls have textures 1 (`WINDOWS`) to `FACADES`: windows of several sizes."""
_ACROSS, _WIDE = (3.0, 3.0, 2.0, 4.6, 6.5), (0.7, 0.7, 0.45, 1.2, 2.8)
_STOREY, _HIGH = (3.2, 3.2, 2.8, 3.6, 4.2), (0.8, 0.8, 0.9, 0.6, 1.2)

_GROUND, _BOX, _CYLINDER, _SPHERE = 1, 2, 3, 4
_BUNDLE = 32  # neighbouring rays that share one list of candidates
_TEXTURE_ANGLE = 0.004  # radians between samples; texture finer than this at a surface is faded out


@njit(cache=True)
def cast(  # type: ignore[no-untyped-def]  # pragma: no cover (compiled)
    origin, rays, planes, boxes, cylinders, spheres, streets, look, skip_owner, max_range_m
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Cast rays from one point.

    Parameters
    ----------
    origin : (3,) float64
        World, outside every solid.
    rays : (N, 3) float64
        Unit vectors, world.
    planes : (P, 3) float64
        Ground is below any of the planes ``z = a x + b y + c``.
    boxes : (B, 21) float64
        See `BOX_COLUMNS`.
    cylinders, spheres : (C, 8), (S, 8) float64
        See `ROUND_COLUMNS`.
    streets : (K, 7) float64
        See `STREET_COLUMNS`; beside them is grass.
    look : (24,) float64
        See `LOOK_COLUMNS`.
    skip_owner : int
        Boxes of this vehicle are not seen (its own body).
    max_range_m : float
        What lies farther is sky.

    Returns
    -------
    range_m : (N,) float32
        Distance along the ray; 0 for sky.
    rgb : (N, 3) uint8
    """
    count = rays.shape[0]
    ranges = np.zeros(count, np.float32)
    rgb = np.empty((count, 3), np.uint8)
    bounds = _bounds(boxes, cylinders, spheres)
    seen = _directions(origin, bounds)
    candidates = np.empty((bounds.shape[0], 2), np.int64)
    hit = np.empty(2, np.int64)
    color = np.empty(3)
    for first in range(0, count, _BUNDLE):
        bundle = rays[first : min(first + _BUNDLE, count)]
        found = _cull(bundle, seen, bounds, boxes, skip_owner, candidates)
        for k in range(bundle.shape[0]):
            ray, i = bundle[k], first + k
            t = _nearest(origin, ray, planes, boxes, cylinders, spheres, candidates[:found], max_range_m, hit)
            if hit[0] == 0:
                _sky(ray, look, color)
            else:
                ranges[i] = t
                _shade(origin, ray, t, planes, boxes, cylinders, spheres, streets, look, hit, color)
            for c in range(3):
                rgb[i, c] = np.uint8(min(max(color[c] * look[LOOK_EXPOSURE], 0.0), 1.0) * 255.0 + 0.5)
    return ranges, rgb


@njit(cache=True)
def _bounds(boxes, cylinders, spheres):  # type: ignore[no-untyped-def]
    """Return bounding spheres of all solids: x, y, z, radius, kind, number."""
    bounds = np.empty((boxes.shape[0] + cylinders.shape[0] + spheres.shape[0], 6))
    at = 0
    for b in range(boxes.shape[0]):
        bounds[at, :3], bounds[at, 3] = boxes[b, :3], boxes[b, BOX_RADIUS]
        bounds[at, 4], bounds[at, 5] = _BOX, b
        at += 1
    for c in range(cylinders.shape[0]):
        half = (cylinders[c, 3] - cylinders[c, 2]) / 2
        bounds[at, :2], bounds[at, 2] = cylinders[c, :2], cylinders[c, 2] + half
        bounds[at, 3] = math.hypot(half, cylinders[c, 4])
        bounds[at, 4], bounds[at, 5] = _CYLINDER, c
        at += 1
    for s in range(spheres.shape[0]):
        bounds[at, :3], bounds[at, 3] = spheres[s, :3], spheres[s, 4]
        bounds[at, 4], bounds[at, 5] = _SPHERE, s
        at += 1
    return bounds


@njit(cache=True)
def _directions(origin, bounds):  # type: ignore[no-untyped-def]
    """Return where solids are seen: unit vector, sine and cosine of half the angle that their sphere fills.

    A sphere around the origin has the sine 2: it is seen everywhere.
    """
    seen = np.empty((bounds.shape[0], 5))
    for m in range(bounds.shape[0]):
        x, y, z = bounds[m, 0] - origin[0], bounds[m, 1] - origin[1], bounds[m, 2] - origin[2]
        distance = math.sqrt(x * x + y * y + z * z)
        if distance <= bounds[m, 3]:
            seen[m, 3] = 2.0
            continue
        seen[m, 0], seen[m, 1], seen[m, 2] = x / distance, y / distance, z / distance
        seen[m, 3] = bounds[m, 3] / distance
        seen[m, 4] = math.sqrt(1.0 - seen[m, 3] ** 2)
    return seen


@njit(cache=True)
def _cull(bundle, seen, bounds, boxes, skip, candidates) -> int:  # type: ignore[no-untyped-def]
    """List the solids that a bundle of neighbouring rays can meet; return how many."""
    axis = np.zeros(3)
    for k in range(bundle.shape[0]):
        axis += bundle[k]
    length = math.sqrt(axis[0] ** 2 + axis[1] ** 2 + axis[2] ** 2)
    cos_spread = -1.0
    if length > 0:
        axis /= length
        cos_spread = 1.0
        for k in range(bundle.shape[0]):
            cos_spread = min(cos_spread, axis[0] * bundle[k, 0] + axis[1] * bundle[k, 1] + axis[2] * bundle[k, 2])
    cos_spread = max(cos_spread - 1e-9, -1.0)
    sin_spread = math.sqrt(1.0 - cos_spread**2)
    found = 0
    for m in range(bounds.shape[0]):
        sine, cosine = seen[m, 3], seen[m, 4]
        if sine <= 1.0 and sin_spread * cosine + cos_spread * sine > 0.0:  # both angles together are below 180 degrees
            along = seen[m, 0] * axis[0] + seen[m, 1] * axis[1] + seen[m, 2] * axis[2]
            if along < cos_spread * cosine - sin_spread * sine - 1e-9:
                continue
        number = int(bounds[m, 5])
        if bounds[m, 4] == _BOX and skip != NONE and boxes[number, BOX_OWNER] == skip:
            continue
        candidates[found, 0], candidates[found, 1] = int(bounds[m, 4]), number
        found += 1
    return found


@njit(cache=True)
def _nearest(origin, ray, planes, boxes, cylinders, spheres, candidates, far, hit) -> float:  # type: ignore[no-untyped-def]
    """Return the nearest distance; `hit` receives kind (0 none) and number."""
    best = far
    hit[0] = 0
    for p in range(planes.shape[0]):
        a, b, c = planes[p, 0], planes[p, 1], planes[p, 2]
        slope = ray[2] - a * ray[0] - b * ray[1]
        if slope < -1e-12:
            t = -(origin[2] - a * origin[0] - b * origin[1] - c) / slope
            if 0.0 < t < best:
                best = t
                hit[0], hit[1] = _GROUND, p
    for m in range(candidates.shape[0]):
        kind, number = candidates[m, 0], candidates[m, 1]
        if kind == _BOX:
            t = _enter_box(origin, ray, boxes[number], best)
        elif kind == _CYLINDER:
            t = _enter_cylinder(origin, ray, cylinders[number], best)
        else:
            t = _enter_sphere(origin, ray, spheres[number], best)
        if t < best:
            best = t
            hit[0], hit[1] = kind, number
    return best


@njit(cache=True)
def _enter_sphere(origin, ray, sphere, best) -> float:  # type: ignore[no-untyped-def]
    """Return the distance at which the ray enters a sphere, or `best` if it does not do so before."""
    ox, oy, oz, radius = origin[0] - sphere[0], origin[1] - sphere[1], origin[2] - sphere[2], sphere[4]
    along = -(ox * ray[0] + oy * ray[1] + oz * ray[2])
    inside = radius * radius - (ox * ox + oy * oy + oz * oz - along * along)
    if inside <= 0.0:
        return best
    t = along - math.sqrt(inside)
    return t if 0.0 < t < best else best


@njit(cache=True)
def _enter_cylinder(origin, ray, cylinder, best) -> float:  # type: ignore[no-untyped-def]
    """As `_enter_sphere`, for the side of an upright cylinder."""
    ox, oy, radius = origin[0] - cylinder[0], origin[1] - cylinder[1], cylinder[4]
    level = ray[0] * ray[0] + ray[1] * ray[1]
    if level < 1e-12:
        return best
    along = -(ox * ray[0] + oy * ray[1]) / level
    inside = radius * radius - (ox * ox + oy * oy - along * along * level)
    if inside <= 0.0:
        return best
    t = along - math.sqrt(inside / level)
    z = origin[2] + t * ray[2]
    return t if 0.0 < t < best and cylinder[2] <= z <= cylinder[3] else best


@njit(cache=True)
def _enter_box(origin, ray, box, best) -> float:  # type: ignore[no-untyped-def]
    """As `_enter_sphere`, for a box of any orientation (slab method)."""
    ox, oy, oz = box[0] - origin[0], box[1] - origin[1], box[2] - origin[2]
    along = ox * ray[0] + oy * ray[1] + oz * ray[2]
    radius = box[BOX_RADIUS]
    beside = ox * ox + oy * oy + oz * oz - along * along > radius * radius
    if beside or along < -radius or along - radius > best:
        return best
    near, far = 0.0, best
    for axis in range(3):
        rx, ry, rz = box[3 + 3 * axis], box[4 + 3 * axis], box[5 + 3 * axis]
        to_center = rx * ox + ry * oy + rz * oz
        speed = rx * ray[0] + ry * ray[1] + rz * ray[2]
        half = box[12 + axis]
        if abs(speed) < 1e-12:
            if abs(to_center) > half:
                return best
            continue
        first, last = (to_center - half) / speed, (to_center + half) / speed
        if first > last:
            first, last = last, first
        near, far = max(near, first), min(far, last)
        if near >= far:
            return best
    return near if near > 0.0 else best


@njit(cache=True)
def _shade(origin, ray, t, planes, boxes, cylinders, spheres, streets, look, hit, color) -> None:  # type: ignore[no-untyped-def]
    """Write the colour of a surface point into `color` (3,), in [0, 1] unless bright."""
    x, y, z = origin[0] + t * ray[0], origin[1] + t * ray[1], origin[2] + t * ray[2]
    nx, ny, nz = 0.0, 0.0, 1.0
    kind, number = hit[0], hit[1]
    if kind == _GROUND:
        a, b = planes[number, 0], planes[number, 1]
        norm = math.sqrt(1.0 + a * a + b * b)
        nx, ny, nz = -a / norm, -b / norm, 1.0 / norm
        _ground(x, y, t, streets, look, color)
    elif kind == _BOX:
        box = boxes[number]
        lx = ly = lz = 0.0
        face, axis, sign = -1.0, 0, 1.0
        for k in range(3):
            rx, ry, rz = box[3 + 3 * k], box[4 + 3 * k], box[5 + 3 * k]
            here = rx * (x - box[0]) + ry * (y - box[1]) + rz * (z - box[2])
            if k == 0:
                lx = here
            elif k == 1:
                ly = here
            else:
                lz = here
            if abs(here) / box[12 + k] > face:
                face, axis, sign = abs(here) / box[12 + k], k, 1.0 if here > 0 else -1.0
        nx, ny, nz = sign * box[3 + 3 * axis], sign * box[4 + 3 * axis], sign * box[5 + 3 * axis]
        side = ly if axis == 0 else lx
        for c in range(3):
            color[c] = box[15 + c]
        if axis != 2:
            _wall(side, lz, t, box[BOX_TEXTURE], color)
    else:
        shape = cylinders[number] if kind == _CYLINDER else spheres[number]
        nx, ny = (x - shape[0]) / shape[4], (y - shape[1]) / shape[4]
        nz = 0.0 if kind == _CYLINDER else (z - shape[2]) / shape[4]
        spots = 1.0 + 0.15 * math.sin(5.0 * x + 3.0 * z) * math.sin(4.0 * y - 2.0 * z) * _fade(5.0, t)
        for c in range(3):
            color[c] = shape[5 + c] * spots
    light = look[3] + look[4] * max(0.0, look[0] * nx + look[1] * ny + look[2] * nz)
    haze = 1.0 - math.exp(-t / look[6])
    for c in range(3):
        color[c] = color[c] * light * (1.0 - haze) + look[LOOK_HAZE + c] * haze


@njit(cache=True)
def _fade(per_metre, t) -> float:  # type: ignore[no-untyped-def]
    """Return how much of a pattern of so many radians a metre survives at a distance: it must not alias."""
    phase = per_metre * t * _TEXTURE_ANGLE
    return math.exp(-phase * phase)


@njit(cache=True)
def _ground(x, y, t, streets, look, color) -> None:  # type: ignore[no-untyped-def]
    """Asphalt with lane marks on the streets, grass elsewhere; no marks where streets cross."""
    blur = 0.02 + t * _TEXTURE_ANGLE
    street, mark = 0.0, 0.0
    for k in range(streets.shape[0]):
        along, across = _on_street(x, y, streets[k])
        end = max(streets[k, 5] - along, along - streets[k, 6])
        half = streets[k, 4]
        street = max(street, _inside(max(abs(across) - half, end), blur))
        if abs(across) < half and end < 0.0 and not _crosses(x, y, streets, k):
            dash = _inside(abs((along + 600.0) % 6.0 - 3.0) - 1.5, blur)
            middle = _inside(abs(across) - 0.15, blur) * dash
            mark = max(mark, middle, _inside(abs(abs(across) - half + 0.5) - 0.12, blur))
    u, v = x + look[LOOK_SHIFT], y + look[LOOK_SHIFT + 1]
    grain = 0.04 * math.sin(2.1 * u + 0.7 * math.sin(0.9 * v)) * math.sin(1.7 * v + 0.3) * _fade(2.1, t)
    grain += 0.03 * math.sin(7.3 * u + 1.1 * v) * math.sin(6.1 * v - 0.4 * u) * _fade(7.3, t)
    grass = 0.06 * math.sin(0.8 * u) * math.sin(1.1 * v) * _fade(1.1, t)
    for c in range(3):
        asphalt = look[LOOK_ASPHALT + c] + grain + mark * 0.45
        color[c] = street * asphalt + (1.0 - street) * (look[LOOK_GRASS + c] + grass)


@njit(cache=True)
def _on_street(x, y, street) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    """Return metres along and across a street."""
    dx, dy = x - street[0], y - street[1]
    return dx * street[2] + dy * street[3], dy * street[2] - dx * street[3]


@njit(cache=True)
def _crosses(x, y, streets, own) -> bool:  # type: ignore[no-untyped-def]
    """Say whether a place lies on another street, or within 2 m of it."""
    for k in range(streets.shape[0]):
        if k != own:
            along, across = _on_street(x, y, streets[k])
            if abs(across) <= streets[k, 4] + 2.0 and streets[k, 5] - 2.0 <= along <= streets[k, 6] + 2.0:
                return True
    return False


@njit(cache=True)
def _inside(distance, blur) -> float:  # type: ignore[no-untyped-def]
    """Return 1 well inside (negative distance), 0 well outside, a soft step of width `blur` between."""
    return min(max(0.5 - distance / blur, 0.0), 1.0)


@njit(cache=True)
def _wall(side, up, t, texture, color) -> None:  # type: ignore[no-untyped-def]
    """Rows of windows, or a faint pattern that tells faces apart."""
    if texture >= WINDOWS:
        kind = int(texture)
        wide, storey = _ACROSS[kind], _STOREY[kind]
        blur = 0.05 + t * _TEXTURE_ANGLE
        across = _inside(abs((side + 300.0) % wide - wide / 2) - _WIDE[kind], blur)
        height = _inside(abs((up + 300.0) % storey - storey / 2) - _HIGH[kind], blur)
        glass = across * height * _fade(0.5, t)
        brick = 1.0 + 0.05 * math.sin(9.0 * up) * _fade(9.0, t)
        for c in range(3):
            color[c] = color[c] * brick * (1.0 - glass) + (0.16, 0.22, 0.30)[c] * glass
    else:
        stripe = 1.0 + 0.12 * math.sin(3.0 * side) * math.sin(3.0 * up) * _fade(3.0, t)
        for c in range(3):
            color[c] *= stripe


@njit(cache=True)
def _sky(ray, look, color) -> None:  # type: ignore[no-untyped-def]
    """Blue that pales towards the horizon, with soft clouds."""
    up = max(ray[2], 0.0)
    u, v = ray[0] + look[LOOK_SHIFT], ray[1] + look[LOOK_SHIFT + 1]
    cloud = 0.5 + 0.5 * math.sin(4.0 * u + 2.0 * math.sin(3.0 * v)) * math.sin(5.0 * v + 1.0)
    cloud *= min(up * 3.0, 1.0) * 0.5
    for c in range(3):
        blue = look[LOOK_HORIZON + c] * (1.0 - up) + look[LOOK_ZENITH + c] * up
        color[c] = blue * (1.0 - cloud) + 0.95 * cloud
