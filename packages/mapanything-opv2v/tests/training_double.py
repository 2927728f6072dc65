"""A small stand-in for MapAnything's training modules, written from the documented contract.

It has the names and signatures that the launcher's deviations replace. `tests/host/test_double.py` compares those
with the real host.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch


def is_main_process():
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def save_on_master(*args, **kwargs):
    if is_main_process():
        torch.save(*args, **kwargs)


def init_distributed_mode(args):
    args.distributed = "RANK" in os.environ
    if args.distributed:
        torch.distributed.init_process_group(
            backend="gloo",  # the host's is nccl
            init_method="env://",
            world_size=int(os.environ["WORLD_SIZE"]),
            rank=int(os.environ["RANK"]),
        )


def load_model(train_args, model_without_ddp, optimizer, loss_scaler):
    train_args.start_epoch, best = 0, None
    if train_args.resume and train_args.resume_ckpt is not None:
        checkpoint = torch.load(train_args.resume_ckpt, map_location="cpu", weights_only=False)
        model_without_ddp.load_state_dict(checkpoint["model"], strict=False)
        train_args.start_epoch = checkpoint["epoch"] + 1
        best = checkpoint.get("best_so_far")
    return best


def adjust_learning_rate(optimizer, epoch, train_args, parameter_group_idx_to_name_map, submodule_configs=None):
    for number, group in enumerate(optimizer.param_groups):
        options = (submodule_configs or {}).get(parameter_group_idx_to_name_map.get(number), {})
        lr, warmup = options.get("lr", train_args.lr), options.get("warmup_epochs", train_args.warmup_epochs)
        low = options.get("min_lr", train_args.min_lr)
        if epoch < warmup:
            group["lr"] = lr * epoch / warmup
        else:
            turn = math.pi * (epoch - warmup) / (train_args.epochs - warmup)
            group["lr"] = low + (lr - low) * 0.5 * (1 + math.cos(turn))


class Loader(list):
    """Batches, inside a wrapper like the host's."""

    def __init__(self, dataset, steps):
        super().__init__(range(steps))
        self.dataset = ModuleType("wrapper")
        self.dataset.dataset = dataset


def build_dataset(dataset, num_workers, test, batch_size=None, max_num_of_imgs_per_gpu=None):
    return Loader(dataset, len(dataset) // (batch_size if test else max_num_of_imgs_per_gpu))


def train_one_epoch(
    model,
    criterion,
    data_loader,
    optimizer,
    device,
    epoch,
    loss_scaler,
    args,
    log_writer=None,
    param_groups_name_to_idx_map=None,
    param_groups_idx_to_name_map=None,
    model_without_ddp=None,
):
    return {"loss": float(epoch)}


class MetricLogger:
    def __init__(self, delimiter="\t", print_per_view_stats=False):
        self.meters = {}

    def update(self, **values):
        for name, value in values.items():
            self.meters.setdefault(name, SimpleNamespace(deque=[])).deque.append(value)


def test_one_epoch(model, criterion, data_loader, device, epoch, args, log_writer=None, prefix="test"):
    logger = sys.modules["mapanything.utils.train_tools"].MetricLogger(delimiter="  ")
    for loss in data_loader:
        logger.update(loss=loss)
    results = {"loss_avg": sum(data_loader) / len(data_loader), "loss_med": sorted(data_loader)[0]}
    if log_writer is not None:
        for name, value in results.items():
            log_writer.add_scalar(f"{prefix}_{name}", value, 1000 * epoch)
    return results


TOOLS = (is_main_process, save_on_master, init_distributed_mode, load_model, adjust_learning_rate, MetricLogger)
TRAINING = (build_dataset, train_one_epoch, test_one_epoch)


def modules() -> dict[str, ModuleType]:
    """Return the double's modules by name, for `sys.modules`."""
    made = {
        f"mapanything.{name}": ModuleType(name) for name in ("utils", "utils.train_tools", "train", "train.training")
    }
    for functions, name in ((TOOLS, "utils.train_tools"), (TRAINING, "train.training")):
        for function in functions:
            setattr(made[f"mapanything.{name}"], function.__name__, function)
    return made


CONFIG = {
    "output_dir": "${folder}",
    "folder": "run",
    "broken": "${not_there}",
    "missing": "???",
    "model": {"pretrained": None, "ranges": [1.0, float("inf")]},
    "train_params": {
        "epochs": 3,
        "warmup_epochs": 1,
        "lr": 0.1,
        "min_lr": 0.0,
        "submodule_configs": {"encoder": {"lr": 0.01}, "frozen": {"lr": 0}},
    },
}


def write_host(folder: Path, scripts: bool = True) -> Path:
    """Write a checkout that can be found, not trained."""
    (folder / "mapanything").mkdir(parents=True)
    (folder / "mapanything" / "__init__.py").write_text("")
    if scripts:
        (folder / "scripts").mkdir()
        (folder / "scripts" / "train.py").write_text("")
    return folder
