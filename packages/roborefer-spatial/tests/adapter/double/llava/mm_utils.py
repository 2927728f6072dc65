"""Images to tensors: (3, S, S) each; tiles by the aspect ratio."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFile

from llava.constants import DEFAULT_DEPTH_TOKEN, DEFAULT_IMAGE_TOKEN

ImageFile.LOAD_TRUNCATED_IMAGES = True


def _tensor(image, data_args):
    side = data_args.image_processor.size["height"]
    return torch.from_numpy(np.asarray(image.resize((side, side)), dtype=np.float32)).permute(2, 0, 1) / 255


def _opened(file, folder):
    return Image.open(Path(folder or ".") / file) if isinstance(file, str) else file


def process_image(
    image_file, data_args, image_folder, enable_dynamic_res=False, enable_dynamic_s2=False, max_tiles=None
):
    image = _opened(image_file, image_folder).convert("RGB")
    count = min(max(1, round(image.width / image.height)), data_args.max_tiles)
    tensor = _tensor(image, data_args)
    if enable_dynamic_s2:
        return torch.stack([tensor] * (1 + count)), (1, count)
    if enable_dynamic_res:
        return torch.stack([tensor] * (count + (count > 1)))  # the tiles, and the whole as a thumbnail
    return tensor


def process_depth(
    depth_file, data_args, depth_folder, enable_dynamic_res=False, enable_dynamic_s2=False, max_tiles=None
):
    depth = _opened(depth_file, depth_folder)
    if depth.mode != "RGB":
        raise ValueError("mean must have 1 elements if it is an iterable, got 3")
    return process_image(depth, data_args, None, enable_dynamic_res, enable_dynamic_s2, max_tiles)


def _dynamic(process, token, images, prompt, data_args):
    tiles = [process(image, data_args, None, enable_dynamic_res=True) for image in images]
    pieces = prompt.split(token)
    whole = pieces[0]
    for tensors, piece in zip(tiles, pieces[1:]):
        whole += f"{token}\n" * len(tensors) + piece
    return torch.cat(tiles), whole


def _dynamic_s2(process, images, data_args):
    tiles, blocks = zip(*(process(image, data_args, None, enable_dynamic_s2=True) for image in images))
    return torch.cat(tiles), list(blocks)


def dynamic_process_images_and_prompt(images, prompt, data_args, image_folder=None, max_tiles=None):
    return _dynamic(process_image, DEFAULT_IMAGE_TOKEN, images, prompt, data_args)


def dynamic_process_depths_and_prompt(depths, prompt, data_args, depth_folder=None, max_tiles=None):
    return _dynamic(process_depth, DEFAULT_DEPTH_TOKEN, depths, prompt, data_args)


def dynamic_s2_process_images_and_prompt(images, prompt, data_args, image_folder=None):
    return _dynamic_s2(process_image, images, data_args)


def dynamic_s2_process_depths_and_prompt(depths, prompt, data_args, depth_folder=None):
    return _dynamic_s2(process_depth, depths, data_args)
