"""The way panoramas were made before, written out literally: crop, bilinear, average.

Each 800 x 600 image and depth map is scaled and cropped to the panorama's own size, every panorama pixel
looks it up bilinearly in its direction (no parallax), overlaps are averaged, and z-depth is taken for range.
YAML goes through PyYAML's Python loader. This is the peer that `bench_panorama.py` measures against.
"""

from __future__ import annotations

import numpy as np
import yaml
from mapanything_opv2v import geometry, rawdata
from PIL import Image


def load(agent: rawdata.AgentRecord, cylinder: geometry.Cylinder) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return colour (H, W, 3) uint8, "range" (H, W) float32 and coverage (H, W) bool of one agent."""
    with agent.yaml_path.open() as stream:
        meta = yaml.load(stream, Loader=yaml.SafeLoader)  # the Python one
    rays = cylinder.rays()
    color_sum, depth_sum = np.zeros(rays.shape), np.zeros(rays.shape[:2])
    count = np.zeros(rays.shape[:2])
    for number, path in agent.camera_paths.items():
        image = Image.open(path).convert("RGB")
        depth = np.load(agent.depth_paths[number]).astype(np.float32)
        depth[depth >= rawdata.SKY_DISTANCE_M] = 0
        K = np.array(meta[f"camera{number}"]["intrinsic"])
        image, depth, K = _crop(image, depth, K, (cylinder.width, cylinder.height))
        T_cam_pano = geometry.invert(geometry.T_world_cam_opencv(meta[f"camera{number}"]["cords"])) @ (
            geometry.T_world_cam_opencv(meta["lidar_pose"])
        )
        directions = rays @ T_cam_pano[:3, :3].T
        with np.errstate(divide="ignore", invalid="ignore"):
            u = K[0, 0] * directions[..., 0] / directions[..., 2] + K[0, 2]
            v = K[1, 1] * directions[..., 1] / directions[..., 2] + K[1, 2]
        height, width = depth.shape
        seen = (directions[..., 2] > 0) & (u >= 0) & (u < width - 1) & (v >= 0) & (v < height - 1)
        color_sum[seen] += _bilinear(np.asarray(image, np.float32), u[seen], v[seen])
        depth_sum[seen] += _bilinear(depth[..., None], u[seen], v[seen])[:, 0]
        count += seen
    shown = np.maximum(count, 1)
    color = (color_sum / shown[..., None]).astype(np.uint8)
    return color, (depth_sum / shown).astype(np.float32), count > 0


def _crop(
    image: Image.Image, depth: np.ndarray, K: np.ndarray, size: tuple[int, int]
) -> tuple[Image.Image, np.ndarray, np.ndarray]:
    """Scale to cover `size`, then cut out the middle."""
    width, height = image.size
    scale = max(size[0] / width, size[1] / height)
    scaled = (round(width * scale), round(height * scale))
    left, top = (scaled[0] - size[0]) // 2, (scaled[1] - size[1]) // 2
    box = (left, top, left + size[0], top + size[1])
    K = K.copy()
    K[:2] *= scale
    K[0, 2] -= left
    K[1, 2] -= top
    image = image.resize(scaled, Image.Resampling.LANCZOS).crop(box)
    depth = np.asarray(Image.fromarray(depth).resize(scaled, Image.Resampling.NEAREST).crop(box))
    return image, depth, K


def _bilinear(array: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return (N, C) values of an (H, W, C) array at columns u and rows v."""
    left, top = np.floor(u).astype(int), np.floor(v).astype(int)
    x, y = (u - left)[:, None], (v - top)[:, None]
    upper = array[top, left] * (1 - x) + array[top, left + 1] * x
    lower = array[top + 1, left] * (1 - x) + array[top + 1, left + 1] * x
    return upper * (1 - y) + lower * y
