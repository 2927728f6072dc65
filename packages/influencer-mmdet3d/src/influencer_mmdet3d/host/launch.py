"""`train` and `evaluate`: start the host's own tools, after checking what they would fail on.

The host is used where it is: its root goes onto the child's PYTHONPATH. Options that the host needs are passed as
`--cfg-options`; nothing of it is changed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from influencer_mmdet3d.host.checkpoint import kernels_fit, read_checkpoint
from influencer_mmdet3d.host.layouts import foreign_layout
from influencer_mmdet3d.host.overrides import check_options, parse_options
from influencer_mmdet3d.host.pin import host_root, load_pin
from influencer_mmdet3d.host.processes import Processes, plan_processes, run_logged
from influencer_mmdet3d.host.trial import FAILED, MISFIT
from influencer_mmdet3d.host.verify import load_config
from influencer_mmdet3d.host.voxels import check_voxels
from influencer_mmdet3d.terminal import DONE

CONFIGS = {"s3dis": "s3dis_area5_{}.py", "scannet": "scannet_{}.py"}
VARIANTS = ("baseline", "influencer")
NAMES = {
    "influencerformer": "influencer",
    "influencerformer_1xb4_s3dis-area-5": "influencer",
    "influencerformer_1xb4_scannet": "influencer",
    "oneformer3d": "baseline",
    "oneformer3d_1xb2_s3dis-area-5": "baseline",
    "oneformer3d_1xb4_scannet": "baseline",
}
"""What the research notes and the host call the two variants."""
HOW_TO_PREPARE = {
    "s3dis": "mmdet3d's own `tools/create_data.py s3dis`",
    "scannet": "the host's data/scannet/README.md",
}
TIES = (
    "the host's SparseMatcher matches no query to an instance whose two cheapest queries tie (equal queries, or fp16), "
    "and the host's loss is NaN if that leaves a scene without a match. A NaN loss of this baseline is not yours"
)
WEIGHTS_ONLY = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@dataclass(frozen=True)
class Setup:
    """What `train` and `evaluate` start from: the checked arguments."""

    root: Path  # of the host
    config: Path
    cfg: Any  # mmengine Config with the user's options merged in
    work_dir: Path
    args: argparse.Namespace
    environ: Mapping[str, str]


@dataclass(frozen=True)
class Job:
    """One run of a host's tool.

    Attributes
    ----------
    command : tuple of str
        The whole command line, launcher included.
    env : dict
        Variables to set, over the caller's.
    log : Path or None
        File that gets what the job prints; None in all but the first process of a SLURM step.
    notes : tuple of str
        What the user should know before it starts.
    """

    command: tuple[str, ...]
    env: dict[str, str]
    log: Path | None
    notes: tuple[str, ...]
    trial: tuple[str, ...]  # command that builds what the job builds, and compares it with the checkpoint
    exact: bool  # whether the checkpoint must fit the config's model; weights to start from may fit in part


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `train`."""
    _common(parser)
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="go on from CHECKPOINT, or from the work dir's last one; starts anew where there is none yet",
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    parser.set_defaults(run=run_train)


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `evaluate`."""
    _common(parser)
    parser.add_argument("checkpoint", type=Path, help="checkpoint of a run of the same config")
    parser.set_defaults(run=run_evaluate)


def run_train(args: argparse.Namespace) -> int:
    """Check, say what will be done, train, and return the exit code of the host's tool."""
    return _start(plan_train(args, os.environ), args)


def run_evaluate(args: argparse.Namespace) -> int:
    """Check, say what will be done, evaluate, and return the exit code of the host's tool."""
    return _start(plan_evaluate(args, os.environ), args)


def plan_train(args: argparse.Namespace, environ: Mapping[str, str]) -> Job:
    """Turn the arguments of `train` into a job.

    Raises
    ------
    ValueError
        If the host, the config, the data, or a checkpoint is missing or unusable.
    """
    setup = _open(args, environ)
    check_voxels(setup.cfg)
    options = [*args.cfg_options, *_data_options(setup, ("train_dataloader", "val_dataloader"))]
    notes, tool = [], ["--amp"] if args.amp else []
    loaded = _resume_from(setup.work_dir, args.resume)
    if loaded is not None:
        notes.append(f"resuming from {loaded}")
        tool += ["--resume", str(loaded)]
    else:
        if args.resume:
            notes.append(f"--resume: {setup.work_dir} holds no checkpoint yet, starting from the beginning")
        loaded = _initial_weights(setup)
        if loaded is not None:
            options.append(f"load_from={_plain(loaded)}")
    criterion = (setup.cfg.model.get("criterion") or {}).get("inst_criterion") or {}
    if (criterion.get("matcher") or {}).get("type") == "SparseMatcher":
        notes.append(TIES)
    processes = plan_processes(environ)
    if processes.count > 1:
        notes.append(_batch_note(setup.cfg, processes.count))
    return _job(setup, "train", (tool, options), loaded, processes, notes)


def plan_evaluate(args: argparse.Namespace, environ: Mapping[str, str]) -> Job:
    """Turn the arguments of `evaluate` into a job; raises ValueError as `plan_train` does."""
    setup = _open(args, environ)
    checkpoint = args.checkpoint.expanduser().resolve()
    options = [*args.cfg_options, *_data_options(setup, ("test_dataloader",))]
    return _job(setup, "test", ([str(checkpoint)], options), checkpoint, plan_processes(environ), [])


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", choices=sorted(CONFIGS))
    parser.add_argument("name", help="baseline, influencer, or the path of your own config (*.py)")
    parser.add_argument("--work-dir", type=Path, help="default: work_dirs/<config's name> in the current folder")
    parser.add_argument(
        "--data-root", type=Path, help="prepared data; default: the config's, here or in the host's checkout"
    )
    parser.add_argument(
        "--cfg-options", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="as in mmengine"
    )
    parser.add_argument("--trust-checkpoint", action="store_true", help="load checkpoints even if they can run code")
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, build what would run, print the command, and stop"
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors; the log file gets everything")


def _open(args: argparse.Namespace, environ: Mapping[str, str]) -> Setup:
    root = host_root(environ)
    name = NAMES.get(args.name.removesuffix(".py"), args.name) if not Path(args.name).is_file() else args.name
    if name in VARIANTS:
        config = Path(str(files("influencer_mmdet3d") / "configs" / CONFIGS[args.dataset].format(name)))
    else:
        config = Path(args.name).expanduser().resolve()
        if config.suffix != ".py" or not config.is_file():
            raise ValueError(f"{args.name!r} is neither one of {VARIANTS} nor the path of a config (*.py)")
    options = parse_options(args.cfg_options)
    with _environment(load_pin().root_env, str(root)):  # the configs' _base_ needs it absolute
        cfg = load_config(config)
    check_options(cfg, options)
    cfg.merge_from_dict(options)
    work_dir = (args.work_dir or Path("work_dirs") / config.stem).expanduser().resolve()
    return Setup(root, config, cfg, work_dir, args, environ)


def _data_options(setup: Setup, loaders: Sequence[str]) -> list[str]:
    """Return the options that lead every dataset to its files, which must exist."""
    options, missing = [], []
    for loader in loaders:
        if not (setup.cfg.get(loader) or {}).get("dataset"):
            raise ValueError(f"{setup.config} has no {loader}.dataset")
        for key, dataset in _datasets(setup.cfg[loader].dataset, f"{loader}.dataset"):
            wanted = setup.args.data_root or Path(dataset.get("data_root") or "")
            folder = wanted.expanduser().resolve()
            if not folder.is_dir() and setup.args.data_root is None:
                folder = setup.root / wanted
            if not (folder / dataset.ann_file).is_file():
                missing.append(str(folder / dataset.ann_file))
            options.append(f"{key}.data_root={_plain(folder)}/")
    if missing:
        name = setup.args.dataset
        raise ValueError(
            f"the data is not prepared: missing {', '.join(dict.fromkeys(missing))}. Prepare it with "
            f"{HOW_TO_PREPARE[name]}, or name its folder with --data-root DIR; "
            f"`influencer-mmdet3d check DIR --format {name}` then reads every scene"
        )
    return options


def _datasets(dataset: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield every dataset that reads files, through ConcatDataset and wrappers, with its key in the config."""
    if "ann_file" in dataset:
        yield key, dataset
    for number, part in enumerate(dataset.get("datasets", [])):
        yield from _datasets(part, f"{key}.datasets.{number}")
    if "dataset" in dataset:
        yield from _datasets(dataset.dataset, f"{key}.dataset")


def _initial_weights(setup: Setup) -> Path | None:
    """Return the absolute path of the config's `load_from`."""
    if not setup.cfg.get("load_from"):
        return None
    wanted = Path(setup.cfg.load_from).expanduser()
    for path in (wanted.resolve(), setup.root / wanted):
        if path.is_file():
            return path
    raise ValueError(
        f"the weights to start from are missing: {setup.root / wanted} (load_from of the config). The host's README "
        "links them under the dataset's name. To train without them: --cfg-options load_from=None (it takes longer "
        "and scores less)"
    )


def _resume_from(work_dir: Path, resume: str | None) -> Path | None:
    """Return the checkpoint to go on from, None to start; raises where a start would overwrite an earlier run."""
    if resume is not None and resume != "auto":
        return Path(resume).expanduser().resolve()
    pointer = work_dir / "last_checkpoint"
    if not pointer.is_file():
        return None
    if resume is None:
        raise ValueError(f"{work_dir} holds an earlier run: add --resume to go on, or take another --work-dir")
    named = Path(os.fsdecode(pointer.read_bytes()).strip())
    path = work_dir / named.name  # the folder may have been moved, and mmengine writes what path it was given
    if "\0" in named.name or not os.path.isfile(path):  # noqa: PTH113  (Path.is_file raises for a very long name)
        others = ", ".join(sorted(str(found) for found in work_dir.glob("*.pth"))) or "none"
        raise ValueError(
            f"{pointer} names {str(named)!r}, which is gone. Choose with --resume CHECKPOINT; there: {others}"
        )
    return path


def _job(
    setup: Setup,
    tool: str,
    arguments: tuple[list[str], list[str]],
    checkpoint: Path | None,
    processes: Processes,
    notes: list[str],
) -> Job:
    """Put the command line together, from the tool's own arguments and its --cfg-options."""
    specific, options = arguments
    env = {
        load_pin().root_env: str(setup.root),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(setup.root), setup.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
    }
    if checkpoint is not None:
        trust = setup.args.trust_checkpoint
        if _torch_release() >= (2, 6):
            env[WEIGHTS_ONLY] = "1"
            notes = [*notes, _weights_only_note(setup.environ, checkpoint, trust)]
        _check_checkpoint(checkpoint, trust)
    command = [
        *processes.prefix,
        str(setup.root / "tools" / f"{tool}.py"),
        str(setup.config),
        *specific,
        *("--work-dir", str(setup.work_dir), "--launcher", processes.launcher),
        *(["--cfg-options", *options] if options else []),
    ]
    log = setup.work_dir / f"{tool}_{datetime.now():%Y%m%d_%H%M%S}.log" if processes.first else None
    trial = [sys.executable, "-m", "influencer_mmdet3d.host.trial", tool, str(setup.config)]
    if checkpoint is not None:
        trial += ["--checkpoint", str(checkpoint), *(["--trust-checkpoint"] if setup.args.trust_checkpoint else [])]
    trial += ["--cfg-options", *options] if options else []
    exact = tool == "test" or "--resume" in specific
    return Job(tuple(command), env, log, tuple(notes), tuple(trial), exact)


def _try_out(job: Job, *, quiet: bool) -> None:
    """Build in a child what the job will build; raises ValueError with the reason where it does not build or fit."""
    done = subprocess.run(job.trial, env={**os.environ, **job.env}, capture_output=True, text=True)
    reason = (done.stdout.strip().splitlines() or [""])[-1]
    if done.returncode == MISFIT and not job.exact:
        if not quiet:
            print(f"note: the weights to start from fit in part, the rest starts at random. {reason}")
    elif done.returncode == MISFIT:
        raise ValueError(
            f"{reason}. They would silently stay random: this checkpoint belongs to another config. "
            "Name the one that it was trained with, as written in the .py file beside the checkpoint"
        )
    elif done.returncode:
        raise ValueError(reason if done.returncode == FAILED else f"the run would not start: {done.stderr[-2000:]}")


def _weights_only_note(environ: Mapping[str, str], checkpoint: Path, trust: bool) -> str:
    if environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD"):
        raise ValueError("TORCH_FORCE_WEIGHTS_ONLY_LOAD is set: torch cannot load mmengine's checkpoints so, unset it")
    checked = "NOT checked, as --trust-checkpoint asks" if trust else "checked before: it holds nothing else"
    return (
        f"setting {WEIGHTS_ONLY}=1 for this job: torch {torch.__version__} loads plain tensors only, unless told "
        f"otherwise, and mmengine's checkpoints also hold its logs. {checkpoint.name} was {checked}."
    )


def _batch_note(cfg: Any, count: int) -> str:
    batch = cfg.train_dataloader.batch_size
    return (
        f"{count} processes x batch {batch} = {count * batch} scenes a step; the config's learning rate "
        f"{cfg.optim_wrapper.optimizer.lr} is for {batch}: consider --cfg-options optim_wrapper.optimizer.lr=..."
    )


def _check_checkpoint(path: Path, trust: bool) -> None:
    checkpoint = read_checkpoint(path, trust=trust)
    if (layout := foreign_layout(checkpoint)) is not None:
        raise ValueError(
            f"checkpoint {path} {layout}. Bring it into mmengine's layout: "
            f"influencer-mmdet3d fix-checkpoint {path} {path.with_name(path.stem + '_mmengine.pth')}"
        )
    if not kernels_fit(checkpoint, path):
        raise ValueError(
            f"checkpoint {path}: its sparse-conv kernels would not fit once mmdet3d has permuted them, and the "
            "backbone would silently stay random. Repair it: "
            f"influencer-mmdet3d fix-checkpoint {path} {path.with_name(path.stem + '_repaired.pth')}"
        )


def _start(job: Job, args: argparse.Namespace) -> int:
    if not args.quiet:
        for note in job.notes:
            print(f"note: {note}")
    _try_out(job, quiet=args.quiet)
    if args.dry_run or not args.quiet:
        print("running:", " ".join(job.command), flush=True)
    if args.dry_run:
        return DONE
    return run_logged(job.command, {**os.environ, **job.env}, job.log, quiet=args.quiet)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _plain(path: Path) -> Path:
    """Refuse what mmengine's command line would change: it removes spaces and splits at commas."""
    if any(sign in str(path) for sign in " ,'\"()[]"):
        raise ValueError(f"mmengine cannot pass on the path {path}: no spaces, commas, quotes or brackets, please")
    return path


def _torch_release() -> tuple[int, int]:
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)
