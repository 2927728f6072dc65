"""Frames of a rig file through the real model: every camera a view, or one panorama; images in, no truth of depth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from PIL import Image, ImageOps

from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.host.models.from_checkpoint import LoadedModel
from mapanything_opv2v.host.models.inference import View, frame_predictions, predict
from mapanything_opv2v.host.models.photographs import SPLIT, frame_meta, normalised
from mapanything_opv2v.panorama import PanoramaBuilder, PanoramaOptions
from mapanything_opv2v.panorama.rig import RigCamera
from mapanything_opv2v.panorama.rig_file import RigFile
from mapanything_opv2v.photographs import photograph_size
from mapanything_opv2v.predictions import FramePredictions
from mapanything_opv2v.rawdata.calibration import scaled_intrinsic


def sample_name(rig: RigFile, frame: str) -> str:
    """Return `images/FOLDER/FRAME_agent0`."""
    return f"{SPLIT}/{rig.path.resolve().parent.name}/{frame.replace('/', '_')}_agent0"


def predict_rig(
    loaded: LoadedModel,
    rig: RigFile,
    frames: Sequence[str],
    *,
    on_failure: Callable[[str, str], None],
    size_wh: tuple[int, int] | None = None,
    cylinder: Cylinder | None = None,
    options: PanoramaOptions | None = None,
    precision: str = "fp32",
) -> Iterator[tuple[str, FramePredictions]]:
    """Yield the name and the predictions of every frame; the rig's own poses and intrinsics stand beside as truth.

    Parameters
    ----------
    loaded, rig
        From `load_model` and `load_rig_file`.
    frames : sequence of str
        Which.
    on_failure : callable
        Called with name and message for a frame that cannot be read or whose predictions are not finite.
    size_wh : (int, int), optional
        Pixels of cameras' views; by default 518 on the longer side of the first camera's.
    cylinder, options
        One panorama with these pixels instead of the cameras' views.
    precision
        See `inference.predict`.
    """
    builder = None if cylinder is None else PanoramaBuilder(rig.rig, cylinder, options)
    for frame in frames:
        name = sample_name(rig, frame)
        try:
            images = rig.images(frame)
            if builder is not None:
                views = [_view(loaded, builder.build(images).color, "agent0/panorama", np.eye(4))]
            else:
                size = size_wh or photograph_size(Image.fromarray(images[0]))
                views = []
                for number, (camera, image) in enumerate(zip(rig.rig.cameras, images)):
                    fitted, K = _fitted(image, camera, size)
                    view = _view(loaded, fitted, f"agent0/camera{number}", camera.T_pano_cam)
                    views.append({**view, "camera_intrinsics": torch.from_numpy(K[None])})
            preds = predict(loaded.model, views, (), precision)
            meta = frame_meta(loaded, name, cylinder)
            yield name, frame_predictions(views, preds, 0, meta, is_metric=loaded.is_metric)
        except (ValueError, OSError) as error:
            on_failure(name, str(error))


def _fitted(image: np.ndarray, camera: RigCamera, size_wh: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return an image scaled until it covers a size and cut equally on both sides, and the intrinsics of that."""
    (width, height), (wide, high) = camera.size_wh, size_wh
    factor = max(wide / width, high / height)
    K = scaled_intrinsic(camera.intrinsic, factor)
    K[0, 2] -= (width * factor - wide) / 2
    K[1, 2] -= (height * factor - high) / 2
    return np.asarray(ImageOps.fit(Image.fromarray(image), size_wh, Image.Resampling.LANCZOS)), K


def _view(loaded: LoadedModel, image: np.ndarray, instance: str, T_rig_view: np.ndarray) -> View:
    unknown = torch.zeros(1, *image.shape[:2], dtype=torch.bool)
    return {
        "img": normalised(image, loaded.data_norm_type)[None],
        "data_norm_type": [loaded.data_norm_type],
        "agent_index": torch.tensor([0]),
        "instance": [instance],
        "camera_pose": torch.from_numpy(T_rig_view[None]),
        "valid_mask": unknown,
    }
