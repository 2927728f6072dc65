"""Taking an object out of a picture: by OpenCV, or by the user's own program."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from roborefer_spatial.images import read_rgb

Picture = NDArray[np.uint8]
Inpainter = Callable[[Picture, NDArray[np.bool_]], Picture]
"""(picture, dilated mask) -> the picture without what the mask covers, of the same size."""

OPENCV = "opencv"
_PLACES = ("{image}", "{mask}", "{out}")


def inpainter(name: str) -> Inpainter:
    """Return the function for `--inpainter`: "opencv", or a command line with {image}, {mask} and {out}.

    Raises
    ------
    ValueError
        The command lacks one of the three places.
    """
    if name == OPENCV:
        return by_opencv
    missing = [place for place in _PLACES if place not in name]
    if missing:
        raise ValueError(
            f"--inpainter {name!r}: expected {OPENCV!r}, or a command with {', '.join(_PLACES)}; it lacks "
            f"{', '.join(missing)}"
        )
    return lambda picture, mask: by_command(name, picture, mask)


def by_opencv(picture: Picture, mask: NDArray[np.bool_]) -> Picture:
    """Fill the mask from its border inwards (Telea); what lies outside stays bit for bit."""
    import cv2

    filled = cv2.inpaint(picture, mask.astype(np.uint8), 5, cv2.INPAINT_TELEA)
    return np.asarray(np.where(mask[..., None], filled, picture), np.uint8)


def by_command(command: str, picture: Picture, mask: NDArray[np.bool_]) -> Picture:
    """Run a program once for one picture; what it changed outside the mask is put back.

    Raises
    ------
    ValueError
        The program failed, wrote no picture, or one of another size.
    """
    with tempfile.TemporaryDirectory(prefix="roborefer-spatial-inpaint-") as folder:
        paths = {name: Path(folder) / f"{name}.png" for name in ("image", "mask", "out")}
        Image.fromarray(picture).save(paths["image"])
        Image.fromarray(mask.astype(np.uint8) * 255).save(paths["mask"])
        words = [word.format(**paths) for word in shlex.split(command)]
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=False)
        except OSError as error:
            raise ValueError(f"--inpainter cannot be started: {error}") from error
        if done.returncode != 0 or not paths["out"].is_file():
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise ValueError(
                f"--inpainter ended with status {done.returncode} and wrote "
                f"{'a' if paths['out'].is_file() else 'no'} picture: {' '.join(last) or 'it printed nothing'}"
            )
        filled = read_rgb(paths["out"])
    if filled.shape != picture.shape:
        raise ValueError(f"--inpainter wrote {filled.shape[1::-1]} pixels, the picture has {picture.shape[1::-1]}")
    return np.asarray(np.where(mask[..., None], filled, picture), np.uint8)
