"""Supervised fine-tuning of RoboRefer on x3 files: checks first, then the host's own training."""

from __future__ import annotations

import argparse
import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

from roborefer_spatial.host.checkpoints import steps_done
from roborefer_spatial.terminal import DONE, FAILED, REFUSED, Parser
from roborefer_spatial.training import run_record
from roborefer_spatial.training.plan import DTYPES, check_result, make_plan
from roborefer_spatial.training.running import run_logged

logger = logging.getLogger(__name__)

_EPILOG = """\
example:
  python -m roborefer_spatial.train --model-name-or-path RoboRefer-2B-SFT --data x3/t1_train_multi.jsonl \\
      --output-dir runs/t1 --gpus 8 --max-steps 1000

`roborefer-spatial train` is the same command. Flags that are not listed here go to RoboRefer's own training,
such as --warmup_ratio 0.1 or --report_to wandb. Running the same command again resumes from the last
checkpoint; a finished folder is said to be finished.
Exit status: 0 trained or already finished, 1 the training failed, 2 refused before the start, 128 + N ended
by signal N.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a training run."""
    add = parser.add_argument
    parser.allow_abbrev = False  # an abbreviation may be a flag of the host
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add("--model-name-or-path", type=Path, required=True, metavar="DIR", help="checkpoint to start from")
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--data", type=Path, nargs="+", metavar="FILE", help="JSON or JSONL written by build")
    data.add_argument("--curriculum", type=Path, metavar="YAML", help="stages with cumulative max_steps")
    data.add_argument("--data-mixture", help="names in RoboRefer's registry, joined by +")
    add("--data-root", type=Path, metavar="DIR", help="where the curriculum's relative files start")
    add("--depth-path", type=Path, metavar="DIR", help="folder of depth maps; rows then need `depth`")
    add("--output-dir", type=Path, required=True, metavar="DIR", help="checkpoints, final model, train.log")
    add("--log-file", type=Path, metavar="FILE", help="default: OUTPUT_DIR/train.log; appended to")
    add("--freeze-vision", action=argparse.BooleanOptionalAction, default=True, help="keep the vision towers")
    add("--image-aspect-ratio", choices=("resize", "pad", "dynamic", "dynamic_s2"), default="resize")
    add("--model-max-length", type=int, default=8192)
    add("--max-steps", type=int, help="optimizer steps; default: one epoch, or the curriculum's end")
    add("--per-device-train-batch-size", type=int, default=1)
    add("--gradient-accumulation-steps", type=int, default=8)
    add("--learning-rate", type=float, default=2e-5)
    add("--save-steps", type=int, default=500)
    add("--save-total-limit", type=int, default=2)
    add("--seed", type=int, default=42)
    add("--dtype", choices=tuple(DTYPES), default="bf16")
    add("--cpu", action="store_true", help="train on the CPU (for tests; needs --dtype fp32)")
    add("--gpus", type=int, help="processes on this machine; default: its GPUs")
    add(
        "--deepspeed",
        default="auto",
        help="none, zero2, zero3 or a JSON file; default: zero3 for several GPUs",
    )
    add("--launcher", choices=("torchrun", "accelerate"), default="torchrun")
    add("--nnodes", type=int, default=1)
    add("--node-rank", type=int, default=0)
    add("--master-addr", default="127.0.0.1")
    add("--master-port", type=int, default=29500)
    add("--without", default="", metavar="NAME[,NAME]", help="repairs to leave out; see doctor")
    add("--dry-run", action="store_true", help="check everything, print the command, do not train")


def build_parser() -> Parser:
    """Return the parser of `python -m roborefer_spatial.train`."""
    parser = Parser(prog="python -m roborefer_spatial.train", description=__doc__)
    add_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Train; ValueError before the start says what does not fit."""
    plan = make_plan(args, args.host_arguments)
    if plan is None:
        return DONE
    print(f"train: {plan.note}\n{shlex.join(plan.command)}", flush=True)
    if args.dry_run:
        return 0
    if args.node_rank == 0:
        run_record.write(args.output_dir, run_record.record_of(args))
    name = "train.log" if args.node_rank == 0 else f"train-node{args.node_rank}.log"
    log_file = args.log_file or args.output_dir / name
    status = run_logged(plan.command, log_file)
    if status != 0:
        logger.error("training failed with exit status %d; the log is %s", status, log_file)
        return status if status > 128 else FAILED
    if args.node_rank > 0:  # the first node writes the model, and this one may not see its disk
        return DONE
    try:
        check_result(args.output_dir, plan.steps)
    except ValueError as error:
        logger.error("%s", error)
        return FAILED
    print(f"train: finished at step {steps_done(args.output_dir)}; model in {args.output_dir}, log in {log_file}")
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run `python -m roborefer_spatial.train`; unknown flags go to the host."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    args, args.host_arguments = build_parser().parse_known_args(argv)
    try:
        return run(args)
    except (ValueError, OSError) as error:
        logger.error("%s", error)
        return REFUSED
