"""Folders of photographs through the real model: images in, predictions without truth out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from mapanything_opv2v import photographs
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.host.models.from_checkpoint import LoadedModel
from mapanything_opv2v.host.models.inference import View, frame_predictions, predict
from mapanything_opv2v.predictions import FrameMeta, FramePredictions

SPLIT, FRAME = "images", "000000"
"""What a folder of photographs is called where a tree has split and frame; its own name is the sequence."""


def sample_name(folder: photographs.Folder) -> str:
    """Return `images/FOLDER/000000_agent0`."""
    return f"{SPLIT}/{folder.name}/{FRAME}_agent0"


def predict_folders(
    loaded: LoadedModel,
    folders: Sequence[photographs.Folder],
    *,
    on_failure: Callable[[str, str], None],
    size_wh: tuple[int, int] | None = None,
    cylinder: Cylinder | None = None,
    equirectangular: bool = False,
    precision: str = "fp32",
) -> Iterator[tuple[str, FramePredictions]]:
    """Yield the name and the predictions of every folder.

    Parameters
    ----------
    loaded : LoadedModel
        From `load_model`.
    folders : sequence of Folder
        From `photographs.find_folders`.
    on_failure : callable
        Called with name and message for a folder that cannot be read or whose predictions are not finite.
    size_wh : (int, int), optional
        Pixels of photographs; by default 518 on the longer side.
    cylinder : Cylinder, optional
        The images are panoramas with these pixels; each counts as a vehicle of its own.
    equirectangular : bool
        See `photographs.load_panoramas`.
    precision
        See `inference.predict`.
    """
    for folder in folders:
        name = sample_name(folder)
        try:
            if cylinder is None:
                images = photographs.load_photographs(folder.paths, size_wh)
            else:
                images = photographs.load_panoramas(folder.paths, cylinder, equirectangular=equirectangular)
            views = [_view(loaded, image, number, cylinder is not None) for number, image in enumerate(images)]
            preds = predict(loaded.model, views, (), precision)
            meta = frame_meta(loaded, name, cylinder)
            made = frame_predictions(views, preds, 0, meta, is_metric=loaded.is_metric)
            files = tuple(path.name for path in folder.paths)
            yield name, replace(made, meta=replace(made.meta, files=files))
        except ValueError as error:
            on_failure(name, str(error))


def _view(loaded: LoadedModel, image: np.ndarray, number: int, panorama: bool) -> View:
    """Return a batch of one: what a model may see of an image, and its name."""
    return {
        "img": normalised(image, loaded.data_norm_type)[None],
        "data_norm_type": [loaded.data_norm_type],
        "agent_index": torch.tensor([number if panorama else 0]),
        "instance": [f"agent{number}/panorama" if panorama else f"agent0/camera{number}"],
    }


def normalised(image: np.ndarray, norm_type: str) -> torch.Tensor:
    """Return (3, H, W) float32 of an RGB image, as the host's loaders normalise it."""
    from uniception.models.encoders.image_normalizations import IMAGE_NORMALIZATION_DICT

    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    if norm_type == "identity":
        return pixels
    if norm_type not in IMAGE_NORMALIZATION_DICT:
        known = ", ".join(IMAGE_NORMALIZATION_DICT)
        raise ValueError(f"data_norm_type={norm_type!r}: expected identity or one of {known}")
    norm: Any = IMAGE_NORMALIZATION_DICT[norm_type]
    return (pixels - norm.mean[:, None, None]) / norm.std[:, None, None]


def frame_meta(loaded: LoadedModel, name: str, cylinder: Cylinder | None) -> FrameMeta:
    """Return the record of predictions named `SPLIT/SEQUENCE/FRAME_agentN`, without a tree of data behind them."""
    split, sequence, rest = name.split("/")
    return FrameMeta(
        split=split,
        sequence=sequence,
        frame=rest.rpartition("_agent")[0],
        layout="pinhole" if cylinder is None else "panorama",
        agents=(0,),  # the views say whose; see frame_predictions
        cameras=(0,) if cylinder is None else None,
        cylinder=cylinder,
        checkpoint=loaded.name,
        checkpoint_sha256=loaded.sha256,
        config=loaded.config,
        commit=loaded.host_commit,
    )
