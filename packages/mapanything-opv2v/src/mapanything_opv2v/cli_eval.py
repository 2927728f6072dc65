"""Options of `evaluate` and `infer`; the work is in `commands_eval`."""

from __future__ import annotations

import argparse
from pathlib import Path

from mapanything_opv2v.evaluation.options import ALIGNMENTS, EXPORTS, INPUTS, CloudOptions

DATASETS = ("OPV2VDataset", "OPV2VCoopDataset", "OPV2VCylindricalDataset", "OPV2VCoopCylindricalDataset")

_EVALUATE = "mapanything-opv2v evaluate --checkpoint runs/stage2/checkpoint-best.pth --root ~/OPV2V --out eval"
_INFER = "mapanything-opv2v infer --checkpoint runs/stage2/checkpoint-best.pth --root ~/OPV2V --out predictions"


def add(commands: argparse._SubParsersAction) -> None:
    """Add both commands."""
    evaluate = _command(
        commands,
        "evaluate",
        "compare a model's predictions with the truth: figures per frame and a summary, as CSV and JSON. The model "
        "sees images only, unless --inputs says otherwise. Frames that are done are kept",
        _EVALUATE,
    )
    _add_model(evaluate)
    evaluate.add_argument("--keep_predictions", action="store_true", help="also write them, to OUT/predictions")
    evaluate.add_argument(
        "--alignment",
        choices=ALIGNMENTS,
        default="view0",
        help="how the model's world is put onto the true one: by view 0, by all cameras, or those with a scale",
    )
    for name, text in (
        ("voxel_m", "Chamfer: points of one cube of this side become one"),
        ("cell_m", "BEV IoU: side of a cell"),
        ("extent_m", "BEV IoU: reach from view 0"),
        ("max_range_m", "filtered clouds: reach from the own camera"),
        ("min_height_m", "filtered BEV: lowest height over the ground"),
        ("max_height_m", "filtered BEV: greatest height over the ground"),
    ):
        evaluate.add_argument(f"--{name}", type=float, default=getattr(CloudOptions, name), help=text)

    infer = _command(
        commands,
        "infer",
        "write a model's predictions, one file per frame, and export depth, masks and point clouds of them",
        f"{_INFER} --export ply mask",
    )
    _add_model(infer)
    infer.add_argument("--export", nargs="+", default=[], metavar="KIND", help=f"of: {', '.join(EXPORTS)}")
    infer.add_argument("--max_range_m", type=float, default=float("inf"), help="exports: leave out farther pixels")
    infer.add_argument("--unmasked", action="store_true", help="exports: keep pixels that the model calls empty")


def run(args: argparse.Namespace) -> int:
    """Run either command."""
    from mapanything_opv2v import commands_eval

    return commands_eval.run(args)


def _command(commands: argparse._SubParsersAction, name: str, text: str, example: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=text.partition(".")[0],
        description=f"{text[0].upper()}{text[1:]}. On 4 GPUs: torchrun --no-python --nproc-per-node 4 before it.",
        epilog=f"example: {example}",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path, metavar="FILE", help="checkpoint of a training run")
    source.add_argument("--predictions", type=Path, metavar="DIR", help="predictions that `infer` has written")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write into")
    parser.add_argument("--frames", nargs="+", metavar="NAME", help="only these: SPLIT/SEQUENCE/FRAME[_agentID]")
    parser.add_argument("--workers", type=int, default=1, help="processes for figures or exports")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="figures or exports on this Dask cluster instead")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")

    data = parser.add_argument_group("data, with --checkpoint")
    data.add_argument("--root", type=Path, help="folder that holds train, validate, test, test_culvercity")
    data.add_argument("--depth_root", type=Path, help="tree of depth maps, if not in ROOT itself")
    data.add_argument("--split", default="test", help="split to predict")
    data.add_argument("--dataset", choices=DATASETS, default="OPV2VCoopDataset", help="how samples are made")
    data.add_argument("--num_views", type=int, default=4, help="views of a sample")
    data.add_argument(
        "--resolution",
        nargs=2,
        type=int,
        metavar=("WIDTH", "HEIGHT"),
        help="pixels of a view (default: 518 392, panoramas 1008 252)",
    )
    data.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other option of the dataset, such as main_agent_policy=closest or camera_ids=[0,3]; repeatable",
    )

    model = parser.add_argument_group("model, with --checkpoint")
    model.add_argument(
        "--inputs",
        nargs="+",
        default=[],
        choices=INPUTS,
        help="true geometry that the model is given beside the images (default: none); recorded in the output",
    )
    model.add_argument("--model_config", type=Path, metavar="FILE", help="the run's .hydra/config.yaml")
    model.add_argument("--device", help="such as cuda:1 (default: the process's own GPU if there is one, else cpu)")
    model.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="of the model's forward")
    model.add_argument("--batch_size", type=int, default=1, help="samples at a time")
    model.add_argument("--loader_workers", type=int, default=0, help="processes that read samples")
