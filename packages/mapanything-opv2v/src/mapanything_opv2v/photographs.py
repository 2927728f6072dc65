"""Photographs of a folder as the images of one sample: no tree, no calibration, no truth.

A folder of photographs is one sample; a folder of such folders is one sample each. All images of a sample get one
size. Photographs are cut to its shape; panorama images are full turns and are never cut sideways.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.rawdata.images import open_photograph

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""Files that count as photographs, in any case."""

LONG_SIDE, PATCH = 518, 14
"""Default pixels of a photograph's longer side; sides are multiples of the model's patch."""

read = open_photograph


@dataclass(frozen=True)
class Folder:
    """One sample: a name and its images in order."""

    name: str
    paths: tuple[Path, ...]


def find_folders(root: str | Path) -> list[Folder]:
    """Return the samples of a folder: its own photographs, or those of each of its subfolders.

    Raises
    ------
    ValueError
        If there is no photograph, or photographs lie both in the folder and in its subfolders.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"--images {root}: not a folder; give a folder of photographs, or a folder of such folders")
    own = _photographs(root)
    below = [Folder(child.name, _photographs(child)) for child in sorted(root.iterdir()) if child.is_dir()]
    below = [folder for folder in below if folder.paths]
    if own and below:
        raise ValueError(
            f"--images {root}: photographs lie in it and in its subfolders ({below[0].name}, ...); which belong "
            "together? Give a folder of photographs, or a folder of such folders"
        )
    if not own and not below:
        raise ValueError(f"--images {root}: no photographs ({', '.join(SUFFIXES)}) in it or in its subfolders")
    return below or [Folder(root.resolve().name or "images", own)]


def _photographs(folder: Path) -> tuple[Path, ...]:
    found = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    return tuple(sorted(found, key=lambda path: _natural(path.name)))


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Return a key that puts image2 before image10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name)]


def photograph_size(image: Image.Image) -> tuple[int, int]:
    """Return the default size of a sample whose first photograph is this one.

    Examples
    --------
    >>> photograph_size(Image.new("RGB", (1600, 900)))
    (518, 294)
    """
    long, short = max(image.size), min(image.size)
    other = max(PATCH * 12, round(LONG_SIDE * short / long / PATCH) * PATCH)
    return (LONG_SIDE, other) if image.width >= image.height else (other, LONG_SIDE)


def load_photographs(paths: Sequence[Path], size_wh: tuple[int, int] | None) -> npt.NDArray[np.uint8]:
    """Return (V, H, W, 3) RGB; each scaled until it covers the size, then cut equally on both sides."""
    images = [read(path) for path in paths]
    size = size_wh or photograph_size(images[0])
    return np.stack([np.asarray(ImageOps.fit(image, size, Image.Resampling.LANCZOS)) for image in images])


def load_panoramas(paths: Sequence[Path], cylinder: Cylinder, *, equirectangular: bool) -> npt.NDArray[np.uint8]:
    """Return (V, H, W, 3) RGB of full turns, one for each file.

    Parameters
    ----------
    paths : sequence of Path
        Images whose columns run once around.
    cylinder : Cylinder
        Pixels to make.
    equirectangular : bool
        The images reach from straight down to straight up (twice as wide as high); the cylinder's rows are cut out.
        Else they show exactly the cylinder's rows.

    Raises
    ------
    ValueError
        If an equirectangular image is not twice as wide as high.
    """
    made = []
    for path in paths:
        image = read(path)
        box = (0.0, 0.0, float(image.width), float(image.height))
        if equirectangular:
            if abs(image.width - 2 * image.height) > 2:
                raise ValueError(
                    f"{path}: {image.width} x {image.height}, an equirectangular photograph is twice as wide as high; "
                    "without --equirectangular an image is taken to show exactly the panorama's rows"
                )
            top = cylinder.elevation_center_deg + cylinder.vertical_fov_deg / 2
            bottom = top - cylinder.vertical_fov_deg
            box = (0.0, (90 - top) / 180 * image.height, float(image.width), (90 - bottom) / 180 * image.height)
        size = (cylinder.width, cylinder.height)
        made.append(np.asarray(image.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)))
    return np.stack(made)
