"""Pinhole views: one view is one camera of one vehicle."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from mapanything_opv2v.host.data.base import Draw, OPV2VBase
from mapanything_opv2v.samples import choose
from mapanything_opv2v.samples.loading import load_pinhole_view


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
        pairs = choose.choose_pinhole_views(
            draw.cameras, draw.main, num_views_to_sample, self.options.min_agents, draw.rng
        )
        return [self._pinhole_view(self._draw_of(draw, a), a, camera, resolution) for a, camera in pairs]

    def _pinhole_view(self, draw: Draw, agent_id: int, camera: int, resolution: tuple[int, int]) -> dict[str, Any]:
        view = load_pinhole_view(draw.frame, draw.metas[agent_id], agent_id, camera, need_depth=self.options.need_depth)
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
