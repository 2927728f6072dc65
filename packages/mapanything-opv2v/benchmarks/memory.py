"""Measure the GPU memory of training steps of the full-size MapAnything, its weights drawn at random.

The model is the one that the experiments train (`model=mapanything`: DINOv2 ViT-g and 16 layers of attention between
views), with MapAnything's own optimizer, mixed precision, loss scaler and step, and this package's losses. No data and
no weights are read. The code of DINOv2 must lie on this machine: --dinov2 FOLDER is a checkout of
facebookresearch/dinov2.

    python memory.py --out memory --dinov2 ~/dinov2 --images 4 8 12 16 24
    python memory.py --out memory --dinov2 ~/dinov2 --card 24 --images 4 --checkpointing on --encoder frozen

Every cell (picture size, images, gradient checkpointing, encoder trained or frozen) is a line of memory.jsonl below
--out, written as soon as it is measured; cells that are there are not measured again. --card GB forbids PyTorch more
than a card of that size has (less 1 GB for CUDA itself), so that a cell which passes would have fit.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from pathlib import Path
from typing import Any

import torch

SIZES = {"pinhole": (518, 392), "panorama": (1008, 252)}
CUDA_ITSELF_GB = 1.0
GIB = 2**30
STEPS = 3
"""Steps of a cell: AdamW makes its state in the first; memory is the largest of all."""


def main() -> int:
    """Measure the cells that are not there yet."""
    args = parse()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "memory.jsonl"
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    torch.hub.load = _local_dinov2(args.dinov2)  # the network is not needed, and no weights
    if args.card:
        share = (args.card - CUDA_ITSELF_GB) * 1e9 / torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, share))
    for encoder in args.encoder:
        for checkpointing in args.checkpointing:
            run = None
            for kind in args.kinds:
                for images in args.images:
                    cell = {
                        "kind": kind,
                        "images": images,
                        "views": min(args.views, images),
                        "checkpointing": checkpointing,
                        "encoder": encoder,
                        "card": args.card,
                        "ddp": args.ddp,
                    }
                    if any(all(old[key] == value for key, value in cell.items()) for old in done):
                        continue
                    run = run or Run(checkpointing == "on", encoder == "frozen", args)
                    line = {**cell, **run.measure(kind, images, cell["views"])}
                    print(line, flush=True)
                    with path.open("a") as stream:
                        stream.write(json.dumps(line) + "\n")
                    if line["fits"] is False:
                        run = None  # DistributedDataParallel does not go on after a failed step
                        gc.collect()
                        torch.cuda.empty_cache()
                        break  # more images do not fit either
            del run
            gc.collect()
            torch.cuda.empty_cache()
    return 0


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description="GPU memory of training steps of the full-size MapAnything")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dinov2", type=Path, required=True, help="checkout of facebookresearch/dinov2")
    parser.add_argument("--images", type=int, nargs="+", default=[4, 8, 12, 16, 24], help="images of a step, ascending")
    parser.add_argument("--views", type=int, default=4, help="views of a sample")
    parser.add_argument("--kinds", nargs="+", choices=sorted(SIZES), default=["pinhole", "panorama"])
    parser.add_argument("--checkpointing", nargs="+", choices=("on", "off"), default=["on", "off"])
    parser.add_argument("--encoder", nargs="+", choices=("trained", "frozen"), default=["trained", "frozen"])
    parser.add_argument("--card", type=float, help="GB of the card to pretend")
    parser.add_argument("--ddp", action="store_true", help="in DistributedDataParallel, as on several GPUs")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--override", action="append", default=[], help="Hydra override, such as model=opv2v_tiny")
    return parser.parse_args()


def _local_dinov2(folder: Path) -> Any:
    load = torch.hub.load

    def local(_repository: str, name: str, **_options: Any) -> torch.nn.Module:
        return load(str(folder), name, source="local", pretrained=False)

    return local


class Run:
    """A model with its optimizer, as MapAnything's training makes them."""

    def __init__(self, checkpointing: bool, frozen: bool, args: argparse.Namespace) -> None:
        from hydra import compose, initialize_config_dir
        from mapanything import models
        from mapanything.train import losses
        from mapanything.utils import train_tools
        from mapanything_opv2v.host.losses.criteria import LOSSES

        configs = Path(models.__file__).parents[2] / "configs"
        overrides = [
            "+experiment=opv2v_stage2",
            "model.pretrained=null",
            "hydra.run.dir=unused",
            "output_dir=unused",
            *(f"++model.{part}.gradient_checkpointing={checkpointing}" for part in PARTS),
            *(["train_params.submodule_configs.encoder.lr=0"] if frozen else []),
            *args.override,
        ]
        with initialize_config_dir(str(configs), version_base=None):
            config = compose("train", overrides=[*overrides])
        self.device = torch.device(args.device)
        started = time.monotonic()
        with self.device:  # weights are drawn there: minutes faster
            self.model = models.init_model(config.model.model_str, config.model.model_config)
        self.model.to(self.device).train(True)
        self.criterion = eval(config.loss.train_criterion, {**vars(losses), **LOSSES}).to(self.device)
        groups, *_ = train_tools.get_parameter_groups(
            self.model, 1e-6, 0.05, submodule_configs=config.train_params.submodule_configs
        )
        self.optimizer = torch.optim.AdamW(groups, lr=1e-6, betas=(0.9, 0.95))
        self.scaler = train_tools.NativeScalerWithGradNormCount()
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        if args.ddp:
            store = torch.distributed.HashStore()
            if not torch.distributed.is_initialized():
                torch.distributed.init_process_group("nccl", store=store, rank=0, world_size=1)
            self.model = torch.nn.parallel.DistributedDataParallel(
                self.model, device_ids=[0], find_unused_parameters=True
            )
        self.norm_type = config.model.data_norm_type
        print(f"{self.parameters / 1e6:.0f} M parameters, {time.monotonic() - started:.0f} s", flush=True)

    def measure(self, kind: str, images: int, views: int) -> dict[str, Any]:
        """Train on some batches, validate on one, and return what that took."""
        cuda = self.device.type == "cuda"
        figures: dict[str, Any] = {
            "parameters_m": round(self.parameters / 1e6),
            "trained_m": round(self.trained / 1e6),
            "gpu": torch.cuda.get_device_name(0) if cuda else "cpu",
            "fits": True,
        }
        try:
            if cuda:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            for number in range(STEPS):
                started = time.monotonic()
                self._step(kind, images, views)
                if cuda:
                    torch.cuda.synchronize()
                if number:
                    figures["step_s"] = round(time.monotonic() - started, 3)
            if cuda:
                figures["train_gib"] = round(torch.cuda.max_memory_allocated() / GIB, 2)
                figures["train_reserved_gib"] = round(torch.cuda.max_memory_reserved() / GIB, 2)
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            self._validate(kind, 2 * images, views)
            if cuda:
                figures["validate_gib"] = round(torch.cuda.max_memory_allocated() / GIB, 2)
                figures["validate_reserved_gib"] = round(torch.cuda.max_memory_reserved() / GIB, 2)
        except torch.OutOfMemoryError:
            figures["fits"] = False
            self.optimizer.zero_grad()
        return figures

    def _step(self, kind: str, images: int, views: int) -> None:
        from mapanything.utils.inference import loss_of_one_batch_multi_view

        loss, _ = loss_of_one_batch_multi_view(
            self._batch(kind, images // views, views),
            self.model,
            self.criterion,
            self.device,
            use_amp=self.device.type == "cuda",
            amp_dtype="bf16",
            ret="loss",
        )
        self.scaler(loss * 2 / views, self.optimizer, parameters=self.model.parameters(), clip_grad=1.0)
        self.optimizer.zero_grad()

    @torch.no_grad()
    def _validate(self, kind: str, images: int, views: int) -> None:
        from mapanything.utils.inference import loss_of_one_batch_multi_view

        self.model.eval()
        batch = self._batch(kind, images // views, views)
        amp = self.device.type == "cuda"
        loss_of_one_batch_multi_view(batch, self.model, self.criterion, self.device, use_amp=amp, amp_dtype="bf16")
        self.model.train(True)

    def _batch(self, kind: str, sets: int, views: int) -> list[dict[str, Any]]:
        """Return views as the datasets deliver them: noise, at 5 to 50 m, a metre between views."""
        width, height = SIZES[kind]
        rows = torch.linspace(-0.6, 0.6, height, device=self.device)
        turn = torch.pi if kind == "panorama" else 0.75
        azimuth, elevation = torch.meshgrid(torch.linspace(-turn, turn, width, device=self.device), rows, indexing="xy")
        rays = torch.stack(
            (azimuth.sin() * elevation.cos(), elevation.sin(), azimuth.cos() * elevation.cos()), dim=-1
        ).expand(sets, -1, -1, -1)
        made = []
        for number in range(views):
            range_m = 5 + 45 * torch.rand(sets, height, width, 1, device=self.device)
            shift = torch.tensor([float(number), 0.0, 0.0], device=self.device).expand(sets, 3)
            pose = torch.eye(4, device=self.device).repeat(sets, 1, 1)
            pose[:, :3, 3] = shift
            true = torch.ones(sets, dtype=torch.bool, device=self.device)
            made.append(
                {
                    "img": torch.randn(sets, 3, height, width, device=self.device),
                    "camera_pose": pose,
                    "camera_pose_quats": torch.tensor([0.0, 0.0, 0.0, 1.0], device=self.device).repeat(sets, 1),
                    "camera_pose_trans": shift,
                    "pts3d": rays * range_m + shift[:, None, None],
                    "pts3d_cam": rays * range_m,
                    "ray_directions_cam": rays,
                    "depth_along_ray": range_m,
                    "valid_mask": torch.rand(sets, height, width, device=self.device) < 0.8,
                    "non_ambiguous_mask": torch.rand(sets, height, width, device=self.device) < 0.9,
                    "is_metric_scale": true,
                    "is_synthetic": true,
                    "agent_index": torch.full((sets,), number, device=self.device),
                    "data_norm_type": [self.norm_type] * sets,
                }
            )
        return made


PARTS = ("encoder", "info_sharing.module_args", "pred_head")

if __name__ == "__main__":
    raise SystemExit(main())
