"""A small stand-in for MapAnything's dataset classes, written from the documented contract.

It has the names, signatures, keys, shapes and types that the plugin relies on. `tests/host/test_double.py`
compares it with the real host.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

NORMS = {"dinov2": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), "identity": ([0.0] * 3, [1.0] * 3)}


class EasyDataset:
    def __add__(self, other):
        return CatDataset([self, other])

    def __rmul__(self, factor):
        return MulDataset(factor, self)

    def __rmatmul__(self, factor):
        return ResizedDataset(factor, self)

    def set_epoch(self, epoch):
        return None

    def make_sampler(self, world_size=1, max_num_of_images_per_gpu=None):
        """A stand-in for a sampler that knows how many batches it has."""
        fewest = self.num_views[0] if isinstance(self.num_views, list) else self.num_views
        return range(len(self) // max(1, max_num_of_images_per_gpu // fewest) // world_size)


class _Wrapper(EasyDataset):
    def __init__(self, number, dataset):
        self.number, self.dataset = number, dataset

    num_views = property(lambda self: self.dataset.num_views)
    _resolutions = property(lambda self: self.dataset._resolutions)

    def _inner(self, idx, number):
        return self.dataset[(number, *idx[1:]) if isinstance(idx, tuple) else number]


class MulDataset(_Wrapper):
    multiplicator = property(lambda self: self.number)

    def __len__(self):
        return self.number * len(self.dataset)

    def __getitem__(self, idx):
        return self._inner(idx, (idx[0] if isinstance(idx, tuple) else idx) // self.number)


class ResizedDataset(_Wrapper):
    def __len__(self):
        return self.number

    def set_epoch(self, epoch):
        order = np.random.default_rng(epoch + 777).permutation(len(self.dataset))
        self._numbers = np.resize(order, self.number)

    def __getitem__(self, idx):
        number = idx[0] if isinstance(idx, tuple) else idx
        self.dataset._set_seed_offset(number // len(self.dataset))
        return self._inner(idx, self._numbers[number])


class CatDataset(EasyDataset):
    def __init__(self, datasets):
        self.datasets = datasets

    def set_epoch(self, epoch):
        for dataset in self.datasets:
            dataset.set_epoch(epoch)


class Transform:
    def __init__(self, name, mean, std):
        self.name, self.mean, self.std = name, mean, std

    def __call__(self, image):
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
        if self.name != "imgnorm":
            pixels = pixels ** (0.5 + torch.rand(()))
        return (pixels - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.std)[:, None, None]


class BaseDataset(EasyDataset):
    def __init__(
        self,
        num_views,
        variable_num_views=False,
        split=None,
        covisibility_thres=None,
        resolution=None,
        principal_point_centered=False,
        transform=None,
        data_norm_type=None,
        aug_crop=0,
        seed=None,
        max_num_retries=5,
    ):
        assert resolution is not None, "undefined resolution"
        several = resolution if isinstance(resolution, list) else [resolution]
        self._resolutions = [(r, r) if isinstance(r, int) else r for r in several]
        self.num_views = list(range(2, num_views + 1)) if variable_num_views and num_views > 2 else num_views
        self.variable_num_views, self.num_views_min, self.split = variable_num_views, 2, split
        self.aug_crop, self.seed, self._seed_offset = aug_crop, seed, 0
        self.max_num_retries, self.data_norm_type = max_num_retries, data_norm_type
        self.is_metric_scale = self.is_synthetic = False
        if data_norm_type not in NORMS:
            raise ValueError(f"Unknown data_norm_type: {data_norm_type}")
        if transform not in ("imgnorm", "colorjitter", "colorjitter+grayscale+gaublur"):
            raise ValueError("Unknown transform")
        self.transform = Transform(transform, *NORMS[data_norm_type])

    def __len__(self):
        return self.num_of_scenes

    def get_stats(self):
        return f"{self.num_of_scenes} scenes"

    def _set_seed_offset(self, idx):
        self._seed_offset = idx

    def _crop_resize_if_necessary(self, image, resolution, depthmap, intrinsics):
        target = np.array(resolution) + (self._rng.integers(0, self.aug_crop) if self.aug_crop > 1 else 0)
        scale = max(target / image.size) + 1e-8
        size = np.floor(np.array(image.size) * scale).astype(int)
        rows = (np.arange(size[1]) * (depthmap.shape[0] / size[1])).astype(int)
        columns = (np.arange(size[0]) * (depthmap.shape[1] / size[0])).astype(int)
        left, top = np.round((size - resolution) / 2).astype(int)
        K = intrinsics.copy()
        K[:2, 2] += 0.5
        K[:2] *= scale
        K[:2, 2] -= 0.5 * (np.array(image.size) * scale - size) + (left + 0.5, top + 0.5)
        box = (left, top, left + resolution[0], top + resolution[1])
        depthmap = depthmap[rows][:, columns][top : box[3], left : box[2]]
        return image.resize(tuple(size.tolist()), Image.LANCZOS).crop(tuple(map(int, box))), depthmap, K

    def _getitem_fn(self, idx):
        idx, ar_idx, *count = idx if isinstance(idx, tuple) else (idx, 0)
        if self.seed or not hasattr(self, "_rng"):
            self._rng = np.random.default_rng((self.seed or 0) + self._seed_offset + idx)
        wanted = self.num_views[count[0]] if count else self.num_views
        views = self._get_views(idx, wanted, self._resolutions[ar_idx])
        assert len(views) == wanted
        for number, view in enumerate(views):
            self._complete(view, (idx, ar_idx, number))
        return views

    def _complete(self, view, idx):
        assert not {"valid_mask", "pts3d"} & set(view)
        depth, K, pose = view["depthmap"], view["camera_intrinsics"], view["camera_pose"]
        assert depth.dtype == K.dtype == pose.dtype == np.float32
        assert np.isfinite(pose).all() and np.isfinite(depth).all()
        width, height = view["img"].size
        assert depth.shape == (height, width)
        u, v = np.meshgrid(np.arange(width), np.arange(height))
        rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones_like(u)], -1).astype(np.float32)
        points = depth[..., None] * rays
        view["idx"], view["true_shape"] = idx, np.int32((height, width))
        view["is_metric_scale"], view["is_synthetic"] = self.is_metric_scale, self.is_synthetic
        view["img"], view["data_norm_type"] = self.transform(view["img"]), self.data_norm_type
        view["pts3d"] = points @ pose[:3, :3].T + pose[:3, 3]
        view["valid_mask"] = depth > 0
        view["depth_along_ray"] = np.linalg.norm(points, axis=-1, keepdims=True)
        view["ray_directions_cam"] = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
        view["pts3d_cam"] = points
        view["non_ambiguous_mask"] = view.get("non_ambiguous_mask", depth >= 0).astype(bool)
        view["depthmap"] = depth[..., None]
        view["rng"] = int.from_bytes(self._rng.bytes(4), "big")
        view["camera_pose_quats"] = Rotation.from_matrix(pose[:3, :3]).as_quat().astype(np.float32)
        view["camera_pose_trans"] = pose[:3, 3].astype(np.float32)


def modules() -> dict[str, ModuleType]:
    """Return the double's modules by name, for `sys.modules`."""
    training = _training()
    base, train = ".datasets.base", ".train"
    names = ("", ".datasets", base, f"{base}.base_dataset", f"{base}.easy_dataset", ".models", train)
    made = {
        f"mapanything{name}": ModuleType(f"mapanything{name}") for name in (*names, ".train.losses", ".train.training")
    }
    made["mapanything.datasets.base.base_dataset"].BaseDataset = BaseDataset
    for cls in (EasyDataset, MulDataset, ResizedDataset, CatDataset):
        setattr(made["mapanything.datasets.base.easy_dataset"], cls.__name__, cls)
    for cls in training.LOSSES:
        for name in ("losses", "training"):  # `from mapanything.train.losses import *`
            setattr(made[f"mapanything.train.{name}"], cls.__name__, cls)
    for name in ("MapAnything", "MODEL_CONFIGS", "model_factory"):
        setattr(made["mapanything.models"], name, getattr(training, name))
    for name, module in made.items():
        module.__path__ = []
        parent, _, leaf = name.rpartition(".")
        if parent:
            setattr(made[parent], leaf, module)
    return made


def _training() -> ModuleType:
    """Return a fresh copy of the double of losses and model: its MODEL_CONFIGS belongs to one test."""
    path = Path(__file__).with_name("host_double_training.py")
    spec = importlib.util.spec_from_file_location("opv2v_host_double_training", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its classes can be pickled
    spec.loader.exec_module(module)
    return module


def clear() -> None:
    """Forget the plugin modules that were imported against a host or a double."""
    for name in [n for n in sys.modules if n == "mapanything_opv2v.host" or n.startswith("mapanything_opv2v.host.")]:
        del sys.modules[name]
