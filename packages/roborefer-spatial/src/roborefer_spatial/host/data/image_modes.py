"""Images to the model's tensors, in every image mode: one function for training and for prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from roborefer_spatial.host.api import HostFunctions

MODES = ("resize", "pad", "dynamic", "dynamic_s2")

BlockSizes = list[tuple[int, int]]


def check_mode(mode: Any) -> str:
    """Return an image mode; ValueError names the known ones."""
    if mode not in MODES:
        raise ValueError(f"image_aspect_ratio must be one of {', '.join(MODES)}, got {mode!r}")
    return str(mode)


def processed(
    host: HostFunctions, images: Sequence[Image.Image], prompt: str, settings: Any, kind: str
) -> tuple[torch.Tensor, str, BlockSizes | None]:
    """Process the images of one sample.

    Parameters
    ----------
    host : HostFunctions
        The host's processing.
    images : sequence of PIL images
        RGB images or their depth maps.
    prompt : str
        The first turn, with one media token per image.
    settings : object
        `image_aspect_ratio`, `image_processor`, and for the tiled modes `min_tiles`, `max_tiles`,
        `s2_scales`.
    kind : {"image", "depth"}
        What the images are.

    Returns
    -------
    tensors : (N, 3, H, W) float32
        N images, or N tiles in the tiled modes.
    prompt : str
        In `dynamic` mode with one token per tile.
    block_sizes : list of (rows, columns) or None
        Of the last scale of each image, in `dynamic_s2` mode.
    """
    mode = check_mode(settings.image_aspect_ratio)
    if mode == "dynamic":
        tensors, prompt = host.dynamic[kind](list(images), prompt, settings)
        return tensors, prompt, None
    if mode == "dynamic_s2":
        tensors, blocks = host.dynamic_s2[kind](list(images), prompt, settings)
        return tensors, prompt, list(blocks)
    return torch.stack([host.process[kind](image, settings, None) for image in images]), prompt, None
