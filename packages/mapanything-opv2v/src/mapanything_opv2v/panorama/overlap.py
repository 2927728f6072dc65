"""Do neighbouring cameras show the same thing where they overlap? A swapped or turned camera does not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.panorama.builder import PanoramaBuilder
from mapanything_opv2v.panorama.rig import Rig
from mapanything_opv2v.rawdata import AgentRecord, load_agent_yaml, load_image

MIN_PIXELS = 150
"""Overlaps with fewer panorama pixels say nothing."""

COMPARED = Cylinder(504, 126)
"""Panorama in which cameras are compared: coarse, since exposure and parallax differ anyway."""

_SHIFTS = range(-3, 4)  # parallax that is forgiven, pixels


def overlap_agreement(
    rig: Rig, images: Sequence[npt.NDArray[np.uint8]], cylinder: Cylinder = COMPARED
) -> dict[tuple[int, int], float]:
    """Correlate every two cameras of a rig in their overlap.

    Each camera is projected into the panorama alone (at infinity); brightness is blurred slightly and
    correlated (zero-mean normalised, so that exposure does not matter) at the best of a few small shifts.

    Parameters
    ----------
    rig : Rig
        The cameras.
    images : sequence of (H, W, 3) uint8
        RGB, in the rig's order.
    cylinder : Cylinder
        Pixels in which to compare.

    Returns
    -------
    dict of (int, int) to float
        Correlation in [-1, 1] by pair of camera numbers; only pairs that overlap by `MIN_PIXELS` or more.
    """
    alone = []
    for camera, image in zip(rig.cameras, images):
        made = PanoramaBuilder(Rig((camera,)), cylinder, projection_radius_m=math.inf).build([image])
        gray = cv2.cvtColor(made.color, cv2.COLOR_RGB2GRAY).astype(np.float32)
        alone.append((cv2.GaussianBlur(gray, (0, 0), 0.8), made.covered))
    result = {}
    for (i, (gray_i, seen_i)), (j, (gray_j, seen_j)) in itertools.combinations(enumerate(alone), 2):
        if np.count_nonzero(seen_i & seen_j) >= MIN_PIXELS:
            result[i, j] = max(
                correlation(gray_i, seen_i, np.roll(gray_j, by, (0, 1)), np.roll(seen_j, by, (0, 1)))
                for by in itertools.product(_SHIFTS, _SHIFTS)
            )
    return result


def agent_agreement(agent: AgentRecord, camera_ids: Sequence[int] | None = None) -> dict[str, float]:
    """Read an agent's images and return how well its cameras agree where they overlap, by ``"i-j"``."""
    ids = sorted(agent.camera_paths) if camera_ids is None else list(camera_ids)
    images = [load_image(agent.camera_paths[number]) for number in ids]
    sizes = [(image.shape[1], image.shape[0]) for image in images]
    files = [agent.camera_paths[number] for number in ids]
    rig = Rig.from_agent(load_agent_yaml(agent.yaml_path), sizes, ids, files)
    return {f"{ids[i]}-{ids[j]}": value for (i, j), value in overlap_agreement(rig, images).items()}


def correlation(a: npt.NDArray[Any], seen_a: npt.NDArray[Any], b: npt.NDArray[Any], seen_b: npt.NDArray[Any]) -> float:
    """Return the correlation of two images where both see something; -1 where that is too little."""
    both = seen_a & seen_b
    x, y = a[both].astype(np.float64), b[both].astype(np.float64)
    if x.size < MIN_PIXELS // 2:
        return -1.0
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale > 0 else 0.0
