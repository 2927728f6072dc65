"""Two predictions that take no learning, to stand beside a model's.

`constant`
    Says the same of every frame: per role of a view the median range image, the usual mask and the pose, relative to
    view 0, that fits the training split best.
`view0_copied`
    Says of every view what the model says of view 0. A model that does no better gets nothing from its other views.

Legend: V views, R roles, H rows, W columns. Metres; OpenCV axes. A role is what a view is to view 0: of the same
vehicle or of another one, and by which camera. A model is told less (no camera numbers), so the constant is strict.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from mapanything_opv2v.arrays import load_npz
from mapanything_opv2v.files import whole_file
from mapanything_opv2v.geometry import FloatArray, invert
from mapanything_opv2v.predictions import FramePredictions

CONSTANT, COPIED = "constant", "view0_copied"

SAMPLES = 100
"""Samples of the training split that the constant is fitted on, unless told."""

_MEDOID_OF = 1000
"""Rotations that compete for being the middle one; more are thinned evenly."""

_WEISZFELD_STEPS = 200

Role = tuple[bool, int]
"""Whether the view is of view 0's vehicle, and its camera (-1: a panorama)."""

Stack = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """What is true of one sample."""

    agents: tuple[int, ...]
    """(V,) whose view it is."""
    cameras: tuple[int, ...] | None
    """(V,) which camera; None for panoramas."""
    pose_world_cam: FloatArray
    """(V, 4, 4)."""
    range_m: npt.NDArray[np.float32]
    """(V, H, W) along the ray, 0 unknown."""
    mask: npt.NDArray[np.bool_]
    """(V, H, W) False where there is known to be nothing (sky, uncovered)."""
    rays: npt.NDArray[np.float32]
    """(V, H, W, 3) unit."""

    @classmethod
    def of(cls, frame: FramePredictions) -> Truth:
        """Return the truth that stands beside a frame's predictions.

        Raises
        ------
        ValueError
            If it is not whole.
        """
        rays = [frame.rays_true(view) for view in range(frame.views)]
        if frame.pose_world_cam_true is None or frame.range_m_true is None or rays[0] is None:
            raise ValueError(
                f"{frame.meta.name}: baselines are fitted on true poses, ranges and rays; some are missing"
            )
        mask = np.ones(frame.range_m.shape, dtype=bool) if frame.mask_true is None else frame.mask_true
        return cls(
            agents=frame.meta.agents,
            cameras=frame.meta.cameras,
            pose_world_cam=frame.pose_world_cam_true,
            range_m=frame.range_m_true,
            mask=mask,
            rays=np.stack([ray for ray in rays if ray is not None]).astype(np.float32),
        )


@dataclass(frozen=True, eq=False)
class Constant:
    """What `constant` says, by role."""

    roles: tuple[Role, ...]
    """(R,)."""
    T_view0_view: FloatArray
    """(R, 4, 4)."""
    range_m: npt.NDArray[np.float32]
    """(R, H, W)."""
    mask: npt.NDArray[np.bool_]
    """(R, H, W)."""
    rays: npt.NDArray[np.float32]
    """(R, H, W, 3)."""
    samples: int
    """That it was fitted on."""

    def predict(self, frame: FramePredictions) -> FramePredictions:
        """Return the frame with this in place of what the model said; nothing of the frame is looked at but names.

        Raises
        ------
        ValueError
            If the views are of another size than those of the fit.
        """
        if frame.range_m.shape[1:] != self.range_m.shape[1:]:
            (height, width), (rows, columns) = frame.range_m.shape[1:], self.range_m.shape[1:]
            raise ValueError(
                f"{frame.meta.name}: views of {width} x {height}, the constant baseline was fitted on {columns} x "
                f"{rows}; fit it with the same data options"
            )
        chosen = [self._row(role) for role in roles(frame.meta.agents, frame.meta.cameras)]
        poses = self.T_view0_view[chosen].copy()
        poses[0] = np.eye(4)
        return replace(
            frame,
            range_m=self.range_m[chosen],
            rays=self.rays[chosen],
            mask=self.mask[chosen],
            pose_world_cam_pred=poses,
            metric_scale=1.0,
            confidence=None,
        )

    def _row(self, role: Role) -> int:
        """Return the role's row; a role that the training split did not have is answered by the nearest one."""
        if role in self.roles:
            return self.roles.index(role)
        near = [known for known in self.roles if known[1] == role[1]] or [k for k in self.roles if k[0] == role[0]]
        return self.roles.index((near or list(self.roles))[0])


def roles(agents: Sequence[int], cameras: Sequence[int] | None) -> list[Role]:
    """Return each view's role.

    Examples
    --------
    >>> roles((641, 641, 650), (0, 3, 0))
    [(True, 0), (True, 3), (False, 0)]
    """
    ids = [-1] * len(agents) if cameras is None else list(cameras)
    return [(agent == agents[0], camera) for agent, camera in zip(agents, ids)]


def fit(samples: Iterable[Truth]) -> Constant:
    """Return the constant that fits samples (of the training split) best.

    Translations: the point with the smallest mean distance. Rotations: of those there are, the one with the smallest
    mean angle to the others. Ranges: the median of each pixel, of its row where the pixel's range is never known.

    Raises
    ------
    ValueError
        If there are no samples, their sizes differ, or no range is known.
    """
    poses: dict[Role, list[FloatArray]] = defaultdict(list)
    images: dict[Role, list[tuple[Stack, Stack]]] = defaultdict(list)
    rays: dict[Role, Stack] = {}
    count, size = 0, (0, 0)
    for sample in samples:
        count += 1
        here = (sample.range_m.shape[2], sample.range_m.shape[1])
        if count > 1 and here != size:
            raise ValueError(f"baselines: views of {size} and {here} pixels; fit the constant on one size")
        size, T_view0_world = here, invert(sample.pose_world_cam[0])
        for view, role in enumerate(roles(sample.agents, sample.cameras)):
            poses[role].append(T_view0_world @ sample.pose_world_cam[view])
            # float16: a thousandth is near enough for a median
            images[role].append((sample.range_m[view].astype(np.float16), sample.mask[view]))
            rays[role] = rays.get(role, 0) + sample.rays[view]
    if not count:
        raise ValueError("baselines: no samples to fit the constant on")
    known = [image[image > 0] for pairs in images.values() for image, _ in pairs]
    if not sum(part.size for part in known):
        raise ValueError(f"baselines: none of {count} samples has a known range; their split has no depth maps")
    anywhere, order = float(np.median(np.concatenate(known))), tuple(sorted(poses))
    stacks = [tuple(np.stack(part) for part in zip(*images[role])) for role in order]
    fitted = [_images(ranges, masks, anywhere) for ranges, masks in stacks]
    directions = np.stack([rays[role] for role in order])
    return Constant(
        roles=order,
        T_view0_view=np.stack([_middle_pose(np.stack(poses[role])) for role in order]),
        range_m=np.stack([image for image, _ in fitted]),
        mask=np.stack([mask for _, mask in fitted]),
        rays=(directions / np.linalg.norm(directions, axis=-1, keepdims=True)).astype(np.float32),
        samples=count,
    )


def copied(frame: FramePredictions) -> FramePredictions:
    """Return the frame with view 0's predictions, its pose too, in place of every other view's."""

    def repeat(array: Stack) -> Stack:
        return np.repeat(array[:1], len(array), axis=0)

    return replace(
        frame,
        range_m=repeat(frame.range_m),
        rays=repeat(frame.rays),
        mask=repeat(frame.mask),
        pose_world_cam_pred=repeat(frame.pose_world_cam_pred),
        confidence=None if frame.confidence is None else repeat(frame.confidence),
    )


def save(path: Path, constant: Constant, provenance: dict[str, Any] | None = None) -> None:
    """Write a fitted constant, whole or not at all."""
    meta = {"samples": constant.samples, "provenance": provenance}
    with whole_file(path) as stream:
        np.savez_compressed(
            stream,
            roles=np.array(constant.roles, dtype=np.int64),
            T_view0_view=constant.T_view0_view,
            range_m=constant.range_m,
            mask=constant.mask,
            rays=constant.rays,
            meta=np.array(json.dumps(meta)),
        )


def load(path: Path) -> tuple[Constant, dict[str, Any] | None]:
    """Read what `save` wrote: the constant and its provenance.

    Raises
    ------
    ValueError
        If it is no such file; names it.
    OSError
        If it cannot be read.
    """
    try:
        arrays = load_npz(path)
        meta = json.loads(str(arrays["meta"]))
        constant = Constant(
            roles=tuple((bool(own), int(camera)) for own, camera in arrays["roles"]),
            samples=int(meta["samples"]),
            **{name: arrays[name] for name in ("T_view0_view", "range_m", "mask", "rays")},
        )
        if not len(constant.roles) == len(constant.T_view0_view) == len(constant.range_m) == len(constant.mask):
            raise ValueError("its arrays do not belong together")
        return constant, meta["provenance"]
    except OSError:
        raise
    except Exception as error:  # a value of another kind than expected can raise nearly anything
        raise ValueError(f"{path}: no fitted constant baseline: {error or type(error).__name__}") from error


def geometric_median(points: FloatArray) -> FloatArray:
    """Return the point (D,) with the smallest mean distance to points (N, D), by Weiszfeld's steps."""
    middle = np.median(points, axis=0)
    for _ in range(_WEISZFELD_STEPS):
        away = np.maximum(np.linalg.norm(points - middle, axis=1), 1e-9)
        moved = (points / away[:, None]).sum(axis=0) / (1 / away).sum()
        if np.linalg.norm(moved - middle) < 1e-6:
            break
        middle = moved
    return np.asarray(middle, dtype=np.float64)


def medoid_rotation(rotations: FloatArray) -> FloatArray:
    """Return that of rotations (N, 3, 3) with the smallest mean angle to the others."""
    thin = rotations[np.linspace(0, len(rotations) - 1, min(len(rotations), _MEDOID_OF)).astype(int)]
    quats = Rotation.from_matrix(thin).as_quat()
    angles = 2 * np.arccos(np.clip(np.abs(quats @ quats.T), 0, 1))
    return np.asarray(thin[int(angles.sum(axis=1).argmin())])


def _middle_pose(poses: FloatArray) -> FloatArray:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = medoid_rotation(poses[:, :3, :3]), geometric_median(poses[:, :3, 3])
    return T


def _images(range_m: Stack, mask: Stack, anywhere: float) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return the median range image and the usual mask of images (N, H, W)."""
    known = range_m > 0
    height = range_m.shape[1]
    rows, rows_known = (np.swapaxes(part, 0, 1).reshape(height, -1).T for part in (range_m, known))
    image, by_row = _median(range_m, known), _median(rows, rows_known)
    by_row = np.where(by_row > 0, by_row, anywhere)
    judged = known | ~mask
    surface = (mask & judged).sum(axis=0) * 2 >= judged.sum(axis=0)  # True where nothing is known
    return np.where(image > 0, image, by_row[:, None]).astype(np.float32), surface


def _median(values: Stack, known: Stack) -> Stack:
    """Return the median along the first axis of what is known; 0 where nothing is."""
    ordered = np.sort(np.where(known, values, np.inf), axis=0)
    count = known.sum(axis=0)
    picked = (np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(values) - 1))
    low, high = (np.take_along_axis(ordered, index[None], axis=0)[0].astype(np.float32) for index in picked)
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, (low + high) / 2, 0)
