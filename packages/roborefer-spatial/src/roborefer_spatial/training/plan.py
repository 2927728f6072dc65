"""A training run, checked before it is started: data, checkpoint, folder, and the command that follows."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from roborefer_spatial.curriculum import load_curriculum
from roborefer_spatial.host.checkpoints import is_finished, latest_checkpoint, steps_done
from roborefer_spatial.host.data.rows import read_rows
from roborefer_spatial.host.data.sampler import rows_used
from roborefer_spatial.host.locate import find_host
from roborefer_spatial.host.model_folder import open_model_folder
from roborefer_spatial.host.options import flag_value
from roborefer_spatial.host.repairs.table import check_names
from roborefer_spatial.training import run_record

logger = logging.getLogger(__name__)

DEEPSPEED = ("none", "zero2", "zero3")
DTYPES = {
    "bf16": ("--bf16", "True"),
    "fp16": ("--fp16", "True"),
    "fp32": ("--bf16", "False", "--model_dtype", "torch.float32"),
}

# Options of the same name and meaning as the host's.
_PASSED_ON = (
    "image_aspect_ratio",
    "model_max_length",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "save_steps",
    "save_total_limit",
    "seed",
)


# A vision tower's last layers, and a depth projector whose rows bring no depth, are trainable and take no part in
# the loss. DDP then stops at the second step unless it looks for such weights, which needs checkpointing of the
# newer kind. DeepSpeed does not mind.
_PLAIN_DDP = (
    "--ddp_find_unused_parameters", "True", "--gradient_checkpointing_kwargs", '{"use_reentrant": false}',
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """A checked training run.

    Attributes
    ----------
    command : tuple of str
        What is run.
    steps : int or None
        Global step at which it must end, or None where only epochs are asked for.
    note : str
        One line for the user: what will happen.
    """

    command: tuple[str, ...]
    steps: int | None
    note: str


def processes(args: argparse.Namespace) -> int:
    """Return the number of processes on this machine."""
    if args.gpus is not None:
        if args.gpus < 1:
            raise ValueError(f"--gpus must be at least 1, got {args.gpus}")
        return int(args.gpus)
    if args.cpu:
        return 1
    import torch

    count = torch.cuda.device_count()
    if count == 0:
        raise ValueError("no GPU is visible to torch; --cpu --dtype fp32 trains on the CPU (slow, for tests)")
    return int(count)


def deepspeed_config(name: str, world_size: int, on_cpu: bool) -> Path | None:
    """Return DeepSpeed's JSON for `--deepspeed`, or None for plain DDP."""
    if name == "auto":
        name = "zero3" if world_size > 1 and not on_cpu else "none"
    if name == "none":
        return None
    if name in DEEPSPEED:
        return Path(str(files("roborefer_spatial") / "configs" / "deepspeed" / f"{name}.json"))
    if not Path(name).is_file():
        raise ValueError(f"--deepspeed must be one of {', '.join(DEEPSPEED)} or a file, got {name!r}")
    return Path(name).absolute()


def check_data(args: argparse.Namespace, world_size: int) -> int | None:
    """Read the training files; return the step at which training must end, or None.

    Raises
    ------
    ValueError
        For a bad file, and if RoboRefer's sampler would drop every row.
    """
    if args.data_root is not None and args.curriculum is None:
        raise ValueError("--data-root is for --curriculum only")
    if args.depth_path is not None and args.data_mixture is not None:
        raise ValueError("--depth-path is for --data and --curriculum; a registered set names its own")
    if args.curriculum is not None:
        curriculum = load_curriculum(args.curriculum, args.data_root)
        if args.max_steps not in (None, curriculum.max_steps):
            raise ValueError(f"--max-steps {args.max_steps}: {args.curriculum} ends at {curriculum.max_steps}")
        for file in curriculum.files:
            read_rows(file)
        return curriculum.max_steps
    global_batch = world_size * args.per_device_train_batch_size * args.gradient_accumulation_steps
    counts = {file: len(read_rows(file)) for file in args.data or ()}
    if counts and not any(rows_used(count, global_batch) for count in counts.values()):
        raise ValueError(
            f"{', '.join(f'{file} ({count} rows)' for file, count in counts.items())}: RoboRefer's "
            "sampler drops every "
            f"row, because one step takes {global_batch} ({world_size} process(es) x "
            f"{args.per_device_train_batch_size} x {args.gradient_accumulation_steps}); lower "
            "--gradient-accumulation-steps, or use --curriculum, whose sampler takes every row"
        )
    return None if args.max_steps is None else int(args.max_steps)


def host_arguments(args: argparse.Namespace, steps: int | None, deepspeed: Path | None) -> list[str]:
    """Return RoboRefer's command line."""
    words = ["--model_name_or_path", str(args.model_name_or_path.absolute())]
    words += open_model_folder(args.model_name_or_path).arguments()
    words += ["--data_mixture", args.data_mixture or ""]
    if args.data:
        words += ["--data_path", ",".join(str(file.absolute()) for file in args.data)]
    tune_vision = str(not args.freeze_vision)
    words += [
        "--tune_language_model",
        "True",
        "--tune_mm_projector",
        "True",
        "--tune_vision_tower",
        tune_vision,
    ]
    if flag_value(words, "--use_depth_tower") == "True":
        words += ["--tune_depth_tower", tune_vision]
    if flag_value(words, "--enable_depth") == "True":
        words += ["--tune_depth_projector", "True"]
    for name in _PASSED_ON:
        words += [f"--{name}", str(getattr(args, name))]
    words += ["--output_dir", str(args.output_dir.absolute()), *DTYPES[args.dtype]]
    words += ["--max_steps", str(steps)] if steps is not None else ["--num_train_epochs", "1"]
    words += [
        "--save_strategy",
        "steps",
        "--logging_steps",
        "1",
        "--report_to",
        "none",
        "--weight_decay",
        "0",
    ]
    words += ["--warmup_ratio", "0.03", "--lr_scheduler_type", "cosine", "--gradient_checkpointing", "True"]
    words += ["--use_cpu", "True"] if args.cpu else []
    return words + (["--deepspeed", str(deepspeed)] if deepspeed else list(_PLAIN_DDP))


def launcher_command(args: argparse.Namespace, per_node: int) -> list[str]:
    """Return the command that starts the processes: torchrun's or accelerate's."""
    distributed = ["--master_addr", args.master_addr, "--master_port", str(args.master_port)]
    if args.launcher == "accelerate":
        counts = ["--num_machines", str(args.nnodes), "--machine_rank", str(args.node_rank)]
        distributed = ["--main_process_ip", args.master_addr, "--main_process_port", str(args.master_port)]
        if args.cpu or per_node * args.nnodes < 2:
            raise ValueError(
                "--launcher accelerate needs two GPUs or more: with fewer it starts no process group, "
                "and RoboRefer's "
                "checkpoints wait for one; use torchrun"
            )
        return [
            sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--mixed_precision", "no",
            "--dynamo_backend",
            "no", "--num_processes", str(per_node * args.nnodes), *counts, *distributed, "-m",
        ]  # fmt: skip
    nodes = ["--nnodes", str(args.nnodes), "--node_rank", str(args.node_rank), *distributed]
    where = ["--standalone"] if args.nnodes == 1 else nodes  # standalone picks a free port
    return [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(per_node), *where]


def make_plan(args: argparse.Namespace, extra: Sequence[str]) -> Plan | None:
    """Check a run and return what to do, or None if the output folder is finished already.

    Raises
    ------
    ValueError
        Saying what does not fit, before anything is started.
    """
    find_host()
    check_names(name for name in args.without.split(",") if name)
    per_node = processes(args)
    world_size = per_node * args.nnodes
    if args.cpu and args.dtype != "fp32":
        raise ValueError(f"--cpu with --dtype {args.dtype}: RoboRefer's projector runs in fp32 only on a CPU")
    steps = check_data(args, world_size)
    deepspeed = deepspeed_config(args.deepspeed, world_size, args.cpu)
    note = f"starting in {args.output_dir}"
    done = steps_done(args.output_dir)
    resuming = is_finished(args.output_dir) or latest_checkpoint(args.output_dir) is not None
    run_record.check(args.output_dir, run_record.record_of(args), resuming=resuming)
    if is_finished(args.output_dir) and (steps is None or done is None or done >= steps):
        logger.warning(
            "%s is finished (step %s): nothing to train. Choose another --output-dir to train anew",
            args.output_dir, done if done is not None else "unknown",
        )  # fmt: skip
        return None
    if checkpoint := latest_checkpoint(args.output_dir):
        note = f"resuming from {checkpoint} (step {steps_done(checkpoint)})"
    elif is_finished(args.output_dir):
        raise ValueError(
            f"{args.output_dir} is finished at step {done}, {steps} are asked for, and it holds no "
            "checkpoint-N to go "
            "on from: train into another --output-dir with this one as --model-name-or-path"
        )
    words = host_arguments(args, steps, deepspeed) + list(extra)
    for name in ("without", "depth_path", "data_root", "curriculum"):
        if value := getattr(args, name):
            words += ["--x3-" + name.replace("_", "-"), str(value if name == "without" else value.absolute())]
    command = (*launcher_command(args, per_node), *_module(args.launcher), *words)
    return Plan(command, steps, f"{note}: {world_size} process(es), {deepspeed.stem if deepspeed else 'no'} DeepSpeed")


def _module(launcher: str) -> list[str]:
    module = "roborefer_spatial.launch"
    return [module] if launcher == "accelerate" else ["-m", module]


def check_result(output_dir: Path, steps: int | None) -> None:
    """Raise ValueError unless the folder holds a finished run of that many steps."""
    done = steps_done(output_dir)
    if not is_finished(output_dir) or done is None or (steps is not None and done < steps):
        raise ValueError(
            f"{output_dir}: the training ended with status 0 but left no finished run (step {done}, "
            f"wanted {steps}); "
            "see the log"
        )
