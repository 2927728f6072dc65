"""From an object's mask to the one pixel that stands for it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Mask = NDArray[np.bool_]

SEED_BITS = 63


def to_mask(image: Image.Image, name: str | Path) -> Mask:
    """Return a decoded mask image as an (h, w) bool array: true where any channel is above 0.

    Raises
    ------
    ValueError
        The image is float, or has an alpha channel that varies, so that it is unclear what the mask is.
    """
    if image.mode == "1":
        return np.asarray(image)
    if image.mode in ("L", "I", "I;16", "I;16L", "I;16B"):
        return np.asarray(image) > 0
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in ("LA", "RGBA"):
        values = np.asarray(image)
        if (values[..., -1] != 255).any():
            raise ValueError(f"{name}: its alpha channel varies, so the mask is unclear; save it as greyscale")
        return np.asarray((values[..., :-1] > 0).any(axis=-1))
    if image.mode == "RGB":
        return np.asarray((np.asarray(image) > 0).any(axis=-1))
    raise ValueError(f"{name}: mode {image.mode!r} is not a mask; save it as 8-bit greyscale")


def bounding_box(mask: Mask) -> tuple[int, int, int, int] | None:
    """Return the tight box (col_min, row_min, col_max, row_max) of the set pixels, inclusive, or None."""
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return None
    top, bottom = int(rows[0]), int(rows[-1])
    cols = np.flatnonzero(mask[top : bottom + 1].any(axis=0))
    return int(cols[0]), top, int(cols[-1]), bottom


def point_of_mask(mask: Mask, seed: int) -> tuple[int, int] | None:
    """Return the pixel (col, row) that stands for a mask, or None for an empty one.

    It is the pixel that holds the centre of the tight bounding box if that pixel is set; otherwise one of the
    set pixels, drawn uniformly. (The centre of a box with an even side lies between two pixels and
    belongs to the right or lower one, as floor has it when an answer is scored.)

    Parameters
    ----------
    mask
        (h, w) bool.
    seed
        Uniform in 0 <= seed < 2**63 over samples (see `sample_seed`): of the n set pixels in row-major order,
        number floor(seed n / 2**63) is drawn. No generator is involved whose stream a library could change.
    """
    if not 0 <= seed < 1 << SEED_BITS:
        raise ValueError(f"seed {seed} is not in 0 <= seed < 2**{SEED_BITS}")
    box = bounding_box(mask)
    if box is None:
        return None
    col, row = (box[0] + box[2] + 1) // 2, (box[1] + box[3] + 1) // 2
    if mask[row, col]:
        return col, row
    pixels = np.flatnonzero(mask)
    row, col = divmod(int(pixels[seed * pixels.size >> SEED_BITS]), mask.shape[1])
    return col, row


def sample_seed(seed: int, *keys: str) -> int:
    """Return a number below 2**63 that depends on a build's seed and stable keys, and on nothing else."""
    text = "\0".join((str(seed), *keys))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> (64 - SEED_BITS)
