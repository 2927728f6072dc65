"""Camera images and depth maps.

A depth map holds z-depth (distance along the camera's forward axis) in metres, float32 (H, W):
``> 0`` measured, ``0`` unknown, ``SKY`` (-1) known to be sky. The host reads the three the same way
(valid, invalid, ambiguous).

On disk a depth map is ``.npy`` (float, metres) or a ``.png``: 16 bits (`PNG_DEPTH_UNITS_PER_M` units a metre in ours,
so that CARLA's 1000 m far plane fits; 0 unknown, 65535 sky), 8-bit colours (CARLA's 24-bit code, red lowest, of 1000 m)
or 8-bit grey (metres, as HEAL's public loader takes OPV2V-H's ``{frame}_depth{K}.png``; 0 and 255, its end, unknown).
Values from `SKY_DISTANCE_M` on are sky.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from mapanything_opv2v.arrays import load_npy
from mapanything_opv2v.files import whole_file

SKY = -1.0
"""Marks sky in a depth map in memory."""

SKY_DISTANCE_M = 999.0
"""Depth from which on a file's pixel is sky: CARLA's depth camera ends at 1000 m."""

PNG_DEPTH_UNITS_PER_M = 64
"""Units a metre of a depth PNG: steps of 15.6 mm up to 1023.9 m."""

MAX_PIXELS = 64_000_000
"""Larger images are refused before they are decoded."""

CARLA_FAR_M = 1000.0
"""What the highest code of CARLA's 24-bit depth stands for."""

_UNITS_VARIABLE = "OPV2V_PNG_UNITS_PER_M"
_PNG_KEY = "depth_units_per_m"
_PNG_SKY = 65535
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def load_image(path: str | Path) -> npt.NDArray[np.uint8]:
    """Return an image as (H, W, 3) uint8 RGB: a PNG, or by another suffix what `open_photograph` reads.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing, or is not a whole image; the message names it.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":  # of a rig; OPV2V's are PNG
        return np.array(open_photograph(path))
    data = path.read_bytes()
    _check_png(data, path)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError(f"{path}: not a readable image ({len(data)} bytes); copy the file again")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)  # type: ignore[return-value]


def open_photograph(path: Path) -> Image.Image:
    """Return an image of any usual kind as RGB, turned upright as its camera noted.

    Raises
    ------
    ValueError
        If it is no whole image, or too large; names it.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{path}: {image.width} x {image.height} pixels, expected at most {MAX_PIXELS}")
            return ImageOps.exif_transpose(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{path}: not a readable image; copy the file again, or take it out of the folder") from error


def image_size(path: str | Path) -> tuple[int, int]:
    """Return width and height of a PNG from its header, without decoding it.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing or not a PNG.
    """
    path = Path(path)
    with path.open("rb") as stream:
        head = stream.read(24)
    if len(head) < 24 or not head.startswith(_PNG_MAGIC) or head[12:16] != b"IHDR":
        raise ValueError(f"{path}: not a PNG file (begins with {head[:8]!r})")
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def load_depth(path: str | Path, *, png_units_per_m: float | None = None) -> npt.NDArray[np.float32]:
    """Return a depth map: (H, W) float32 z-depth in metres, 0 unknown, `SKY` (-1) sky.

    Parameters
    ----------
    path : str or Path
        ``.npy`` in metres or ``.png``, see the module.
    png_units_per_m : float, optional
        Scale of a 16-bit PNG that does not state its own (text chunk ``depth_units_per_m``, which `save_depth`
        writes); by default what `assume_png_units` has set.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing, truncated, of another type or shape, holds NaN, or is a PNG without a scale.
    """
    path = Path(path)
    if path.suffix == ".npy":
        return _load_npy(path)
    if path.suffix == ".png":
        return _load_png(path, png_units_per_m)
    raise ValueError(f"{path}: depth must be .npy (metres) or 16-bit .png, got {path.suffix!r}")


def save_depth(path: str | Path, depth_z_m: npt.NDArray[np.floating[Any]]) -> None:
    """Write a depth map, whole or not at all, in the format that the suffix names.

    Parameters
    ----------
    path : str or Path
        Ends in ``.npy`` (float32 metres, exact) or ``.png`` (16 bits, rounded to 1/64 m).
    depth_z_m : (H, W) float
        Metres, 0 unknown, `SKY` (-1) or >= `SKY_DISTANCE_M` sky.

    Raises
    ------
    ValueError
        If the values or the suffix do not fit.
    """
    path, depth = Path(path), np.asarray(depth_z_m, dtype=np.float32)
    if depth.ndim != 2 or np.isnan(depth).any():
        raise ValueError(f"{path}: expected an (H, W) depth map without NaN, got shape {depth.shape}")
    sky = (depth < 0) | (depth >= SKY_DISTANCE_M)
    if path.suffix == ".npy":
        with whole_file(path) as stream:
            np.save(stream, np.where(sky, np.float32(1000.0), depth), allow_pickle=False)
    elif path.suffix == ".png":
        units = np.rint(np.where(sky, 0, depth).astype(np.float64) * PNG_DEPTH_UNITS_PER_M)
        # a measured depth below half a unit must not turn into "unknown"
        units = np.where(depth > 0, np.clip(units, 1, _PNG_SKY - 1), units)
        text = PngImagePlugin.PngInfo()
        text.add_text(_PNG_KEY, str(PNG_DEPTH_UNITS_PER_M))
        image = Image.fromarray(np.where(sky, _PNG_SKY, units).astype(np.uint16))
        with whole_file(path) as stream:
            image.save(stream, format="PNG", pnginfo=text, compress_level=3)
    else:
        raise ValueError(f"{path}: depth is written as .npy or .png, got {path.suffix!r}")


def _load_npy(path: Path) -> npt.NDArray[np.float32]:
    try:
        array = load_npy(path)
    except ValueError as error:
        raise ValueError(f"{path}: not a whole .npy array: {error}") from error
    if array.ndim not in (2, 3) or array.dtype.kind != "f":
        raise ValueError(f"{path}: expected an (H, W) array of floats in metres, got {array.dtype} {array.shape}")
    if array.ndim == 3:
        if array.shape[2] != 1:
            raise ValueError(f"{path}: expected shape (H, W) or (H, W, 1), got {array.shape}")
        array = array[..., 0]
    depth = np.ascontiguousarray(array, dtype=np.float32)
    low, high = (float(depth.min()), float(depth.max())) if depth.size else (0.0, 0.0)
    if np.isnan(low):
        raise ValueError(f"{path}: {int(np.isnan(depth).sum())} pixels are NaN; 0 means unknown, write that")
    if low < 0 or high >= SKY_DISTANCE_M:
        depth[(depth < 0) | (depth >= SKY_DISTANCE_M)] = SKY
    return depth


def _load_png(path: Path, png_units_per_m: float | None) -> npt.NDArray[np.float32]:
    data = path.read_bytes()
    _check_png(data, path)
    units = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if units is not None and units.dtype == np.uint8:
        return _decode_8_bits(units.astype(np.uint8, copy=False))
    if units is None or units.dtype != np.uint16 or units.ndim != 2:
        got = "no image" if units is None else f"{units.dtype} {units.shape}"
        raise ValueError(f"{path}: expected a 16-bit single-channel PNG, or one of 8 bits, got {got}")
    stated = _png_text(data, _PNG_KEY.encode())
    png_units_per_m = png_units_per_m or _assumed_units()
    if stated is None and png_units_per_m is None:
        raise ValueError(
            f"{path}: the PNG states no {_PNG_KEY}; say its scale with --png-units-per-m (in configs "
            "dataset.opv2v.png_units_per_m, in Python png_units_per_m), such as 256, or use .npy"
        )
    try:
        scale = float(stated if stated is not None else png_units_per_m)  # type: ignore[arg-type]
    except ValueError:
        raise ValueError(f"{path}: {_PNG_KEY} is {stated!r}, expected a number") from None
    if not 0 < scale < 1e6:
        raise ValueError(f"{path}: {_PNG_KEY} is {scale}, expected a positive number")
    depth = units.astype(np.float32) / np.float32(scale)
    depth[(units == _PNG_SKY) | (depth >= SKY_DISTANCE_M)] = SKY
    return depth


def _decode_8_bits(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return metres of an 8-bit depth image: CARLA's code in colours, metres in grey."""
    if pixels.ndim == 2:
        depth = pixels.astype(np.float32)
        depth[pixels == 255] = 0  # 255 m and whatever is farther: nothing is known of it
        return depth
    blue, green, red = (pixels[..., channel].astype(np.float64) for channel in range(3))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return _decode_8_bits(np.ascontiguousarray(pixels[..., 0]))  # grey, saved with three channels
    metres = (red + 256 * green + 65536 * blue) / (256**3 - 1) * CARLA_FAR_M
    depth = metres.astype(np.float32)
    depth[metres >= SKY_DISTANCE_M] = SKY
    return depth


def assume_png_units(units_per_m: float | None) -> None:
    """Set the scale of 16-bit depth PNGs that state none, for this process and those that it starts.

    For command lines, which read one data set; data sets in one process each have their own (`index_tree`).

    Raises
    ------
    ValueError
        If it is no positive number.
    """
    if units_per_m is None:
        os.environ.pop(_UNITS_VARIABLE, None)
        return
    os.environ[_UNITS_VARIABLE] = repr(check_png_units(units_per_m))


def _assumed_units() -> float | None:
    text = os.environ.get(_UNITS_VARIABLE)
    return None if text is None else float(text)


def check_png_units(units_per_m: float) -> float:
    """Return a scale of depth PNGs, units a metre.

    Raises
    ------
    ValueError
        If it is no positive number.
    """
    if isinstance(units_per_m, bool) or not isinstance(units_per_m, (int, float)) or not 0 < units_per_m < 1e6:
        raise ValueError(f"png_units_per_m={units_per_m!r}: expected a positive number of units a metre, such as 256")
    return float(units_per_m)


def _check_png(data: bytes, path: Path) -> None:
    """Refuse PNGs that are cut short (decoders fill the rest with grey) or too large to decode."""
    if not data.startswith(_PNG_MAGIC):
        raise ValueError(f"{path}: not a PNG file (begins with {data[:8]!r})")
    if data[12:16] != b"IHDR" or b"IEND" not in data[-12:]:
        raise ValueError(f"{path}: truncated PNG ({len(data)} bytes, no end marker); copy the file again")
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if width * height > MAX_PIXELS:
        raise ValueError(f"{path}: {width} x {height} pixels, expected at most {MAX_PIXELS}")


def _png_text(data: bytes, keyword: bytes) -> str | None:
    """Return the value of a tEXt chunk before the pixels, or None."""
    position = 8
    while position + 8 <= len(data):
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        if kind == b"IDAT":
            return None
        body = data[position + 8 : position + 8 + length]
        if kind == b"tEXt" and body.partition(b"\0")[0] == keyword:
            return body.partition(b"\0")[2].decode("latin-1")
        position += 12 + length
    return None
