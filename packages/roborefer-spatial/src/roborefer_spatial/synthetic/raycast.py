"""A small ray caster for furnished rooms: colour and exact visibility of every object.

World frame: x and y span the floor in metres, z is up. Camera frame (OpenCV): x right, y down, z forward; one
ray through each pixel centre, so a mask says which object that ray meets first. Arrays are float32:
rays and points (..., 3), depth (h, w) in metres along the ray, colour (h, w, 3) in 0..1.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Window = tuple[slice, slice]
Shape = Literal["box", "cylinder", "ellipsoid"]
_FAR = np.float32(np.inf)


@dataclass(frozen=True, slots=True)
class Solid:
    """A box, an upright cylinder or an ellipsoid; half-sizes (3,) in metres, turned by `yaw` about z."""

    shape: Shape
    center: tuple[float, float, float]
    half: tuple[float, float, float]
    rgb: tuple[float, float, float]
    yaw: float = 0.0
    grain: float = 0.0


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera: position in metres, target it looks at, focal length in pixels, image size."""

    position: tuple[float, float, float]
    target: tuple[float, float, float]
    focal_px: float
    size_wh: tuple[int, int]

    @property
    def rotation(self) -> Array:
        """R_world_cam (3, 3): columns are the camera's x (right), y (down) and z (forward) axes."""
        return _rotation(self.position, self.target)

    def rays(self) -> Array:
        """Return unit directions (h, w, 3) in the world frame through the pixel centres."""
        width, height = self.size_wh
        x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / self.focal_px
        y = (np.arange(height, dtype=np.float32) + 0.5 - height / 2) / self.focal_px
        camera = np.stack(np.broadcast_arrays(x[None, :], y[:, None], np.float32(1)), axis=-1)
        camera = camera / np.linalg.norm(camera, axis=-1, keepdims=True)
        return (camera @ self.rotation.T).astype(np.float32)

    def window(self, solid: Solid) -> Window | None:
        """Return the pixel window that can see the solid, the whole image if it is beside the camera."""
        width, height = self.size_wh
        signs = np.array([(i, j, k) for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)])
        corners = (signs * solid.half) @ _turn(solid.yaw).T + solid.center
        x, y, z = ((corners - self.position) @ self.rotation).T
        if (z <= 0.05).all():
            return None
        if (z <= 0.05).any():
            return slice(0, height), slice(0, width)
        cols, rows = self.focal_px * x / z + width / 2, self.focal_px * y / z + height / 2
        left, right = max(int(cols.min()) - 1, 0), min(int(cols.max()) + 2, width)
        top, bottom = max(int(rows.min()) - 1, 0), min(int(rows.max()) + 2, height)
        return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


@functools.lru_cache(maxsize=64)  # asked for once for every solid that a camera may see
def _rotation(position: tuple[float, float, float], target: tuple[float, float, float]) -> Array:
    forward = np.subtract(target, position)
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right = right / np.linalg.norm(right)
    axes = np.stack([right, np.cross(forward, right), forward], axis=1).astype(np.float32)
    axes.flags.writeable = False
    return axes


def cast(solid: Solid, origin: tuple[float, float, float], rays: Array) -> tuple[Array, Array, Array]:
    """Intersect rays with a solid.

    Returns
    -------
    depth (h, w) in metres (infinite where missed), outward unit normal (h, w, 3) and hit point (h, w, 3) in
    metres; normal and point are in the solid's own turned frame.
    """
    turn = _turn(solid.yaw).astype(np.float32)
    start = (np.subtract(origin, solid.center) @ turn).astype(np.float32)
    direction = rays @ turn
    half = np.asarray(solid.half, np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        if solid.shape == "box":
            depth, normal = _box(start, direction, half)
        elif solid.shape == "cylinder":
            depth, normal = _cylinder(start, direction, half)
        else:
            depth, normal = _ellipsoid(start, direction, half)
    depth = np.where(depth > 1e-3, depth, _FAR).astype(np.float32)
    point = start + np.where(np.isfinite(depth), depth, 0)[..., None] * direction
    return depth, normal, point


def _turn(yaw: float) -> NDArray[np.float64]:
    """Return R_world_solid for a turn about z."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def _box(start: Array, direction: Array, half: Array) -> tuple[Array, Array]:
    """Intersect with a box by slabs: the last entry before the first exit."""
    toward = np.copysign(half, direction)  # also for 0, whose quotients are then infinite, not 0 / 0
    near, far = (-toward - start) / direction, (toward - start) / direction
    entry, axis = near.max(axis=-1), near.argmax(axis=-1)
    depth = np.where(entry <= far.min(axis=-1), entry, _FAR)
    normal = np.zeros_like(direction)
    facing = -np.sign(np.take_along_axis(direction, axis[..., None], -1))
    np.put_along_axis(normal, axis[..., None], facing, -1)
    return depth, normal


def _cylinder(start: Array, direction: Array, half: Array) -> tuple[Array, Array]:
    """Intersect with an upright (elliptic) cylinder: its side, then its caps."""
    side, normal = _quadric(start, direction, half, axes=2)
    height = start[2] + side * direction[..., 2]
    side = np.where(np.abs(height) <= half[2], side, _FAR)
    sign = -np.sign(direction[..., 2])
    cap = (sign * half[2] - start[2]) / direction[..., 2]
    at = (start[:2] + cap[..., None] * direction[..., :2]) / half[:2]
    cap = np.where((at**2).sum(-1) <= 1, cap, _FAR)
    on_cap = cap < side
    normal = np.where(on_cap[..., None], np.stack([0 * sign, 0 * sign, sign], -1), normal)
    return np.where(on_cap, cap, side), normal


def _ellipsoid(start: Array, direction: Array, half: Array) -> tuple[Array, Array]:
    return _quadric(start, direction, half, axes=3)


def _quadric(start: Array, direction: Array, half: Array, axes: int) -> tuple[Array, Array]:
    """Intersect with the unit circle (axes=2) or sphere (axes=3) after scaling by the half-sizes."""
    s, d = start[:axes] / half[:axes], direction[..., :axes] / half[:axes]
    a, b, c = (d**2).sum(-1), (d * s).sum(-1), (s**2).sum() - 1
    root = b**2 - a * c
    depth = np.where(root >= 0, (-b - np.sqrt(np.maximum(root, 0))) / a, _FAR)
    flat = (s + np.where(np.isfinite(depth), depth, 0)[..., None] * d) / half[:axes]
    normal = np.zeros_like(direction)
    normal[..., :axes] = flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-9)
    return depth, normal
