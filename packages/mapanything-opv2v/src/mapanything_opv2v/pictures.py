"""Arrays as pictures for people: ranges in colour, masks in colour, labelled sheets."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from mapanything_opv2v.panorama import Panorama
from mapanything_opv2v.rawdata import SKY

Picture = npt.NDArray[np.uint8]

NEAR_M, FAR_M = 2.0, 100.0
"""Ends of the colour scale of ranges (logarithmic)."""

LOW_M, HIGH_M = -2.5, 5.5
"""Ends of the colour scale of heights over the LiDAR, which OPV2V has 1.9 m above the road."""

NOTHING_RGB, SKY_RGB, RANGE_RGB, COLOR_ONLY_RGB, FILLED_RGB = (
    (24, 24, 28),
    (135, 180, 225),
    (70, 160, 90),
    (120, 120, 120),
    (230, 170, 60),
)


def range_ends(range_m: npt.NDArray[np.floating] | None) -> tuple[float, float]:
    """Return the ends of the colour scale of distances: a street's, or tenths of it where nearly all is nearer.

    Examples
    --------
    >>> range_ends(np.array([5.0, 80.0])), range_ends(np.array([1.0, 4.0])), range_ends(None)
    ((2.0, 100.0), (0.2, 10.0), (2.0, 100.0))
    """
    known = np.empty(0) if range_m is None else range_m[range_m > 0]
    most = float(np.percentile(known, 95)) if known.size else FAR_M
    tenths = 0
    while tenths < 4 and most < FAR_M / 10 ** (tenths + 1):
        tenths += 1
    return NEAR_M / 10**tenths, FAR_M / 10**tenths


def color_ranges(
    range_m: npt.NDArray[np.floating],
    nothing: tuple[int, int, int] = NOTHING_RGB,
    ends_m: tuple[float, float] = (NEAR_M, FAR_M),
) -> Picture:
    """Return distances (H, W) in metres as (H, W, 3) RGB: red near, blue far; 0 dark, sky pale blue."""
    near, far = ends_m
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.log(range_m / near) / np.log(far / near)
    value = np.rint(255 * (1 - np.clip(np.nan_to_num(share), 0, 1))).astype(np.uint8)
    picture = cv2.cvtColor(cv2.applyColorMap(value, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    picture[range_m == 0] = nothing
    picture[range_m == SKY] = SKY_RGB
    return picture


def color_heights(height_m: npt.NDArray[np.floating]) -> Picture:
    """Return heights (N,) relative to a vehicle's LiDAR as (N, 3) RGB: blue at the road, red from `HIGH_M` on."""
    share = np.clip((height_m - LOW_M) / (HIGH_M - LOW_M), 0, 1)
    value = np.rint(255 * share).astype(np.uint8)[:, None]
    return cv2.cvtColor(cv2.applyColorMap(value, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)[:, 0]


def color_errors(error_m: npt.NDArray[np.floating], known: npt.NDArray[np.bool_], worst_m: float = 1.0) -> Picture:
    """Return errors (H, W) in metres as (H, W, 3) RGB: black none, white `worst_m`; unknown dark blue."""
    value = np.rint(255 * np.clip(error_m / worst_m, 0, 1)).astype(np.uint8)
    picture = cv2.cvtColor(cv2.applyColorMap(value, cv2.COLORMAP_HOT), cv2.COLOR_BGR2RGB)
    picture[~known] = (20, 24, 48)
    return picture


def color_masks(panorama: Panorama) -> Picture:
    """Return the masks of a panorama as (H, W, 3) RGB: range green, sky blue, else grey, filled orange."""
    picture = np.empty((*panorama.covered.shape, 3), np.uint8)
    picture[:] = NOTHING_RGB
    picture[panorama.covered] = COLOR_ONLY_RGB
    picture[panorama.sky] = SKY_RGB
    picture[panorama.has_range] = RANGE_RGB
    picture[panorama.filled] = FILLED_RGB
    return picture


def sheet(rows: Sequence[tuple[str, Picture]]) -> Picture:
    """Stack labelled pictures of one width."""
    font = ImageFont.load_default(15)
    parts = []
    for label, picture in rows:
        lines = _wrapped(label, picture.shape[1] - 12, font)
        band = Image.new("RGB", (picture.shape[1], 6 + 18 * len(lines)), (250, 250, 250))
        for number, line in enumerate(lines):
            ImageDraw.Draw(band).text((6, 3 + 18 * number), line, fill=(20, 20, 20), font=font)
        parts += [np.asarray(band), picture]
    return np.vstack(parts)


def _wrapped(label: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """Return a label as lines of at most so many pixels; a longer word stands alone."""
    lines = [""]
    for word in label.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def encode_png(picture: Picture) -> bytes:
    """Return an RGB picture as PNG."""
    _, data = cv2.imencode(".png", picture[..., ::-1])
    return data.tobytes()
