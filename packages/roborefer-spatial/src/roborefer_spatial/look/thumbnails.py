"""Small copies of images and masks for a page, each made once however many samples share it."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from roborefer_spatial.files import write_bytes
from roborefer_spatial.images import ConcatMap, read_rgb
from roborefer_spatial.sample import Sample
from roborefer_spatial.scoring.points import Bools, read_mask

MASK_RGB = (0, 200, 255)
_MASK_OPACITY = 110  # of 255
_JPEG_QUALITY = 82


class Thumbnails:
    """Collects pictures and hands out their numbers.

    Parameters
    ----------
    side_px
        Longest side.
    folder
        Where files are written, named relative to its parent; None embeds the pictures as data URIs.
    limit_bytes
        Largest sum of embedded pictures.
    """

    def __init__(self, side_px: int, folder: Path | None, limit_bytes: int) -> None:
        if side_px < 16:
            raise ValueError(f"--image-px is {side_px}: expected at least 16")
        self.side_px, self.folder, self.limit_bytes = side_px, folder, limit_bytes
        self.sources: list[str] = []
        self.bytes = 0
        self._numbers: dict[object, int] = {}

    def image(self, path: str) -> int:
        """Return the number of an image file's copy."""
        return self._number(path, lambda: _jpeg(self._small(Image.fromarray(read_rgb(Path(path))))), ".jpg")

    def mask(self, sample: Sample) -> int | None:
        """Return the number of a transparent picture of the sample's mask in the frame of its answer."""
        path = sample.mask_dilated_path if sample.gt_mask == "dilated" else sample.mask_path
        if path is None or not sample.visible:
            return None
        return self._number(
            (path, sample.concat),
            lambda: _tint(self._small(_picture(read_mask(path), sample.concat))),
            ".png",
        )

    def _number(self, key: object, make: object, suffix: str) -> int:
        if key not in self._numbers:
            assert callable(make)
            self._numbers[key] = len(self.sources)
            self.sources.append(self._keep(make(), suffix))
        return self._numbers[key]

    def _keep(self, data: bytes, suffix: str) -> str:
        self.bytes += len(data)
        if self.folder is not None:
            name = f"{len(self.sources):06d}{suffix}"
            write_bytes(self.folder / name, data)
            return f"{self.folder.name}/{name}"
        if self.bytes > self.limit_bytes:
            raise ValueError(
                f"pictures of more than {self.limit_bytes >> 20} MiB do not belong into one page: pass "
                "--images folder, a smaller --image-px, or fewer samples"
            )
        kind = "jpeg" if suffix == ".jpg" else "png"
        return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"

    def _small(self, image: Image.Image) -> Image.Image:
        factor = self.side_px / max(image.size)
        if factor >= 1:
            return image
        size = tuple(max(1, round(side * factor)) for side in image.size)
        return image.resize(size, Image.Resampling.BOX)  # type: ignore[arg-type]


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def _picture(mask: Bools, concat: ConcatMap | None) -> Image.Image:
    """Return a mask as a grey image in the answer's frame."""
    if concat is not None:
        width, height = concat.size_wh
        whole = np.zeros((height, width), dtype=bool)
        whole[: mask.shape[0], concat.left_wh[0] :] = mask
        mask = whole
    return Image.fromarray(mask.astype(np.uint8) * 255)


def _tint(grey: Image.Image) -> bytes:
    """Return a PNG that is transparent where the mask is empty; a mask smaller than a pixel stays visible."""
    covered = np.asarray(grey) > 0
    palette = Image.fromarray(covered.astype(np.uint8))
    palette.putpalette([0, 0, 0, *MASK_RGB])
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", transparency=bytes([0, _MASK_OPACITY]), optimize=True)
    return buffer.getvalue()
