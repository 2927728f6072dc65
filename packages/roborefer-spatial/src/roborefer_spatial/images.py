"""Images of the tasks and their coordinates: reading, overlay, side-by-side image, maps between frames.

Pixels are (column, row), columns to the right and rows downwards. A normalised coordinate is a fraction of
width and height; the centre of pixel (col, row) is ((col + 0.5) / w, (row + 0.5) / h), and the pixel of
(x, y) is (floor(x w), floor(y h)), which is what RoboRefer's scoring uses. Coordinates change frame in this
module only.

Arrays: images (h, w, 3) uint8 RGB; masks (h, w) bool.
"""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

MARK_RGB = (255, 0, 0)
MAX_PIXELS = 1 << 26
"""Larger images (8192x8192) are refused before memory is taken."""

# Modes whose conversion to 8-bit RGB keeps what a person sees. 16-bit and float images would be clipped.
# Pillow's tolerance is one flag for the whole process.
_LOCK = threading.Lock()
_COLOUR_MODES = ("RGB", "RGBA", "L", "LA", "P", "1")


def pixel_center(col: int, row: int, size_wh: tuple[int, int]) -> tuple[float, float]:
    """Return the normalised coordinate of the centre of pixel (col, row) of a size_wh image."""
    return (col + 0.5) / size_wh[0], (row + 0.5) / size_wh[1]


def pixel_of(x: float, y: float, size_wh: tuple[int, int]) -> tuple[int, int] | None:
    """Return the pixel (col, row) that holds the normalised point, or None when it is not in the image."""
    if not (0 <= x < 1 and 0 <= y < 1):  # also refuses NaN
        return None
    # the largest x below 1 is 1 - 2**-53, and its product with a whole w rounds to less than w
    return math.floor(x * size_wh[0]), math.floor(y * size_wh[1])


@dataclass(frozen=True, slots=True)
class ConcatMap:
    """Two images side by side, A left and B right, both at their own resolution and aligned at the top.

    The whole image is (wA + wB, max(hA, hB)) pixels; what neither image covers is black. Because no image is
    resampled, the map between frames is exact: pixel (c, r) of B is pixel (wA + c, r) of the whole image, and
    `x_full = offset_x + scale_x * x_B`. For equal sizes this is x_full = 0.5 + 0.5 x_B, y_full = y_B.

    Attributes
    ----------
    left_wh, right_wh
        (width, height) of A and of B in pixels.
    """

    left_wh: tuple[int, int]
    right_wh: tuple[int, int]

    @property
    def size_wh(self) -> tuple[int, int]:
        """(width, height) of the whole image in pixels."""
        return self.left_wh[0] + self.right_wh[0], max(self.left_wh[1], self.right_wh[1])

    @property
    def scale(self) -> tuple[float, float]:
        """(x, y) factors of the map from B's normalised frame to the whole image's."""
        width, height = self.size_wh
        return self.right_wh[0] / width, self.right_wh[1] / height

    @property
    def offset(self) -> tuple[float, float]:
        """(x, y) offsets of the map from B's normalised frame to the whole image's."""
        return self.left_wh[0] / self.size_wh[0], 0.0

    def left_to_full(self, x: float, y: float) -> tuple[float, float]:
        """Take a point of A's normalised frame to the whole image's."""
        width, height = self.size_wh
        return x * self.left_wh[0] / width, y * self.left_wh[1] / height

    def right_to_full(self, x: float, y: float) -> tuple[float, float]:
        """Take a point of B's normalised frame to the whole image's."""
        width, height = self.size_wh
        return (self.left_wh[0] + x * self.right_wh[0]) / width, y * self.right_wh[1] / height

    def full_to_right(self, x: float, y: float) -> tuple[float, float]:
        """Take a point of the whole image's frame to B's, unclamped: outside of [0, 1) is not on B."""
        width, height = self.size_wh
        return (x * width - self.left_wh[0]) / self.right_wh[0], y * height / self.right_wh[1]

    def right_pixel(self, x: float, y: float) -> tuple[int, int] | None:
        """Return B's pixel (col, row) under a point of the whole image, or None (left, padding, outside)."""
        pixel = pixel_of(x, y, self.size_wh)
        if pixel is None:
            return None
        col, row = pixel[0] - self.left_wh[0], pixel[1]
        return (col, row) if col >= 0 and row < self.right_wh[1] else None

    def to_json(self) -> dict[str, list[int] | list[float]]:
        """Return the sizes, and the affine map B to whole image for readers that do not have this class."""
        return {
            "left_size": list(self.left_wh),
            "right_size": list(self.right_wh),
            "size": list(self.size_wh),
            "scale": list(self.scale),
            "offset": list(self.offset),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], *, where: str = "concat") -> ConcatMap:
        """Read `to_json`'s object; ValueError when sizes are missing or the affine map contradicts them."""
        try:
            left, right = (tuple(value[key]) for key in ("left_size", "right_size"))
        except (KeyError, TypeError) as error:
            raise ValueError(f"{where}: expected an object with left_size and right_size, got {value!r}") from error
        for name, size in (("left_size", left), ("right_size", right)):
            if len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
                raise ValueError(f"{where}: {name} is [width, height] in pixels, got {list(size)}")
        result = cls(left, right)
        for name in ("scale", "offset"):
            stated, true = value.get(name), list(getattr(result, name))
            if stated is not None and stated != true and not _close(stated, true):
                raise ValueError(
                    f"{where}: {name} {stated} contradicts the sizes {left} and {right}, which give {true}"
                )
        return result


def _close(stated: Any, true: list[float]) -> bool:
    """Whether a pair of numbers differs by no more than other programs' rounding."""
    numbers = isinstance(stated, list) and len(stated) == 2 and all(type(v) in (int, float) for v in stated)
    return numbers and all(abs(a) <= 2 and abs(a - b) <= 1e-9 for a, b in zip(stated, true))


@contextmanager
def _strict(name: str | Path) -> Iterator[None]:
    """Read whole images only, whatever others set: RoboRefer and lmms-eval tell Pillow to fill in what is cut off."""
    with _LOCK:
        tolerant, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
        try:
            yield
        except Exception as error:  # on damaged files Pillow raises IndexError, struct.error, SyntaxError and more
            raise ValueError(f"{name}: not a readable image: {error}") from error
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = tolerant


def _check_pixels(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width}x{image.height} pixels, expected at most {MAX_PIXELS}")


def decode(data: bytes, name: str | Path) -> Image.Image:
    """Decode an image file's bytes completely; ValueError, naming the file, when that is not possible."""
    with _strict(name):
        image = Image.open(io.BytesIO(data))
        _check_pixels(image)
        image.load()
    return image


def probe(data: bytes, name: str | Path) -> tuple[int, int]:
    """Return (width, height) of an 8-bit colour image, a PNG without decompressing it.

    Every chunk of a PNG is checked against its CRC, so a damaged or cut file is found. Other formats, which
    verify nothing that way, are decompressed.

    Raises
    ------
    ValueError
        Not a whole image file, or not an 8-bit one.
    """
    with _strict(name), Image.open(io.BytesIO(data)) as image:
        _check_pixels(image)
        size_wh, mode = image.size, image.mode
        if image.format == "PNG":
            image.verify()
        else:  # the others' verify() checks nothing
            image.load()
    _check_mode(mode, name)
    return size_wh


_ORIENTATION_TAG = 0x0112


def orientation(data: bytes) -> int:
    """Return an image file's EXIF orientation: 1 for upright pixels, 2 to 8 where a viewer turns them."""
    with Image.open(io.BytesIO(data)) as image:
        return _orientation(image)


def orientation_of_file(path: Path) -> int:
    """Return the same of a file, of which only the head is read; ValueError when it is no image."""
    with _strict(path), Image.open(path) as image:
        return _orientation(image)


def _orientation(image: Image.Image) -> int:
    tags = Image.Exif()
    if "exif" in image.info:  # `getexif` would decode a PNG to look behind its pixels
        tags.load(image.info["exif"])
    value = tags.get(_ORIENTATION_TAG, 1)
    return value if value in range(1, 9) else 1


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what makes the pixels upright (Pillow counts its rotations anticlockwise)."""


def upright(image: Image.Image, turn: int) -> Image.Image:
    """Return a decoded image with its pixels as a viewer shows them, for an EXIF orientation of 1 to 8."""
    return image if turn == 1 else image.transpose(_TURNS[turn])


def upright_size(size_wh: tuple[int, int], turn: int) -> tuple[int, int]:
    """Return (width, height) of the upright image; orientations from 5 on swap the sides."""
    return (size_wh[1], size_wh[0]) if turn >= 5 else size_wh


def refuse_turned(data: bytes, name: str | Path) -> None:
    """Raise ValueError for a picture that some readers would turn by its EXIF tag, and others would not."""
    turn = orientation(data)
    if turn != 1:
        raise ValueError(
            f"{name}: EXIF orientation {turn}: some readers turn such a picture and others do not, so that points "
            "would mean different places; `build` makes upright copies, so build the samples again"
        )


def to_rgb(image: Image.Image, name: str | Path) -> NDArray[np.uint8]:
    """Return a decoded 8-bit image as an (h, w, 3) uint8 RGB array; transparency is dropped.

    Raises
    ------
    ValueError
        The image has 16-bit or float samples, which 8 bits cannot hold.
    """
    _check_mode(image.mode, name)
    return np.asarray(image.convert("RGB"))


def _check_mode(mode: str, name: str | Path) -> None:
    if mode not in _COLOUR_MODES:
        raise ValueError(f"{name}: mode {mode!r} is not an 8-bit colour image ({', '.join(_COLOUR_MODES)})")


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read an 8-bit image file as an (h, w, 3) uint8 RGB array; ValueError for one unreadable or to be turned."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from error
    image = decode(data, path)
    refuse_turned(data, path)
    return to_rgb(image, path)


def mark(image: NDArray[np.uint8], mask: NDArray[np.bool_], alpha: float) -> NDArray[np.uint8]:
    """Return a copy of the image with the mask tinted red.

    Parameters
    ----------
    image
        (h, w, 3) uint8 RGB.
    mask
        (h, w) bool.
    alpha
        Opacity of the tint, 0 < alpha <= 1: pixel' = round((1 - alpha) pixel + alpha (255, 0, 0)).

    Raises
    ------
    ValueError
        The sizes differ, or alpha is out of range.
    """
    if mask.shape != image.shape[:2]:
        raise ValueError(f"mask is {_size(mask)}, image is {_size(image)}: overlay needs equal sizes")
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha is {alpha}: expected 0 < alpha <= 1 (0 would leave the object unmarked)")
    # a table for each channel: 256 values are blended once instead of every pixel
    values = np.arange(256, dtype=np.float64)
    marked = image.copy()
    inside = image[mask]
    for channel, colour in enumerate(MARK_RGB):
        table = np.floor((1 - alpha) * values + alpha * colour + 0.5).astype(np.uint8)
        inside[:, channel] = table[inside[:, channel]]
    marked[mask] = inside
    return marked


def concat(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return A and B side by side as `ConcatMap` describes: (max(hA, hB), wA + wB, 3) uint8."""
    frame = ConcatMap(_wh(left), _wh(right))
    width, height = frame.size_wh
    whole = np.zeros((height, width, 3), dtype=np.uint8)
    whole[: left.shape[0], : left.shape[1]] = left
    whole[: right.shape[0], left.shape[1] :] = right
    return whole


def _wh(array: NDArray[Any]) -> tuple[int, int]:
    return int(array.shape[1]), int(array.shape[0])


def _size(array: NDArray[Any]) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"
