"""Views of whole sets of towns in memory, for learn_towns.py: a training waits for no file.

`pack` asks the package's own one-vehicle dataset for every view once and keeps colour, range, masks and pose in plain
arrays. `Pack.views` puts samples of one or two vehicles together on the GPU, with everything that the host's loaders
hand over: the same numbers as the cooperative datasets' samples. As a script it is the package's launcher with these
loaders in place of the host's; nothing else of a training changes:

    python learn_towns_pack.py '{"train": "packed/panorama/train", "validate": ..., "towns": 400}' +experiment=...
"""

from __future__ import annotations

import functools
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

ARRAYS = ("color", "range_m", "surface", "pose", "quats")
Views = list[dict[str, Any]]

PROFILED = range(60, 70)
"""Steps of the first epoch."""

_open: list[Any] = []


def pack(dataset: Any, folder: Path, workers: int) -> None:
    """Write every sample of a one-vehicle dataset, which has all cameras of the vehicle or its panorama."""
    first = _ordered(dataset.sample(0))
    count, views = len(dataset), len(first)
    height, width = first[0]["img"].shape[1:]
    shapes = {
        "color": ((count, views, height, width, 3), np.uint8),
        "range_m": ((count, views, height, width), np.float32),
        "surface": ((count, views, height, width), np.bool_),
        "pose": ((count, views, 4, 4), np.float64),
        "quats": ((count, views, 4), np.float64),
    }
    folder.mkdir(parents=True)
    for name, (shape, kind) in shapes.items():
        np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=kind, shape=shape).flush()
    np.save(folder / "rays.npy", np.stack([np.asarray(view["ray_directions_cam"]) for view in first]))
    if "camera_intrinsics" in first[0]:
        np.save(folder / "intrinsics.npy", np.stack([view["camera_intrinsics"] for view in first]))
    _open[:] = [dataset, {name: np.lib.format.open_memmap(folder / f"{name}.npy", mode="r+") for name in shapes}]
    numbers = np.arange(count)
    if workers == 1:
        names = [name for number in numbers for name in _write([number])]
    else:
        with multiprocessing.get_context("fork").Pool(workers) as pool:
            chunks = [part.tolist() for part in np.array_split(numbers, min(count, 4 * workers))]
            names = [name for part in pool.map(_write, chunks, chunksize=1) for name in part]
    meta = {"names": names, "data_norm_type": first[0]["data_norm_type"]}
    (folder / "meta.json").write_text(json.dumps(meta))


def _ordered(views: Views) -> Views:
    """Return the views by camera, which the dataset shuffles."""
    return sorted(views, key=lambda view: view["instance"])


def _write(numbers: Sequence[int]) -> list[tuple[str, list[str]]]:
    """Write some samples; return the label and the instances of each."""
    dataset, arrays = _open
    told = []
    for number in numbers:
        views = _ordered(dataset.sample(number))
        for place, view in enumerate(views):
            mean, std = normalisation(view["data_norm_type"])
            color = view["img"] * std[:, None, None] + mean[:, None, None]
            arrays["color"][number, place] = (color * 255).round().byte().permute(1, 2, 0).numpy()
            arrays["range_m"][number, place] = np.where(view["valid_mask"], view["depth_along_ray"][..., 0], 0)
            arrays["surface"][number, place] = view["non_ambiguous_mask"]
            arrays["pose"][number, place] = view["camera_pose"]
            arrays["quats"][number, place] = view["camera_pose_quats"]
        told.append((views[0]["label"], [view["instance"] for view in views]))
    return told


def normalisation(data_norm_type: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and deviation of the encoder's images."""
    from uniception.models.encoders.image_normalizations import IMAGE_NORMALIZATION_DICT

    known = IMAGE_NORMALIZATION_DICT[data_norm_type]
    return known.mean, known.std


class Pack:
    """What `pack` wrote, on a device. A row is one vehicle at one moment."""

    def __init__(self, folder: Path, device: str, towns: int | None = None) -> None:
        meta = json.loads((folder / "meta.json").read_text())
        self.labels = [label for label, _ in meta["names"]]
        self.instances = [instances for _, instances in meta["names"]]
        self.town_of = [label.split("/")[1] for label in self.labels]
        chosen = set(sorted(set(self.town_of))[:towns])
        rows = [row for row, town in enumerate(self.town_of) if town in chosen]
        self.labels, self.instances, self.town_of = (
            [values[row] for row in rows] for values in (self.labels, self.instances, self.town_of)
        )
        self.device, self.norm = device, meta["data_norm_type"]
        whole = rows == list(range(len(meta["names"])))
        for name in ARRAYS:
            array = np.load(folder / f"{name}.npy", mmap_mode=None if whole else "r")
            array = array if whole else array[rows]
            kind = torch.from_numpy(np.ascontiguousarray(array))
            setattr(self, name, kind.to(device))
        self.rays = torch.from_numpy(np.load(folder / "rays.npy")).float().to(device)
        known = folder / "intrinsics.npy"
        self.intrinsics = torch.from_numpy(np.load(known)).to(device) if known.is_file() else None
        self.mean, self.std = (part.to(device) for part in normalisation(self.norm))
        self.positions = self.pose[:, 0, :3, 3].cpu().numpy()

    color: torch.Tensor
    range_m: torch.Tensor
    surface: torch.Tensor
    pose: torch.Tensor
    quats: torch.Tensor

    def pairs(self, farthest_m: float = math.inf, moments: slice = slice(None)) -> np.ndarray:
        """Return all ordered pairs of vehicles (N, 2) of a moment that are not farther apart than so."""
        groups: dict[str, list[int]] = {}
        for row, label in enumerate(self.labels):
            groups.setdefault(label, []).append(row)
        frames = sorted({label.split("/")[2] for label in groups})[moments]
        found = [np.empty((0, 2), dtype=int)]
        for label, rows in sorted(groups.items()):
            if label.split("/")[2] in frames:
                at, where = np.array(rows), self.positions[rows]
                away = np.linalg.norm(where[:, None] - where, axis=-1)
                np.fill_diagonal(away, math.inf)
                found.append(at[np.argwhere(np.isfinite(away) & (away <= farthest_m))])
        return np.concatenate(found)

    def views(self, rows: np.ndarray, columns: torch.Tensor | None = None) -> Views:
        """Return a collated batch: samples (B, vehicles), panoramas rolled by columns (B, vehicles) if told."""
        made = []
        for vehicle in range(rows.shape[1]):
            for place in range(self.color.shape[1]):
                roll = None if columns is None else columns[:, vehicle]
                made.append(self._view(rows[:, vehicle], place, vehicle, roll))
        return made

    def _view(self, rows: np.ndarray, place: int, vehicle: int, roll: torch.Tensor | None) -> dict[str, Any]:
        at = torch.as_tensor(np.ascontiguousarray(rows), device=self.device)
        color, range_m, surface = self.color[at, place], self.range_m[at, place], self.surface[at, place]
        R, t, quats = self.pose[at, place, :3, :3], self.pose[at, place, :3, 3], self.quats[at, place]
        count, height, width = range_m.shape
        if roll is not None:
            roll = roll.to(self.device)
            from_column = (torch.arange(width, device=self.device) - roll[:, None]) % width
            picked = from_column[:, None].expand(count, height, width)
            range_m, surface = range_m.gather(2, picked), surface.gather(2, picked)
            color = color.gather(2, picked[..., None].expand(count, height, width, 3))
            R, quats = turned(R, quats, -2 * math.pi * roll.double() / width)
        R, t = R.float(), t.float()
        rays = self.rays[place].expand(count, height, width, 3)
        points = range_m[..., None] * rays
        image = color.permute(0, 3, 1, 2).float().div(255).sub(self.mean[:, None, None]).div(self.std[:, None, None])
        pose = torch.eye(4, device=self.device).repeat(count, 1, 1)
        pose[:, :3, :3], pose[:, :3, 3] = R, t
        yes = torch.ones(count, dtype=torch.bool, device=self.device)
        pinhole = {} if self.intrinsics is None else {"camera_intrinsics": self.intrinsics[place].repeat(count, 1, 1)}
        return {
            **pinhole,
            **{"img": image, "data_norm_type": [self.norm] * count, "camera_pose": pose, "dataset": ["OPV2V"] * count},
            **{"label": [self.labels[row] for row in rows], "instance": [self.instances[row][place] for row in rows]},
            **{"agent_index": torch.full((count,), vehicle, device=self.device), "ray_directions_cam": rays},
            **{"is_metric_scale": yes, "is_synthetic": yes, "valid_mask": range_m > 0, "non_ambiguous_mask": surface},
            **{"depth_along_ray": range_m[..., None], "depthmap": range_m[..., None], "pts3d_cam": points},
            **{"pts3d": torch.einsum("bij,bhwj->bhwi", R, points) + t[:, None, None]},
            **{"camera_pose_quats": quats.float(), "camera_pose_trans": t},
        }


def turned(R: torch.Tensor, quats: torch.Tensor, angle: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rotations (B, 3, 3) and quaternions (B, 4; x, y, z, w) after a turn about their own y axis."""
    c, s, nil = angle.cos(), angle.sin(), torch.zeros_like(angle)
    turn = torch.stack([c, nil, s, nil, nil + 1, nil, -s, nil, c], dim=-1).reshape(-1, 3, 3)
    x, y, z, w = quats.unbind(-1)
    half_s, half_c = (angle / 2).sin(), (angle / 2).cos()
    made = [x * half_c - z * half_s, y * half_c + w * half_s, z * half_c + x * half_s, w * half_c - y * half_s]
    return R @ turn, torch.stack(made, dim=-1)


def led_by_the_first(pack: Pack, rows: np.ndarray) -> np.ndarray:
    """Return the pairs whose main agent is the first vehicle of its moment, as `main_agent_policy: first` has it."""
    first = [number == 0 or label != pack.labels[number - 1] for number, label in enumerate(pack.labels)]
    return rows[np.array(first)[rows[:, 0]]]


class Pace:
    """How many steps each further epoch has, so that the last one ends, the learning rate down, when the time does."""

    def __init__(self, until: float, epochs: int) -> None:
        self.until, self.epochs = until, epochs
        self.began = self.last = self.between = self.step_s = 0.0

    def steps(self, epoch: int, planned: int, now: float) -> int:
        """Return the steps of an epoch, counted from 0, that begins now; as planned while nothing is timed yet."""
        if self.last:
            self.between = max(self.between, now - self.last)
        self.began = now
        if not self.step_s:
            return planned
        left = self.epochs - epoch
        return max(1, int(((self.until - now) / left - self.between / 2) / self.step_s))

    def ended(self, steps: int, now: float) -> None:
        """Take the time of an epoch that ends now."""
        self.last, self.step_s = now, (now - self.began) / steps


class Batches:
    """Takes the place of a host loader: batches made on the GPU, other ones every epoch if they are for training."""

    def __init__(self, loader: Any, pack: Pack, rows: np.ndarray, batch: int, steps: int | None, job: dict[str, Any]):
        self.dataset, self.pack, self.rows, self.batch = loader.dataset, pack, rows, batch
        self.steps, self.job = steps, job
        self.began = 0
        self.pace = Pace(job["until"], job["epochs"]) if steps and job.get("until") else None

    def __len__(self) -> int:
        """Return the steps of an epoch."""
        return self.steps or math.ceil(len(self.rows) / self.batch)

    def __iter__(self) -> Iterator[Views]:
        """Yield collated batches."""
        if self.steps is None:
            for first in range(0, len(self.rows), self.batch):
                yield self.pack.views(self.rows[first : first + self.batch])
            return
        self.began += 1
        profiler = self._profiler()
        from mapanything_opv2v.host.data.fixed_steps import leaves

        epoch = next(iter(leaves(self.dataset)))._epoch  # a run that goes on sees new samples
        if self.pace is not None:
            self.steps = self.pace.steps(epoch, self.steps, time.time())
        print(f"epoch {epoch} has {self.steps} steps", flush=True)
        rng = np.random.default_rng([self.job["seed"], epoch])
        width = self.pack.color.shape[3]
        for step in range(self.steps):
            if profiler is not None and step in (PROFILED.start, PROFILED.stop):
                profiler.start() if step == PROFILED.start else self._tell(profiler)
            chosen = self.rows[rng.integers(0, len(self.rows), self.batch)]
            columns = torch.from_numpy(rng.integers(0, width, chosen.shape)) if self.job["roll"] else None
            yield self.pack.views(chosen, columns)
        if self.pace is not None:
            self.pace.ended(self.steps, time.time())

    def _profiler(self) -> Any:
        if not self.job.get("profile") or self.began > 1 or self.steps is None or self.steps <= PROFILED.stop:
            return None
        kinds = [torch.profiler.ProfilerActivity.CPU]
        kinds += [torch.profiler.ProfilerActivity.CUDA] if torch.cuda.is_available() else []
        return torch.profiler.profile(activities=kinds)

    def _tell(self, profiler: Any) -> None:
        profiler.stop()
        table = profiler.key_averages()
        by = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        text = "\n".join(table.table(sort_by=key, row_limit=18) for key in (by, "self_cpu_time_total"))
        Path(self.job["profile"]).write_text(text)


@torch.no_grad()
def errors(model: torch.nn.Module, batches: Batches, stranger: bool = False) -> dict[str, float]:
    """Return errors of the other vehicle's pose over validation samples: metres, degrees, and by how much it is off."""
    moved, turns, away = [], [], []
    for views in batches:
        if stranger:
            half, views = len(views) // 2, [dict(view) for view in views]
            for view in views[half:]:
                view["img"] = view["img"].roll(len(view["img"]) // 2, 0)
        first, other = views[0], views[len(views) // 2]
        with torch.autocast(batches.pack.device, torch.bfloat16, enabled=batches.pack.device == "cuda"):
            preds = model(views)
        said, start = preds[len(views) // 2], preds[0]
        true = torch.linalg.solve(first["camera_pose"].double(), other["camera_pose"].double())
        R0, R1 = (matrices(p["cam_quats"].double()) for p in (start, said))
        t = R0.transpose(1, 2) @ (said["cam_trans"] - start["cam_trans"]).double()[..., None]
        moved.append((t[..., 0] - true[:, :3, 3]).norm(dim=-1))
        turns.append(angles(R1.transpose(1, 2) @ R0 @ true[:, :3, :3]))
        away.append(true[:, :3, 3].norm(dim=-1))
    m, d, a = (torch.cat(part) for part in (moved, turns, away))
    near = a <= 40
    found = {"m": m, "deg": d, "distance_m": a, "m_near": m[near], "deg_near": d[near], "median_m_near": m[near]}
    return {name: float(v.median() if "median" in name else v.mean()) for name, v in found.items() if len(v)}


def matrices(q: torch.Tensor) -> torch.Tensor:
    """Return the rotations (B, 3, 3) of quaternions (B, 4; x, y, z, w)."""
    x, y, z, w = torch.nn.functional.normalize(q, dim=-1).unbind(-1)
    rows = [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w), 2 * (x * y + z * w)]
    rows += [1 - 2 * (x * x + z * z), 2 * (y * z - x * w), 2 * (x * z - y * w), 2 * (y * z + x * w)]
    return torch.stack([*rows, 1 - 2 * (x * x + y * y)], dim=-1).reshape(-1, 3, 3)


def angles(R: torch.Tensor) -> torch.Tensor:
    """Return the angles (B,) of rotations (B, 3, 3), degrees."""
    return torch.rad2deg(torch.arccos(((R.diagonal(dim1=1, dim2=2).sum(-1) - 1) / 2).clamp(-1, 1)))


def skipping(host: Any) -> Any:
    """Return the host's loss of a batch, 0 where it is no number: MapAnything's loop would end there."""

    @functools.wraps(host)
    def loss_of_one_batch(batch: Views, model: torch.nn.Module, *rest: Any, **more: Any) -> Any:
        found = host(batch, model, *rest, **more)
        if not isinstance(found, tuple) or not found[0].requires_grad or bool(torch.isfinite(found[0])):
            return found
        print("skipped: a loss that is no number", flush=True)
        return torch.stack([0 * p.nan_to_num().sum() for p in model.parameters() if p.requires_grad]).sum(), {}

    return loss_of_one_batch


def install(job: dict[str, Any]) -> None:
    """Give the host's training the packed loaders; the package's datasets are opened as ever, for names and checks."""
    from mapanything.train import training

    started, host, device = time.monotonic(), training.build_dataset, "cuda" if torch.cuda.is_available() else "cpu"

    def build_dataset(
        dataset: str,
        num_workers: int,
        test: bool,
        batch_size: int | None = None,
        max_num_of_imgs_per_gpu: int | None = None,
    ) -> Batches:
        loader = host(dataset, 0, test, batch_size, max_num_of_imgs_per_gpu)
        pack = Pack(Path(job["validate" if test else "train"]), device, None if test else job["towns"])
        rows = pack.pairs(job["farthest_m"]) if job["vehicles"] == 2 else np.arange(len(pack.labels))[:, None]
        if not test and job.get("main") == "first" and job["vehicles"] == 2:
            rows = led_by_the_first(pack, rows)
        if test:
            rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), job["validate_on"])).astype(int)]
        print(f"packed: {len(pack.labels)} rows, {len(rows)} samples", flush=True)
        return Batches(loader, pack, rows, job["samples"], None if test else len(loader), job)

    training.build_dataset = build_dataset
    training.loss_of_one_batch_multi_view = skipping(training.loss_of_one_batch_multi_view)
    test_host = training.test_one_epoch

    @functools.wraps(test_host)
    def test_one_epoch(model: Any, criterion: Any, data_loader: Any, device: Any, epoch: int, *rest: Any, **more: Any):
        results = test_host(model, criterion, data_loader, device, epoch, *rest, **more)
        if job["vehicles"] == 2 and hasattr(model, "info_sharing"):
            line = {"epoch": epoch, "seconds": time.monotonic() - started, **errors(model, data_loader)}
            wrong = errors(model, data_loader, stranger=True)
            line |= {f"{name}_stranger": wrong[name] for name in ("m_near", "deg_near") if name in wrong}
            with Path(job["watch"]).open("a") as stream:
                stream.write(json.dumps(line) + "\n")
        return results

    training.test_one_epoch = test_one_epoch


def main(argv: Sequence[str]) -> int:
    """Train with the package's launcher and packed loaders."""
    from mapanything_opv2v.host import torchvision_ops

    torchvision_ops.define_missing()
    from mapanything_opv2v.train import main as launch

    install(json.loads(argv[0]))
    return launch(argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
