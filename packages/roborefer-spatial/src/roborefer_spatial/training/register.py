"""`roborefer-spatial register`: a dataset YAML for RoboRefer's own registry (`VILA_DATASETS`)."""

from __future__ import annotations

import argparse
from pathlib import Path

from roborefer_spatial.files import write_bytes
from roborefer_spatial.host.data.registry import check_name, make_entry, registry_yaml
from roborefer_spatial.terminal import DONE

_EPILOG = """\
example:
  roborefer-spatial register --out x3.yaml x3_t1=x3/t1_train_multi.jsonl x3_t2b=x3/t2b_train_multi.jsonl
  VILA_DATASETS=default,$PWD/x3.yaml torchrun ... -m roborefer_spatial.launch --data_mixture x3_t1+x3_t2b ...
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("sets", nargs="+", metavar="NAME=FILE", help="mixture name and training file")
    parser.add_argument("--out", type=Path, required=True, metavar="YAML", help="file to write")
    parser.add_argument("--image-folder", type=Path, metavar="DIR", help="default: the folder of each file")
    parser.add_argument("--depth-path", type=Path, metavar="DIR", help="folder of depth maps")


def run(args: argparse.Namespace) -> int:
    """Write the YAML."""
    entries = {}
    for word in args.sets:
        name, equals, file = word.partition("=")
        if not equals or not file:
            raise ValueError(f"{word!r}: must be NAME=FILE")
        if check_name(name) in entries:
            raise ValueError(f"{name!r} is given twice")
        entries[name] = make_entry(file, image_folder=args.image_folder, depth_path=args.depth_path)
    out = args.out.absolute()
    if "," in str(out):
        raise ValueError(f"{out}: the host splits VILA_DATASETS at commas; choose a path without one")
    write_bytes(out, registry_yaml(entries).encode())
    print(f"{out}: {', '.join(entries)}\nVILA_DATASETS=default,{out}")
    return DONE
