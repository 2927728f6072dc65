"""One recording to one scene of an x3 tree."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from roborefer_spatial import files
from roborefer_spatial.importing import sightings
from roborefer_spatial.importing.inpainting import OPENCV, Inpainter, inpainter
from roborefer_spatial.importing.patches import Patch, carried, find_patches
from roborefer_spatial.importing.recording import (
    Floats,
    Frame,
    Labels,
    Mask,
    Recording,
    back_project,
    color_size,
    evenly,
    on_color,
    project,
    read_color,
    read_depth,
    read_labels,
    to_world,
)
from roborefer_spatial.importing.sightings import Sighting
from roborefer_spatial.tasks.png import encode_png

RECORD = "views.json"
"""What is written beside an object's pictures: what each view shows of it, or why it does not show it."""
_POINTS_A_FRAME, _POINTS = 60, 600


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """How recordings become scenes.

    Attributes
    ----------
    objects, views, not_visible
        Most objects a scene; views an object; how many of these are not to show it.
    min_visible, min_size
        A view shows an object if this share of its points is seen, and its mask is this share of the picture.
    dilate
        Growth of the dilated mask, as a share of the picture's diagonal.
    inpainter
        "opencv", or a command with {image}, {mask} and {out}.
    max_frames
        Frames looked at, evenly spread.
    instances
        "auto", "frames", "mesh" or "none", see `layouts.load`.
    """

    objects: int = 15
    views: int = 5
    not_visible: int = 1
    min_visible: float = 0.3
    min_size: float = 0.002
    dilate: float = 0.02
    inpainter: str = OPENCV
    max_frames: int = 200
    instances: str = "auto"

    def __post_init__(self) -> None:
        inpainter(self.inpainter)
        if self.objects < 1 or self.views < 2 or self.max_frames < 2 or not 0 <= self.not_visible < self.views:
            raise ValueError(
                "expected --objects >= 1, --views >= 2, --max-frames >= 2 and 0 <= --not-visible < --views; got "
                f"{self.objects}, {self.views}, {self.max_frames} and {self.not_visible}"
            )
        if not (0 <= self.min_visible <= 1 and 0 <= self.min_size < 1 and 0 < self.dilate < 0.5):
            raise ValueError(
                "expected 0 <= --min-visible <= 1, 0 <= --min-size < 1 and 0 < --dilate < 0.5; got "
                f"{self.min_visible}, {self.min_size} and {self.dilate}"
            )


@dataclass(frozen=True, slots=True)
class SceneSummary:
    """What was written of a scene; `left_out` says of how many objects too little is seen."""

    scene: str
    split: str
    objects: int
    views: int
    not_visible: int
    left_out: int
    regions: bool


def write_scene(
    recording: Recording, folder: Path, split: str, options: ImportOptions, inpaint: Inpainter | None = None
) -> SceneSummary:
    """Write a recording's objects below `folder`, which the caller makes whole or not at all.

    Without instances the objects are patches, and there are no inpainted pictures.
    """
    frames = tuple(evenly(recording.frames, options.max_frames))
    recording = replace(recording, frames=frames)
    source = _Instances(recording) if recording.has_instances else _Patches(recording, 2 * options.objects)
    table = source.sightings(options)
    centres = np.stack([frame.pose[:3, 3] for frame in frames])
    chosen: dict[int, list[int]] = {}
    for number, seen in table.items():
        picked = sightings.choose(seen, centres, options.views, options.not_visible, source.first(number))
        if len(picked) >= 2:
            chosen[number] = picked
    kept = sorted(chosen, key=lambda number: (-_worth(table[number], chosen[number]), number))[: options.objects]
    paint = (inpaint or inpainter(options.inpainter)) if recording.has_instances else None
    for number in sorted(kept):
        _write_object(folder / f"uid_{number}", source, number, chosen[number], table[number], options, paint)
    states = [table[number][index].state for number in kept for index in chosen[number]]
    absent = sum(state != sightings.VISIBLE for state in states)
    left_out = len(table) - len(kept)
    return SceneSummary(recording.scene, split, len(kept), len(states), absent, left_out, not recording.has_instances)


def _worth(seen: list[Sighting], picked: list[int]) -> float:
    """Return how much an object is worth asking about: in how many views it is, then how whole it is there."""
    return sum(seen[index].state == sightings.VISIBLE for index in picked) + float(
        np.mean([seen[index].share for index in picked])
    )


class _Instances:
    """Objects that a recording's labels name."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._last: tuple[int, Labels] | None = None

    def first(self, number: int) -> int | None:
        """Return no frame: the one that shows the object largest is its best view."""
        return None

    def labels(self, index: int) -> Labels:
        """Return a frame's object numbers; the last one is kept."""
        if self._last is None or self._last[0] != index:
            frame = self.recording.frames[index]
            self._last = index, read_labels(frame, self.recording, color_size(frame))
        return self._last[1]

    def mask(self, number: int, index: int) -> Mask:
        """Return an object's mask (h, w) in a frame's colour picture."""
        return np.asarray(self.labels(index) == number)

    def _on_depth(self, index: int, depth: Floats) -> Labels:
        labels = self.labels(index)
        rays = back_project(np.ones_like(depth), self.recording.k_depth)
        pixel, inside = project(rays, self.recording.k_color, (labels.shape[1], labels.shape[0]))
        return np.asarray(np.where(inside, labels[pixel[..., 1], pixel[..., 0]], 0))

    def sightings(self, options: ImportOptions) -> dict[int, list[Sighting]]:
        """Return, for each object, what every frame shows of it."""
        points: dict[int, list[Floats]] = {}
        for index, frame in enumerate(self.recording.frames):
            depth = read_depth(frame, self.recording)
            labels = np.where(depth > 0, self._on_depth(index, depth), 0)
            world = to_world(back_project(depth, self.recording.k_depth), frame.pose)
            for number in np.unique(labels[labels > 0]):
                xyz = world[labels == number]
                points.setdefault(int(number), []).append(xyz[:: max(len(xyz) // _POINTS_A_FRAME, 1)])
        clouds = {number: np.concatenate(parts) for number, parts in sorted(points.items())}
        clouds = {number: cloud[:: max(len(cloud) // _POINTS, 1)] for number, cloud in clouds.items()}
        found: dict[int, list[Sighting]] = {number: [] for number in clouds}
        for index, frame in enumerate(self.recording.frames):
            depth = read_depth(frame, self.recording)
            labels = self._on_depth(index, depth)
            for number, cloud in clouds.items():
                share, state = sightings.sight(cloud, depth, labels, number, frame.pose, self.recording)
                mask = self.mask(number, index)
                found[number].append(sightings.judged(share, state, mask, options.min_visible, options.min_size))
        return found


class _Patches:
    """Regions of our own."""

    def __init__(self, recording: Recording, most: int) -> None:
        self.recording = recording
        self.patches: dict[int, Patch] = dict(enumerate(find_patches(recording, most), 1))

    def first(self, number: int) -> int | None:
        """Return the frame that the patch was made in."""
        return self.patches[number].anchor

    def mask(self, number: int, index: int) -> Mask:
        """Return a patch's mask (h, w) in a frame's colour picture."""
        depth, world = self._frame(self.recording.frames[index])
        size_wh = color_size(self.recording.frames[index])
        patch = self.patches[number]
        on_depth = patch.mask if patch.anchor == index else carried(patch, world, depth > 0, self.recording)
        return np.asarray(on_color(on_depth, self.recording, size_wh))

    def _frame(self, frame: Frame) -> tuple[Floats, Floats]:
        depth = read_depth(frame, self.recording)
        return depth, to_world(back_project(depth, self.recording.k_depth), frame.pose)

    def sightings(self, options: ImportOptions) -> dict[int, list[Sighting]]:
        """Return, for each patch, what every frame shows of it."""
        found: dict[int, list[Sighting]] = {number: [] for number in self.patches}
        for index, frame in enumerate(self.recording.frames):
            depth, world = self._frame(frame)
            for number, patch in self.patches.items():
                share, state = sightings.sight(patch.points, depth, None, number, frame.pose, self.recording)
                if patch.anchor == index:
                    mask = patch.mask
                elif state == sightings.OUT_OF_VIEW:
                    mask = np.zeros_like(patch.mask)
                else:
                    mask = carried(patch, world, depth > 0, self.recording)
                found[number].append(sightings.judged(share, state, mask, options.min_visible, options.min_size))
        return found


def _write_object(
    folder: Path,
    source: _Instances | _Patches,
    number: int,
    picked: list[int],
    seen: list[Sighting],
    options: ImportOptions,
    paint: Inpainter | None,
) -> None:
    rows: list[dict[str, Any]] = []
    for view, index in enumerate(picked, 1):
        frame, sighting = source.recording.frames[index], seen[index]
        picture, mask = read_color(frame), source.mask(number, index)
        if sighting.state != sightings.VISIBLE:
            mask = np.zeros_like(mask)
        dilated = dilate(mask, options.dilate)
        stem = f"{view:02d}_{frame.name}"
        pictures = {"original": picture}
        if paint is not None:
            pictures["inpainted"] = paint(picture, dilated) if mask.any() else picture
        for kind, image in pictures.items():
            files.write_bytes(folder / f"{stem}_{kind}.png", encode_png(image))
        for kind, flags in (("mask", mask), ("mask_dialated", dilated)):
            files.write_bytes(folder / f"{stem}_{kind}.png", _mask_png(flags))
        rows.append({"view": f"{view:02d}", "frame": frame.name, **asdict(sighting)})
    files.write_json(folder / RECORD, {"source": "patch" if paint is None else "instance", "views": rows})


def dilate(mask: Mask, share: float) -> Mask:
    """Grow a mask by a share of the picture's diagonal, at least one pixel, in every direction (a square)."""
    import cv2

    reach = max(round(share * float(np.hypot(*mask.shape))), 1)
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((2 * reach + 1,) * 2, np.uint8)) > 0)


def _mask_png(mask: Mask) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(stream, "PNG", compress_level=1)
    return stream.getvalue()
