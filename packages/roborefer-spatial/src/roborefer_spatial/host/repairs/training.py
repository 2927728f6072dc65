"""Repairs of the training code, made after its import: log, resume, finished folders, dtype, data."""

from __future__ import annotations

import functools
import logging
import os
from pathlib import Path
from typing import Any

from roborefer_spatial.host.api import import_host
from roborefer_spatial.host.checkpoints import latest_checkpoint, steps_done
from roborefer_spatial.host.data.registry import register_file
from roborefer_spatial.host.locate import Host
from roborefer_spatial.host.options import LaunchOptions

logger = logging.getLogger(__name__)

TRAIN_MODULE = "llava.train.train"
DTYPES = ("torch.float32", "torch.bfloat16", "torch.float16")
# Files that transformers' own loading of a checkpoint looks for.
_FLAT_WEIGHTS = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip


def repair_log(host: Host, options: LaunchOptions) -> None:
    """Let `log` take transformers' second argument; it is not used."""
    trainer = import_host("llava.train.llava_trainer").LLaVATrainer
    write = trainer.log

    @functools.wraps(write)
    def log(self: Any, logs: dict[str, float], start_time: float | None = None) -> None:
        write(self, logs)

    trainer.log = log


def repair_resume(host: Host, options: LaunchOptions) -> None:
    """Leave out transformers' weight loading where the host has built the model from the checkpoint."""
    trainer = import_host("llava.train.llava_trainer").LLaVATrainer
    load = trainer._load_from_checkpoint

    @functools.wraps(load)
    def load_from_checkpoint(self: Any, checkpoint: str, model: Any = None) -> Any:
        folder = Path(checkpoint)
        if any((folder / name).exists() for name in _FLAT_WEIGHTS) or not (folder / "llm").is_dir():
            return load(self, checkpoint, model)
        source = getattr(self.model.config, "resume_path", None)
        if source is None or Path(source).resolve() != folder.resolve():
            raise ValueError(f"{folder} is to be resumed, but the model was built from {source}: nothing is loaded")
        logger.info("resume: the weights of %s were loaded when the model was built", folder)
        return None

    trainer._load_from_checkpoint = load_from_checkpoint


# What DeepSpeed's ZeRO optimizers put into a checkpoint beside tensors and plain containers.
_DEEPSPEED_CLASSES = (
    ("deepspeed.runtime.fp16.loss_scaler", "LossScaler"),
    ("deepspeed.runtime.fp16.loss_scaler", "DynamicLossScaler"),
    ("deepspeed.runtime.zero.config", "ZeroStageEnum"),
    ("deepspeed.utils.tensor_fragment", "fragment_address"),
)


def repair_deepspeed_checkpoint(host: Host, options: LaunchOptions) -> None:
    """Let torch load DeepSpeed's checkpoints, with its protection against other classes left on."""
    import torch

    torch.serialization.add_safe_globals([getattr(import_host(m), name) for m, name in _DEEPSPEED_CLASSES])


def repair_finished_directory(host: Host, options: LaunchOptions) -> None:
    """Say that a folder is finished; go on from its last checkpoint where more steps are asked for."""
    train = import_host(TRAIN_MODULE)
    seek = train.get_checkpoint_path

    @functools.wraps(seek)
    def get_checkpoint_path(output_dir: str, *args: Any, **kwargs: Any) -> tuple[str | None, bool]:
        path, go_on = seek(output_dir, *args, **kwargs)
        if go_on:
            return path, True
        done, wanted = steps_done(Path(output_dir)), int(options.value("--max_steps") or -1)
        if done is None or wanted <= done:
            logger.warning("%s is finished (%s steps): nothing is trained", output_dir, done if done else "unknown")
            return path, False
        checkpoint = latest_checkpoint(Path(output_dir))
        if checkpoint is None:
            raise ValueError(
                f"{output_dir} is finished at step {done}, --max_steps asks for {wanted}, and no "
                "checkpoint-N was kept "
                "to go on from: train into another folder with --model_name_or_path set to this one"
            )
        logger.warning("%s: finished at step %d, going on to step %d from %s", output_dir, done, wanted, checkpoint)
        return str(checkpoint), True

    train.get_checkpoint_path = get_checkpoint_path


def repair_model_dtype(host: Host, options: LaunchOptions) -> None:
    """Obey `--model_dtype` where the command line gives it."""
    dtype = options.value("--model_dtype")
    if dtype is None:
        return
    if dtype not in DTYPES:
        raise ValueError(f"--model_dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    train = import_host(TRAIN_MODULE)
    prepare = train.prepare_config_for_training

    @functools.wraps(prepare)
    def prepare_config_for_training(config: Any, *args: Any, **kwargs: Any) -> None:
        prepare(config, *args, **kwargs)
        config.model_dtype = dtype

    train.prepare_config_for_training = prepare_config_for_training


def split_data_paths(value: str) -> list[str]:
    """Return the files of `FILE[,FILE...]`; a value that is a file as a whole is not split."""
    return [value] if os.path.isfile(value) else [part for part in value.split(",") if part]  # noqa: PTH113


def repair_data_path(host: Host, options: LaunchOptions) -> None:
    """Make `--data_mixture "" --data_path FILE[,FILE...]` a mixture of this package's data module."""
    train = import_host(TRAIN_MODULE)
    make = train.make_supervised_data_module

    @functools.wraps(make)
    def make_supervised_data_module(tokenizer: Any, data_args: Any, training_args: Any) -> Any:
        if data_args.data_path is not None:
            if data_args.data_mixture:
                raise ValueError(
                    f"--data_path {data_args.data_path} and --data_mixture {data_args.data_mixture}: "
                    "only one of them "
                    'can be obeyed; pass --data_mixture "" to train on the file'
                )
            names = [
                register_file(path, image_folder=data_args.image_folder, depth_path=options.depth_path)
                for path in split_data_paths(data_args.data_path)
            ]
            data_args.data_mixture = "+".join(names)
        return make(tokenizer=tokenizer, data_args=data_args, training_args=training_args)

    train.make_supervised_data_module = make_supervised_data_module


def repair_spatial_dataset(host: Host, options: LaunchOptions) -> None:
    """Read the RefSpatial sets with this package's data module in the modes that the host's refuses."""
    if options.value("--image_aspect_ratio", "resize") in ("dynamic", "dynamic_s2"):
        return
    from roborefer_spatial.host.data.dataset import LazySupervisedSpatialDataset

    import_host("llava.data.dataset").LazySupervisedSpatialDataset = LazySupervisedSpatialDataset
