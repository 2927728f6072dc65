"""Image files for the host's processors."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from roborefer_spatial.images import decode, refuse_turned, to_rgb


def open_rgb(path: Path, where: str) -> Image.Image:
    """Read an 8-bit image as RGB; ValueError names `where`, the file and the reason."""
    data, image = _decoded(path, where)
    refuse_turned(data, f"{where}: {path}")
    return Image.fromarray(to_rgb(image, f"{where}: {path}"))


def open_depth(path: Path, size_wh: tuple[int, int], where: str) -> Image.Image:
    """Read a depth image for an RGB image of `size_wh`.

    Raises
    ------
    ValueError
        If it cannot be read, is not 3-channel 8-bit, or differs from the image in size.
    """
    _, depth = _decoded(path, where)
    if depth.mode != "RGB":
        raise ValueError(
            f"{where}: {path} has mode {depth.mode}; RoboRefer takes 3-channel 8-bit depth images "
            "(scale to 0..255 and repeat the channel)"
        )
    if depth.size != size_wh:
        raise ValueError(f"{where}: {path} is {_shape(depth.size)}, its image is {_shape(size_wh)}")
    return depth


def _decoded(path: Path, where: str) -> tuple[bytes, Image.Image]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{where}: {path} cannot be read: {error.strerror or error}") from error
    return data, decode(data, f"{where}: {path}")


def _shape(size_wh: tuple[int, int]) -> str:
    return f"{size_wh[0]}x{size_wh[1]}"
