"""The four dataset classes that a MapAnything config can name, and their split-locked variants."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from mapanything_opv2v import sampling
from mapanything_opv2v.host.base import Draw, OPV2VBase
from mapanything_opv2v.host.cylindrical import CylindricalBase
from mapanything_opv2v.loading import load_pinhole_view
from mapanything_opv2v.rawdata import SPLITS


class OPV2VDataset(OPV2VBase):
    """Pinhole views of one vehicle at one moment.

    Every vehicle of a frame is a scene of its own; with `main_agent` or `main_agent_policy`, one vehicle of
    each frame. View 0 is the vehicle's first camera of `camera_ids`.
    """

    cooperative = False
    layout = "pinhole"

    def _get_views(self, idx: int, num_views_to_sample: int, resolution: tuple[int, int]) -> list[dict[str, Any]]:
        draw = self._draw(idx, num_views_to_sample)
        self._rng = draw.rng
        pairs = sampling.choose_pinhole_views(
            draw.cameras, draw.main, num_views_to_sample, self.options.min_agents, draw.rng
        )
        return [self._pinhole_view(draw, agent_id, camera, resolution) for agent_id, camera in pairs]

    def _pinhole_view(self, draw: Draw, agent_id: int, camera: int, resolution: tuple[int, int]) -> dict[str, Any]:
        view = load_pinhole_view(draw.frame, draw.metas[agent_id], agent_id, camera)
        image, depth, intrinsic = self._crop_resize_if_necessary(
            image=Image.fromarray(view.image),
            resolution=resolution,
            depthmap=view.depth_z_m,
            intrinsics=view.intrinsic.astype(np.float32),
        )
        return {
            "img": image,
            "depthmap": np.maximum(depth, 0),
            "camera_pose": view.T_world_cam.astype(np.float32),
            "camera_intrinsics": intrinsic.astype(np.float32),
            "non_ambiguous_mask": depth >= 0,  # the host's meaning: False where there is sky
            "dataset": "OPV2V",
            "label": draw.frame.name,
            "instance": f"agent{agent_id}/camera{camera}",
            "agent_index": draw.agent_index(agent_id),
        }


class OPV2VCoopDataset(OPV2VDataset):
    """Pinhole views of all vehicles of a frame, in one world; view 0 is the main agent's first camera."""

    cooperative = True


class OPV2VCylindricalDataset(CylindricalBase):
    """The panorama of one vehicle: samples of one view."""

    cooperative = False


class OPV2VCoopCylindricalDataset(CylindricalBase):
    """One panorama of each of several vehicles of a frame, in one world; view 0 is the main agent's."""

    cooperative = True


def _locked(cls: type[OPV2VBase], split: str) -> type[OPV2VBase]:
    """Return `cls` bound to one split.

    The host keys its test loaders by class name, so two sets of one class would replace each other.
    """
    name = f"{cls.__name__}_{split}"
    doc = f"{cls.__name__} that reads the split `{split}` and no other."
    return type(name, (cls,), {"only_split": split, "__doc__": doc, "__module__": __name__, "__qualname__": name})


_CLASSES = (OPV2VDataset, OPV2VCoopDataset, OPV2VCylindricalDataset, OPV2VCoopCylindricalDataset)
DATASETS: dict[str, type[OPV2VBase]] = {cls.__name__: cls for cls in _CLASSES}
DATASETS.update({(locked := _locked(cls, split)).__name__: locked for cls in _CLASSES for split in SPLITS})
globals().update(DATASETS)  # so that a dataset can be pickled by name
