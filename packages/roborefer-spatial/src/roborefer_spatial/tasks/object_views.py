"""One view of an object, read and checked: its picture, its mask, and the pixel of the object."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from roborefer_spatial.images import decode, orientation, pixel_center, probe, to_rgb, upright, upright_size
from roborefer_spatial.tasks.masks import Mask, point_of_mask, sample_seed, to_mask
from roborefer_spatial.tasks.scenes import Skip, UidFolder, ViewFiles


class Unusable(ValueError):
    """A view, or its inpainted picture, cannot be used; the reason is a key of `scenes.REASONS`."""

    def __init__(self, reason: str, detail: str, files: ViewFiles | None = None) -> None:
        super().__init__(detail)
        self.reason, self.files = reason, files


@dataclass(slots=True)
class View:
    """A usable view.

    Attributes
    ----------
    files
        Its paths.
    size_wh
        (width, height) of the picture, upright, and the mask in pixels.
    mask
        (h, w) bool: the mask that answers come from (raw or dilated).
    seed
        Decides the random draw of `pixel`.
    pixel
        (col, row) of the object's point; None when the mask is empty.
    inpainted
        Path of the checked inpainted picture, None when Task 2B cannot use the view.
    digests
        File name to SHA-256 of its bytes, for every file read.
    digest, mask_digest
        SHA-256 of the original picture and of the mask that answers come from.
    turned
        Files that are to be turned by their EXIF orientation, with their bytes.
    """

    files: ViewFiles
    size_wh: tuple[int, int]
    mask: Mask
    seed: int
    pixel: tuple[int, int] | None
    inpainted: Path | None
    digests: dict[str, str]
    digest: str
    mask_digest: str
    turned: dict[Path, bytes]
    _original: bytes
    _rgb: NDArray[np.uint8] | None = field(default=None, init=False)

    @property
    def rgb(self) -> NDArray[np.uint8]:
        """The original picture, (h, w, 3) uint8, decoded when first asked for; `Unusable` if it cannot be."""
        if self._rgb is None:
            name = self.files.original.name
            try:
                self._rgb = upright_rgb(self._original, name)
            except ValueError as error:
                raise Unusable("unreadable", str(error), self.files) from error
        return self._rgb

    @property
    def point(self) -> tuple[float, float] | None:
        """The object's point in fractions of width and height; None when it is not visible."""
        return None if self.pixel is None else pixel_center(*self.pixel, self.size_wh)


def upright_rgb(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode a picture's bytes to (h, w, 3) uint8, turned as its EXIF orientation says."""
    return to_rgb(upright(decode(data, name), orientation(data)), name)


def upright_mask(data: bytes, name: str) -> Mask:
    """Decode a mask's bytes to (h, w) bool, turned as its EXIF orientation says."""
    return to_mask(upright(decode(data, name), orientation(data)), name)


def read_views(
    uid: UidFolder, *, use_dilated_mask: bool, want_inpainted: bool, seed: int
) -> tuple[list[View], list[Skip]]:
    """Read the views of an object; what cannot be used is returned with its reason."""
    views, skipped = [], list(uid.skipped)
    for files in uid.views:
        where = f"{uid.where}/{files.label}"
        try:
            view = _read(uid, files, use_dilated_mask, seed)
        except Unusable as error:
            skipped.append(Skip(where, error.reason, str(error)))
            continue
        views.append(view)
        if want_inpainted and view.pixel is not None:
            try:
                view.inpainted = _check_inpainted(view)
            except Unusable as error:
                skipped.append(Skip(where, error.reason, str(error)))
    return views, skipped


def _read(uid: UidFolder, files: ViewFiles, use_dilated_mask: bool, seed: int) -> View:
    chosen = files.mask_dilated if use_dilated_mask else files.mask
    if chosen is None:
        stem = f"{files.name}_mask{'_dilated' if use_dilated_mask else ''}.png"
        other = "--no-use-dilated-mask" if use_dilated_mask else "--use-dilated-mask"
        raise Unusable("no_dilated_mask" if use_dilated_mask else "no_mask", f"expected {stem}, or build with {other}")
    digests: dict[str, str] = {}
    original = _bytes(files.original, digests)
    turned: dict[Path, bytes] = {}
    size_wh = _size(original, files.original, turned)
    masks = {
        path: _mask(path, size_wh, digests, turned) for path in (files.mask, files.mask_dilated) if path is not None
    }
    if len({bool(mask.any()) for mask in masks.values()}) > 1:
        empty = next(path.name for path, mask in masks.items() if not mask.any())
        raise Unusable("mask_disagreement", f"{empty} is empty, the other mask of the view is not")
    draw = sample_seed(seed, uid.scene, uid.uid, files.name)
    pixel = point_of_mask(masks[chosen], draw)
    digest, mask_digest = digests[files.original.name], digests[chosen.name]
    return View(files, size_wh, masks[chosen], draw, pixel, None, digests, digest, mask_digest, turned, original)


def _check_inpainted(view: View) -> Path:
    path = view.files.inpainted
    if path is None:
        raise Unusable("no_inpainted", f"expected {view.files.name}_inpainted.png")
    size_wh = _size(_bytes(path, view.digests), path, view.turned)
    if size_wh != view.size_wh:
        raise Unusable("size_mismatch", f"{path.name} is {_times(size_wh)}, the original {_times(view.size_wh)}")
    if view.digests[path.name] == view.digest:
        raise Unusable("no_change", f"{path.name} and {view.files.original.name} are the same file content")
    return path


def _mask(path: Path, size_wh: tuple[int, int], digests: dict[str, str], turned: dict[Path, bytes]) -> Mask:
    data = _bytes(path, digests)
    try:
        image = decode(data, path.name)
        if image.format == "JPEG":
            raise Unusable("lossy_mask", f"{path.name}: save the mask as PNG from its source")
        if orientation(data) != 1:
            turned[path] = data
        mask = to_mask(upright(image, orientation(data)), path.name)
    except Unusable:
        raise
    except ValueError as error:
        raise Unusable("unreadable", str(error)) from error
    if mask.shape != (size_wh[1], size_wh[0]):
        found = f"{path.name} is {mask.shape[1]}x{mask.shape[0]}, the original image is {_times(size_wh)}"
        if mask.shape == size_wh and turned:
            raise Unusable("rotated", f"{found} when it is turned by its EXIF orientation: turn the mask, too")
        raise Unusable("size_mismatch", found)
    return mask


def _bytes(path: Path, digests: dict[str, str]) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Unusable("unreadable", f"{path.name}: {error.strerror or error}") from error
    digests[path.name] = hashlib.sha256(data).hexdigest()
    return data


def _size(data: bytes, path: Path, turned: dict[Path, bytes]) -> tuple[int, int]:
    """Return a picture's upright size, and note whether it is to be turned."""
    try:
        size_wh, turn = probe(data, path.name), orientation(data)
    except ValueError as error:
        raise Unusable("unreadable", str(error)) from error
    if turn != 1:
        turned[path] = data
    return upright_size(size_wh, turn)


def _times(size_wh: tuple[int, int]) -> str:
    return f"{size_wh[0]}x{size_wh[1]}"
