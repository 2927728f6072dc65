"""Panorama views for the host, which knows pinhole cameras only.

A panorama has no intrinsics: rays, range along the ray and points are computed here and handed over under the
host's names. Columns run once around: the last one neighbours the first, one column's azimuth apart.
"""

from __future__ import annotations

import logging
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.spatial.transform import Rotation

from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.host.data.base import Draw, OPV2VBase
from mapanything_opv2v.kinds import ELEVATION_CENTER_DEG, VERTICAL_FOV_DEG
from mapanything_opv2v.panorama import PanoramaOptions
from mapanything_opv2v.samples import choose, loading

logger = logging.getLogger(__name__)

_PREFIX = "panorama_"
_BUILDER_OPTIONS = tuple(f"{_PREFIX}{field.name}" for field in fields(PanoramaOptions))


class CylindricalBase(OPV2VBase):
    """One view is one vehicle's panorama, seen from its LiDAR.

    Parameters
    ----------
    panorama_resolution : (int, int), optional
        Width and height; the same thing as the host's `resolution`, of which one of the two is needed.
    panorama_vertical_fov_deg : float
        Between the outer edges of the first and last row, degrees.
    panorama_elevation_center_deg : float
        Elevation of the middle row, degrees; positive looks up.
    panorama_cache : str or Path, optional
        Folder filled by `mapanything-opv2v prebuild` with the same parameters; panoramas found there are not
        built again.
    panorama_roll : bool
        Roll each panorama by a random number of columns and turn its pose along: the vehicle seems to stand at
        another heading. For training; what is true of a sample stays true.
    **options
        See `OPV2VBase`, and `panorama_` before each field of `panorama.PanoramaOptions`
        (`panorama_projection_radius_m`, `panorama_fill_radius_px`, ...). `aug_crop` and
        `principal_point_centered` would cut the full turn open and raise.
    """

    layout = "panorama"

    def __init__(
        self,
        *,
        panorama_resolution: tuple[int, int] | None = None,
        panorama_vertical_fov_deg: float = VERTICAL_FOV_DEG,
        panorama_elevation_center_deg: float = ELEVATION_CENTER_DEG,
        panorama_cache: str | Path | None = None,
        panorama_roll: bool = False,
        resolution: Any = None,
        **options: Any,
    ) -> None:
        name = type(self).__name__
        for key in ("aug_crop", "principal_point_centered"):
            if options.get(key):
                raise ValueError(f"{name}: {key}={options[key]!r} would cut a panorama open; leave it out")
        if panorama_resolution is not None:
            width, height = panorama_resolution
            if resolution not in (None, (width, height), [(width, height)]):
                raise ValueError(
                    f"{name}: panorama_resolution={panorama_resolution} and resolution={resolution} differ; "
                    "they are the same thing, give one of them"
                )
            resolution = (width, height)
        if resolution is None:
            raise ValueError(f"{name}: give panorama_resolution=(width, height), for example (1008, 252)")
        self._vertical_deg = (panorama_vertical_fov_deg, panorama_elevation_center_deg)
        chosen = {key: options.pop(key) for key in _BUILDER_OPTIONS if key in options}
        self.panorama_options = PanoramaOptions(**{key.removeprefix(_PREFIX): chosen[key] for key in chosen})
        if not isinstance(panorama_roll, bool):
            raise ValueError(f"{name}: panorama_roll={panorama_roll!r}, expected True or False")
        self.panorama_roll = panorama_roll
        self.panorama_cache = None if panorama_cache is None else Path(panorama_cache)
        super().__init__(resolution=resolution, **options)
        self._check_panoramas()

    def _check_panoramas(self) -> None:
        """Refuse, before the first sample, angles that make no image and a cache of other parameters.

        Without a cache, one panorama of each size is built and dropped: colour tables and compiled kernels
        then stand in this process, and loader workers forked from it share them.
        """
        scene = self.scenes[0]
        frame = self.frames[scene.frame_number]
        agent_id, cameras = next(iter(scene.cameras.items()))
        for size_wh in self._resolutions:
            cylinder = self._cylinder(size_wh)
            if self.panorama_cache is not None:
                cache = loading.panorama_cache(
                    self.panorama_cache, cylinder, self.panorama_options, frame.agent(agent_id), cameras
                )
                if not cache.home.is_dir():
                    raise ValueError(
                        f"panorama_cache={self.panorama_cache} holds no panoramas of {size_wh} with these "
                        f"options (no {cache.home.name}); run `mapanything-opv2v prebuild` with them"
                    )
                continue
            try:
                meta = loading.load_meta(frame, agent_id)
                loading.load_panorama_view(
                    frame,
                    meta,
                    agent_id,
                    cameras,
                    cylinder,
                    self.panorama_options,
                    need_depth=self.options.need_depth,
                )
            except loading.SampleError as error:
                if self.strict:
                    raise
                logger.warning("colour tables are left to the first good sample: %s", error)

    @classmethod
    def _known_options(cls) -> tuple[str, ...]:
        own = (
            "panorama_resolution",
            "panorama_vertical_fov_deg",
            "panorama_elevation_center_deg",
            "panorama_cache",
            "panorama_roll",
        )
        return (*super()._known_options(), *own, *_BUILDER_OPTIONS)

    @property
    def cylinder(self) -> Cylinder:
        """Of the first resolution."""
        return self._cylinder(self._resolutions[0])

    def _cylinder(self, size_wh: tuple[int, int]) -> Cylinder:
        return Cylinder.from_size(size_wh, *self._vertical_deg)

    def _get_views(self, idx: int, num_views_to_sample: int, resolution: tuple[int, int]) -> list[dict[str, Any]]:
        draw = self._draw(idx, num_views_to_sample)
        self._rng = draw.rng
        agent_ids = choose.choose_agents(tuple(draw.cameras), draw.main, num_views_to_sample, draw.rng)
        cylinder = self._cylinder(resolution)
        return [self._panorama_view(self._draw_of(draw, agent_id), agent_id, cylinder) for agent_id in agent_ids]

    def _panorama_view(self, draw: Draw, agent_id: int, cylinder: Cylinder) -> dict[str, Any]:
        view = loading.load_panorama_view(
            draw.frame,
            draw.metas[agent_id],
            agent_id,
            draw.cameras[agent_id],
            cylinder,
            self.panorama_options,
            self.panorama_cache,
            need_depth=self.options.need_depth,
        )
        if self.panorama_roll:
            view = rolled(view, int(draw.rng.integers(cylinder.width)))
        return {
            "img": Image.fromarray(view.color),
            "depthmap": view.range_m,
            "camera_pose": view.T_world_pano.astype(np.float32),
            "non_ambiguous_mask": view.non_ambiguous,
            "dataset": "OPV2V",
            "label": draw.frame.name,
            "instance": f"agent{agent_id}/panorama",
            "agent_index": draw.agent_index(agent_id),
            "ray_directions_cam": cylinder.rays(),
        }

    def _getitem_fn(self, idx: int | tuple[int, ...]) -> list[dict[str, Any]]:
        """Return a sample in the host's form, as `BaseDataset._getitem_fn` does for pinhole views."""
        index, resolution_number, count = self._parse_index(idx)
        views = self._get_views(index, count, self._resolutions[resolution_number])
        assert len(views) == count
        for number, view in enumerate(views):
            self._complete(view, (index, resolution_number, number))
        return views

    def _complete(self, view: dict[str, Any], idx: tuple[int, int, int]) -> None:
        """Add what the host derives from depth and intrinsics; points and ranges in metres, float32."""
        width, height = view["img"].size
        pose, range_m, rays = view["camera_pose"], view["depthmap"], view.pop("ray_directions_cam")
        assert range_m.shape == rays.shape[:2] == view["non_ambiguous_mask"].shape == (height, width)
        assert np.isfinite(pose).all() and np.isfinite(range_m).all()
        points = range_m[..., None] * rays
        view["idx"] = idx
        view["is_metric_scale"] = self.is_metric_scale
        view["is_synthetic"] = self.is_synthetic
        view["true_shape"] = np.array((height, width), dtype=np.int32)
        view["img"] = self.transform(view["img"])
        view["data_norm_type"] = self.data_norm_type
        view["pts3d"] = _float32(points @ pose[:3, :3].T.astype(np.float64) + pose[:3, 3])
        view["valid_mask"] = range_m > 0
        view["depth_along_ray"] = range_m[..., None]
        view["ray_directions_cam"] = _float32(rays)
        view["pts3d_cam"] = _float32(points)
        view["depthmap"] = range_m[..., None]
        view["rng"] = int.from_bytes(self._rng.bytes(4), "big")
        view["camera_pose_quats"] = _float32(Rotation.from_matrix(pose[:3, :3]).as_quat())  # x, y, z, w
        view["camera_pose_trans"] = pose[:3, 3]


def rolled(view: loading.PanoramaView, columns: int) -> loading.PanoramaView:
    """Return a panorama moved to the right by columns, around the seam, with the pose under which it is the same."""
    angle = -2 * math.pi * columns / view.range_m.shape[1]
    turn = np.eye(4)
    turn[0, 0] = turn[2, 2] = math.cos(angle)
    turn[0, 2], turn[2, 0] = math.sin(angle), -math.sin(angle)
    return loading.PanoramaView(
        color=np.roll(view.color, columns, axis=1),
        range_m=np.roll(view.range_m, columns, axis=1),
        non_ambiguous=np.roll(view.non_ambiguous, columns, axis=1),
        T_world_pano=view.T_world_pano @ turn,
    )


def _float32(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(array, dtype=np.float32)
