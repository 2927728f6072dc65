"""Run RoboRefer's own training (or any of its scripts) with the repairs that this checkout needs.

    torchrun --nproc_per_node 8 -m roborefer_spatial.launch --model_name_or_path CKPT \\
        --data_mixture "" --data_path t1_train_multi.jsonl --output_dir OUT ...

Flags that begin with --x3- are the launcher's; everything else goes to the host word for word.
"""

from __future__ import annotations

import argparse
import logging
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from roborefer_spatial.curriculum import load_curriculum
from roborefer_spatial.host.data.staging import with_curriculum
from roborefer_spatial.host.locate import Host, find_host
from roborefer_spatial.host.options import LaunchOptions, flag_value
from roborefer_spatial.host.prepare import prepare
from roborefer_spatial.host.repairs.table import check_names
from roborefer_spatial.terminal import DONE, FAILED, REFUSED, Parser

logger = logging.getLogger(__name__)

TRAIN_ENTRY = "llava.train.train_mem"

_EPILOG = """\
example:
  torchrun --nproc_per_node 2 -m roborefer_spatial.launch --model_name_or_path RoboRefer-2B-SFT \\
      --data_mixture "" --data_path x3/t1_train_multi.jsonl --image_aspect_ratio resize --output_dir runs/t1

`roborefer-spatial doctor` lists the repairs by name; --x3-without leaves some out.
"""


def build_parser() -> Parser:
    """Return the parser of the launcher's own options."""
    parser = Parser(
        prog="python -m roborefer_spatial.launch", description=__doc__.split("\n\n")[0] if __doc__ else None,
        epilog=_EPILOG, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_arguments(parser)
    return parser


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the launcher's own options."""
    parser.add_argument(
        "--x3-host",
        dest="host",
        type=Path,
        metavar="DIR",
        help="RoboRefer checkout (default: $ROBOREFER_ROOT)",
    )
    parser.add_argument(
        "--x3-script",
        dest="script",
        metavar="FILE",
        help="script of the checkout to run instead of the training, such as API/api.py",
    )
    parser.add_argument("--x3-without", dest="without", default="", metavar="NAME[,NAME]", help="repairs to leave out")
    parser.add_argument(
        "--x3-depth-path",
        dest="depth_path",
        type=Path,
        metavar="DIR",
        help="folder of depth maps of --data_path files",
    )
    parser.add_argument(
        "--x3-curriculum", dest="curriculum", type=Path, metavar="YAML", help="stages instead of --data_path"
    )
    parser.add_argument(
        "--x3-data-root",
        dest="data_root",
        type=Path,
        metavar="DIR",
        help="where the curriculum's relative files start",
    )


def launch_options(args: argparse.Namespace, host_arguments: Sequence[str]) -> LaunchOptions:
    """Check the launcher's options against each other and the host's; ValueError says what does not fit."""
    if args.data_root is not None and args.curriculum is None:
        raise ValueError("--x3-data-root is for --x3-curriculum only")
    if args.script is not None and (args.curriculum or args.depth_path):
        raise ValueError("--x3-script runs another script than the training: no --x3-curriculum, no --x3-depth-path")
    files = flag_value(host_arguments, "--data_path")
    if args.depth_path is not None and not (files or args.curriculum):
        raise ValueError("--x3-depth-path is for the files of --data_path or --x3-curriculum")
    options = LaunchOptions(
        host_arguments=tuple(host_arguments),
        without=check_names(name for name in args.without.split(",") if name),
        depth_path=args.depth_path,
    )
    if args.curriculum is None:
        return options
    return with_curriculum(options, load_curriculum(args.curriculum, args.data_root))


def run_host(host: Host, options: LaunchOptions, script: str | None = None) -> None:
    """Run the prepared host's training, or a script of it, as `__main__`; what it raises is its own."""
    if script is None:
        sys.argv = [TRAIN_ENTRY, *options.host_arguments]
        runpy.run_module(TRAIN_ENTRY, run_name="__main__", alter_sys=True)
        return
    path = host.file(script)
    sys.argv = [str(path), *options.host_arguments]
    sys.path.insert(0, str(path.parent))
    runpy.run_path(str(path), run_name="__main__")


def _report(host: Host, made: Sequence[str]) -> None:
    if os.environ.get("RANK", "0") == "0":
        print(f"launch: RoboRefer at {host.root}; repairs: {', '.join(made) or 'none needed'}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the launcher; return its exit status."""
    args, host_arguments = build_parser().parse_known_args(argv)
    level = logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    try:
        host = find_host(args.host)
        options = launch_options(args, host_arguments)
        if args.script is not None and not host.file(args.script).is_file():
            raise ValueError(f"--x3-script {args.script}: {host.file(args.script)} does not exist")
        made = prepare(host, options, training=args.script is None)
    except (ValueError, ImportError, FileNotFoundError) as error:
        logger.error("%s", error)
        return FAILED if isinstance(error, ImportError) else REFUSED
    _report(host, made)
    run_host(host, options, args.script)
    return DONE
