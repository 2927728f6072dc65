"""The images that a build makes: views with the object marked, two views side by side, and upright copies.

Their names carry a hash of everything that decides their pixels (source files, opacity, colour), and they
appear whole or not at all. So one that exists is right: an interrupted run goes on where it stopped, and no
run takes over a stale image.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from roborefer_spatial.files import write_bytes
from roborefer_spatial.images import MARK_RGB, concat, mark
from roborefer_spatial.tasks.object_views import View, upright_mask, upright_rgb
from roborefer_spatial.tasks.png import encode_png

CONCAT_FORMATS = ("png", "jpg")
NAMES = {"today": "", "notes": "_abs"}
"""Naming of output folders -> what follows `marked` and `concat`: the research builder wrote `marked_abs`."""
FOLDERS = ("marked", "concat", "upright", "marked_abs", "concat_abs")
MADE_NAME = re.compile(r"_(marked|concat|upright)_[0-9a-f]{12}\.(png|jpg)(\.[0-9a-f]{12}\.part)?$")
"""Images of a build, and what a killed build leaves of one (see `files.atomic_open`)."""
_JPEG_QUALITY = 95
_VERSION = 1  # raise it when the pixels of marked or side-by-side images change


class DerivedImages:
    """Makes the images of one object where they are not there yet.

    Parameters
    ----------
    out_dir
        Root of the build; images go to `marked/` and `concat/` below it.
    folder
        Folder of the object below those, such as `train/scene/uid_3`.
    alpha
        Opacity of the mark.
    names
        A key of `NAMES`.
    """

    def __init__(self, out_dir: Path, folder: Path, alpha: float, names: str = "today") -> None:
        self.out_dir, self.folder, self.alpha, self._suffix = out_dir, folder, alpha, NAMES[names]
        self.made: dict[Path, bool] = {}
        """Path of every image asked for, and whether it had to be written."""
        self._marked: dict[int, NDArray[np.uint8]] = {}

    def marked(self, view: View) -> Path:
        """Return the path of a view with its object tinted."""
        name = f"{view.files.name}_marked_{self._key(view)}.png"
        return self._image("marked" + self._suffix, name, lambda: encode_png(self._mark(view)))

    def side_by_side(self, a: View, b: View, suffix: str) -> Path:
        """Return the path of A, its object tinted, left of B; `suffix` is one of CONCAT_FORMATS."""
        encode = {"png": encode_png, "jpg": _encode_jpeg}[suffix]
        key = self._key(a, b.digest)
        name = f"{a.files.label}{a.files.frame}_to_{b.files.label}{b.files.frame}_concat_{key}.{suffix}"
        return self._image("concat" + self._suffix, name, lambda: encode(concat(self._mark(a), b.rgb)))

    def upright(self, view: View, path: Path) -> Path:
        """Return the path of a view's file with its pixels turned as its EXIF orientation says, and no such tag.

        A file without one is returned as it is.
        """
        if path not in view.turned:
            return path
        data = view.turned[path]
        key = hashlib.sha256(repr((_VERSION, view.digests[path.name])).encode()).hexdigest()[:12]
        is_mask = path in (view.files.mask, view.files.mask_dilated)
        make = _encode_mask if is_mask else _encode_upright
        return self._image("upright", f"{path.stem}_upright_{key}.png", lambda: make(data, path.name))

    def _mark(self, view: View) -> NDArray[np.uint8]:
        number = view.files.number
        if number not in self._marked:
            self._marked[number] = mark(view.rgb, view.mask, self.alpha)
        return self._marked[number]

    def _key(self, view: View, *more: str) -> str:
        """Return a hash of what decides the pixels of a marked view, and of `more`."""
        parts = (_VERSION, MARK_RGB, self.alpha, view.digest, view.mask_digest, *more)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]

    def _image(self, kind: str, name: str, make: Callable[[], bytes]) -> Path:
        path = self.out_dir / kind / self.folder / name
        if path not in self.made:
            missing = not path.exists()
            if missing:
                write_bytes(path, make())
            self.made[path] = missing
        return path


def _encode_upright(data: bytes, name: str) -> bytes:
    return encode_png(upright_rgb(data, name))


def _encode_mask(data: bytes, name: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(upright_mask(data, name).astype(np.uint8) * 255).save(stream, "PNG")
    return stream.getvalue()


def _encode_jpeg(image: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return stream.getvalue()
