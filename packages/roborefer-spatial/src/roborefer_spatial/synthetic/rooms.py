"""Furnished rooms for `raycast`: what stands where, how it looks, and which cameras look at it."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from roborefer_spatial.synthetic.furniture import KINDS, WOOD, Rgb, Thing, place
from roborefer_spatial.synthetic.raycast import Array, Camera, Solid, Window, cast

_WALLS: tuple[Rgb, ...] = ((0.90, 0.88, 0.82), (0.80, 0.86, 0.88), (0.88, 0.82, 0.78), (0.82, 0.87, 0.80))
_LIGHT = (0.35, -0.25, 0.9)


@dataclass(frozen=True)
class Room:
    """A box room `size` (x, y, z) in metres with one corner at the origin, and the things in it."""

    size: tuple[float, float, float]
    wall: Rgb
    floor: Rgb
    things: list[Thing]
    panels: list[tuple[int, float, float, float, float, Rgb]] = field(default_factory=list)
    """Doors, windows and pictures: (wall 0..3, along from, along to, z from, z to, colour)."""


@dataclass(frozen=True)
class Layer:
    """One thing in one camera: its window, depth and colour in it, its shade on the whole floor."""

    window: Window | None
    depth: Array
    rgb: Array
    shade: Array


@dataclass(frozen=True)
class Shot:
    """One camera's picture of a room, kept in layers so that a thing can be left out."""

    room: Array
    layers: list[Layer]

    def compose(self, without: int | None = None) -> tuple[Array, NDArray[np.int16]]:
        """Return colour (h, w, 3) in 0..1 and the number of the thing that each pixel shows (-1: the room).

        A thing that is left out takes its shadow with it: the picture is that of the room without the thing.
        """
        rgb = self.room.copy()
        for index, layer in enumerate(self.layers):
            if index != without:
                rgb *= layer.shade[..., None]
        depth = np.full(rgb.shape[:2], np.inf, np.float32)
        shown = np.full(rgb.shape[:2], -1, np.int16)
        for index, layer in enumerate(self.layers):
            if index == without or layer.window is None:
                continue
            nearer = layer.depth < depth[layer.window]
            depth[layer.window][nearer] = layer.depth[nearer]
            rgb[layer.window][nearer] = layer.rgb[nearer]
            shown[layer.window][nearer] = index
        return rgb, shown


def shoot(room: Room, camera: Camera) -> Shot:
    """Render a room from a camera."""
    rays = camera.rays()
    rgb, floor = _shell(room, camera.position, rays)
    return Shot(rgb, [_layer(thing, camera, rays, floor) for thing in room.things])


def _layer(thing: Thing, camera: Camera, rays: Array, floor: Array) -> Layer:
    """Render one thing; `floor` (h, w, 2) is where each ray meets the floor, NaN elsewhere."""
    x, y, radius = thing.circle
    distance = ((floor[..., 0] - x) ** 2 + (floor[..., 1] - y) ** 2) / (0.9 * radius) ** 2
    shade = np.where(np.isnan(distance), 1, 1 - 0.45 * np.exp(-distance)).astype(np.float32)
    windows = [camera.window(solid) for solid in thing.solids]
    seen = [window for window in windows if window is not None]
    if not seen:
        empty = np.zeros((0, 0), np.float32)
        return Layer(None, empty, np.zeros((0, 0, 3), np.float32), shade)
    rows = slice(min(w[0].start for w in seen), max(w[0].stop for w in seen))
    cols = slice(min(w[1].start for w in seen), max(w[1].stop for w in seen))
    depth = np.full((rows.stop - rows.start, cols.stop - cols.start), np.inf, np.float32)
    rgb = np.zeros((*depth.shape, 3), np.float32)
    for solid, window in zip(thing.solids, windows):
        if window is None:
            continue
        part = (
            slice(window[0].start - rows.start, window[0].stop - rows.start),
            slice(window[1].start - cols.start, window[1].stop - cols.start),
        )
        solid_depth, normal, point = cast(solid, camera.position, rays[window])
        nearer = solid_depth < depth[part]
        depth[part][nearer] = solid_depth[nearer]
        rgb[part][nearer] = _shaded(solid, normal, point)[nearer]
    return Layer((rows, cols), depth, rgb, shade)


def _shaded(solid: Solid, normal: Array, point: Array) -> Array:
    """Return a solid's colour: Lambert's law for one light, ambient light, and wood grain."""
    cos, sin = np.cos(solid.yaw), np.sin(solid.yaw)
    light = _f32((cos * _LIGHT[0] + sin * _LIGHT[1], cos * _LIGHT[1] - sin * _LIGHT[0], _LIGHT[2]))
    lit = 0.55 + 0.45 * np.clip(normal @ (light / np.linalg.norm(light)), -0.6, 1)
    if solid.grain:
        x, y, z = point[..., 0], point[..., 1], point[..., 2]
        lit = lit * (1 + solid.grain * np.sin(60 * x + 9 * np.sin(4 * y + 5 * z)) * np.cos(23 * z + 31 * y))
    return np.clip(lit[..., None] * _f32(solid.rgb), 0, 1).astype(np.float32)


def _shell(room: Room, origin: tuple[float, float, float], rays: Array) -> tuple[Array, Array]:
    """Render floor, ceiling and walls: colour (h, w, 3), floor points (h, w, 2), NaN off the floor."""
    size = np.asarray(room.size, np.float32)
    with np.errstate(divide="ignore"):
        exits = (np.where(rays > 0, size, 0) - _f32(origin)) / rays
    axis = exits.argmin(axis=-1)
    point = _f32(origin) + exits.min(axis=-1)[..., None] * rays
    x, y, z = point[..., 0], point[..., 1], point[..., 2]
    rgb = np.empty_like(rays)
    up = axis == 2
    floor, ceiling = up & (rays[..., 2] < 0), up & (rays[..., 2] >= 0)
    rgb[floor] = _planks(room.floor, x[floor], y[floor])
    rgb[ceiling] = (0.95 - 0.02 * np.hypot(x[ceiling] - size[0] / 2, y[ceiling] - size[1] / 2))[:, None]
    for number in range(4):
        across = number // 2
        wall = (axis == across) & ((rays[..., across] > 0) == bool(number % 2))
        along, height = (y if across == 0 else x)[wall], z[wall]
        # lighter towards the ceiling, and every wall a little different, so that corners can be seen
        tone = 0.80 + 0.05 * (number % 2) - 0.05 * across + 0.05 * height
        colour = tone[:, None] * _f32(room.wall)
        colour[height < 0.09] = 0.93
        for panel_wall, start, stop, low, high, panel in room.panels:
            if panel_wall == number:
                inside = (along > start) & (along < stop) & (height > low) & (height < high)
                edge = inside & ((along < start + 0.05) | (along > stop - 0.05) | (height > high - 0.05))
                colour[inside] = panel
                colour[edge] = 0.55 * _f32(panel)
        rgb[wall] = colour
    ground = np.where(floor[..., None], point[..., :2], np.nan).astype(np.float32)
    return np.clip(rgb, 0, 1).astype(np.float32), ground


def _f32(values: tuple[float, ...]) -> Array:
    return np.asarray(values, dtype=np.float32)


def _planks(rgb: Rgb, x: Array, y: Array) -> Array:
    """Return the colour of a plank floor at (x, y) in metres."""
    row = np.floor(y / 0.14)
    column = np.floor((x + 0.47 * row) / 1.1)
    tone = 0.88 + 0.16 * np.modf(np.abs(np.sin(12.9898 * row + 78.233 * column) * 43758.5))[0]
    tone = tone + 0.03 * np.sin(70 * y + 5 * np.sin(3 * x + row))
    seam = (np.modf(y / 0.14)[0] < 0.05) | (np.modf(np.abs(x + 0.47 * row) / 1.1)[0] < 0.008)
    return (np.where(seam, 0.6, tone)[:, None] * _f32(rgb)).astype(np.float32)


def furnish(rng: np.random.Generator, things: int) -> Room:
    """Return a room with `things` pieces of furniture that do not touch (fewer when it is full)."""
    size = (float(rng.uniform(5.2, 6.8)), float(rng.uniform(4.6, 6.0)), 2.7)
    placed: list[Thing] = []
    for _ in range(4000):
        if len(placed) == things:
            break
        name = str(rng.choice(list(KINDS)))
        radius = KINDS[name][0]
        x, y = (float(rng.uniform(radius + 0.15, side - radius - 0.15)) for side in size[:2])
        if all(np.hypot(x - t.circle[0], y - t.circle[1]) > radius + t.circle[2] + 0.05 for t in placed):
            colour = colorsys.hsv_to_rgb(
                float(rng.random()), float(rng.uniform(0.35, 0.8)), float(rng.uniform(0.5, 0.9))
            )
            yaw = float(rng.choice(4)) * np.pi / 2 + float(rng.normal(0, 0.25))
            placed.append(place(name, x, y, yaw, colour, WOOD[int(rng.integers(len(WOOD)))]))
    panels = [_panel(rng, wall, size[1] if wall < 2 else size[0]) for wall in range(4)]
    wall, floor = _WALLS[int(rng.integers(len(_WALLS)))], WOOD[int(rng.integers(len(WOOD)))]
    return Room(size, wall, floor, placed, panels)


def _panel(rng: np.random.Generator, wall: int, length: float) -> tuple[int, float, float, float, float, Rgb]:
    """Return a window, a door or a picture on a wall."""
    kind = int(rng.integers(3))
    width = (1.4, 0.9, 0.8)[kind]
    start = float(rng.uniform(0.4, length - width - 0.4))
    low, high = ((0.9, 2.1), (0.0, 2.05), (1.2, 1.9))[kind]
    picture: Rgb = colorsys.hsv_to_rgb(float(rng.random()), 0.5, 0.6)
    colours: tuple[Rgb, ...] = ((0.75, 0.87, 0.97), (0.62, 0.48, 0.34), picture)
    return wall, start, start + width, low, high, colours[kind]


def cameras(rng: np.random.Generator, room: Room, views: int, size_wh: tuple[int, int]) -> list[Camera]:
    """Return hand-held cameras along the walls, each looking at some part of the room."""
    result = []
    width, depth, _ = room.size
    for _ in range(views):
        angle = rng.uniform(0, 2 * np.pi)
        at = (
            width / 2 + 0.46 * width * np.cos(angle),
            depth / 2 + 0.46 * depth * np.sin(angle),
            rng.uniform(1.4, 1.7),
        )
        at = (float(np.clip(at[0], 0.2, width - 0.2)), float(np.clip(at[1], 0.2, depth - 0.2)), float(at[2]))
        target = (
            float(rng.uniform(0.2, 0.8) * width),
            float(rng.uniform(0.2, 0.8) * depth),
            float(rng.uniform(0.3, 0.8)),
        )
        focal = size_wh[0] / (2 * np.tan(np.radians(rng.uniform(58, 68)) / 2))
        result.append(Camera(at, target, float(focal), size_wh))
    return result
