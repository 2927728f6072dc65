"""`roborefer-spatial check`: one batch through RoboRefer's own collator, without loading a model."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from roborefer_spatial import terminal
from roborefer_spatial.host.data.sampler import rows_used
from roborefer_spatial.host.model_folder import ModelFolder
from roborefer_spatial.images import orientation_of_file

OK = "OK: one-batch dataloader check passed"

_EPILOG = """\
example:
  roborefer-spatial check --data x3/t1_train_multi.jsonl --model-name-or-path RoboRefer-2B-SFT

Without --model-name-or-path a byte-level tokenizer and 448-pixel images stand in, nothing is downloaded, and
token counts are upper bounds. Exit status: 0 after the line "OK: one-batch dataloader check passed", 1 if
something is wrong with the file, 2 for bad arguments.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="FILE", help="JSON or JSONL written by build")
    add("--model-name-or-path", type=Path, metavar="DIR", help="checkpoint for tokenizer and image sizes")
    add("--host", type=Path, metavar="DIR", help="RoboRefer checkout (default: $ROBOREFER_ROOT)")
    add("--image-folder", type=Path, metavar="DIR", help="default: the folder of the file")
    add("--depth-path", type=Path, metavar="DIR", help="folder of depth maps; rows then need `depth`")
    add("--image-aspect-ratio", choices=("resize", "pad", "dynamic", "dynamic_s2"), default="resize")
    add("--model-max-length", type=int, default=8192)
    add("--batch-size", type=int, default=4, help="rows of the batch, from the beginning of the file")
    add("--global-batch-size", type=int, help="processes x batch x accumulation, to hear of dropped rows")
    add("--json", action="store_true", help="print what is found as JSON")


def run(args: argparse.Namespace) -> int:
    """Check one batch; 1 if something is wrong with it."""
    from roborefer_spatial.host.locate import find_host
    from roborefer_spatial.host.model_folder import open_model_folder
    from roborefer_spatial.host.options import LaunchOptions
    from roborefer_spatial.host.prepare import prepare

    if args.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {args.batch_size}")
    if not args.data.is_file():
        raise ValueError(f"{args.data}: no such training file")
    host = find_host(args.host)
    folder = open_model_folder(args.model_name_or_path) if args.model_name_or_path else None
    found: dict[str, Any] = {"data": str(args.data), "problem": None, "rows": [], "batch": None, "used": None}
    try:
        prepare(host, LaunchOptions())
        _examine(args, folder, found)
    except (ValueError, ImportError) as error:
        found["problem"] = str(error)
    if args.json:
        print(json.dumps(found | {"ok": found["problem"] is None}, indent=2))
    else:
        _print(found, stand_ins=folder is None)
    return terminal.FAILED if found["problem"] else terminal.DONE


def _examine(args: argparse.Namespace, folder: ModelFolder | None, found: dict[str, Any]) -> None:
    """Put one batch through the collator and note what is found; ValueError says what is wrong."""
    dataset = _dataset(args, folder)
    samples = [dataset[index] for index in range(min(args.batch_size, len(dataset)))]
    batch = _collated(dataset.tokenizer, samples)
    check_batch(batch, samples, dataset.tokenizer)
    check_upright(dataset)
    found["rows"] = describe(samples, dataset)
    media = {name: [len(tensors), *tensors[0].shape] for name, tensors in batch["media"].items() if tensors}
    found["batch"] = {"input_ids": list(batch["input_ids"].shape), "media": media}
    if args.global_batch_size is None:
        return
    found["used"] = {"rows": len(dataset), "an_epoch": rows_used(len(dataset), args.global_batch_size)}
    if found["used"]["an_epoch"] == 0:
        raise ValueError(
            f"{args.data}: a global batch of {args.global_batch_size} takes more than the {len(dataset)} "
            "row(s), so that the sampler drops every one"
        )


def _print(found: dict[str, Any], *, stand_ins: bool) -> None:
    if stand_ins:
        print("no --model-name-or-path: byte-level tokenizer, 448-pixel images")
    for row in found["rows"]:
        total = "" if row["tokens_with_images"] is None else f", {row['tokens_with_images']} with the images"
        shape = None if row["tensors"] is None else tuple(row["tensors"])
        print(
            f"row {row['row']}: {row['images']} image(s), tensors {shape}, {row['tokens']} tokens{total}, "
            f"answer {row['answer']!r}"
        )
    if found["batch"]:
        media = [f"{name} {count} x {tuple(shape)}" for name, (count, *shape) in found["batch"]["media"].items()]
        print(f"batch: input_ids {tuple(found['batch']['input_ids'])}, {', '.join(media)}")
    if found["used"]:
        used = found["used"]
        print(f"rows: {used['rows']}, of which RoboRefer's sampler takes {used['an_epoch']} an epoch")
    if found["problem"]:
        print(f"problem: {found['problem']}", file=sys.stderr)
    else:
        print(OK)


def _dataset(args: argparse.Namespace, folder: ModelFolder | None) -> Any:
    from roborefer_spatial.host.api import import_host
    from roborefer_spatial.host.data.dataset import LazySupervisedSpatialDataset
    from roborefer_spatial.host.data.preprocessing import checkpoint_tokenizer, image_settings, stand_in_tokenizer

    depth = args.depth_path is not None
    if folder is None:
        tokenizer = stand_in_tokenizer(model_max_length=args.model_max_length, depth=depth)
    else:
        tokenizer = checkpoint_tokenizer(folder, model_max_length=args.model_max_length, depth=depth)
    settings = import_host("llava.train.args").DataArguments(image_aspect_ratio=args.image_aspect_ratio)
    settings.is_multimodal = True
    for name, value in image_settings(folder, args.image_aspect_ratio).items():
        setattr(settings, name, value)
    return LazySupervisedSpatialDataset(
        args.data, args.image_folder, tokenizer, settings, depth_path=args.depth_path,
        global_batch_size=args.global_batch_size,
    )  # fmt: skip


def _collated(tokenizer: Any, samples: list[dict[str, Any]]) -> dict[str, Any]:
    from roborefer_spatial.host.api import import_host

    batch = import_host("llava.data.collate").DataCollator(tokenizer=tokenizer)(samples)
    assert isinstance(batch, dict)
    return batch


def check_upright(dataset: Any) -> None:
    """Look at the head of every picture of the file; ValueError for those that an EXIF tag turns."""
    names = dict.fromkeys(path for row in dataset.list_data_dict for path in row.get("image", ()))
    turned = [name for name in names if orientation_of_file(dataset.image_folder / name) != 1]
    if turned:
        raise ValueError(
            f"{dataset.data_path}: {len(turned)} of {len(names)} pictures are to be turned by their EXIF orientation, "
            f"first {turned[0]}: some readers turn such a picture and others do not, so that points would mean "
            "different places; `build` makes upright copies, so build the file again"
        )


def check_batch(batch: dict[str, Any], samples: list[dict[str, Any]], tokenizer: Any) -> None:
    """Compare a collated batch with its samples.

    Raises
    ------
    ValueError
        If rows, media or trained tokens got lost on the way.
    """
    if len(batch["input_ids"]) != len(samples):
        raise ValueError(f"the batch has {len(batch['input_ids'])} rows, {len(samples)} went in")
    for name in tokenizer.media_tokens:
        expected = sum(len(sample[name]) for sample in samples if sample.get(name) is not None)
        if len(batch["media"][name]) != expected:
            raise ValueError(f"the batch has {len(batch['media'][name])} {name} tensors, {expected} went in")
    for index, sample in enumerate(samples):
        trained = int((batch["labels"][index] >= 0).sum())
        wanted = int((sample["labels"] >= 0).sum())
        if trained != wanted:
            raise ValueError(f"row {index}: {trained} answer tokens in the batch, {wanted} in the sample")
        if wanted == 0:
            raise ValueError(f"row {index}: no answer token would be trained on; the chat template does not fit")


def describe(samples: list[dict[str, Any]], dataset: Any) -> list[dict[str, Any]]:
    """Return for each sample: images, shapes, tokens, and the answer as the labels hold it."""
    rows = []
    for index, sample in enumerate(samples):
        there = sample["image"] is not None
        rows.append(
            {
                "row": index,
                "images": len(dataset.list_data_dict[index]["image"]) if there else 0,
                "tensors": list(sample["image"].shape) if there else None,
                "tokens": len(sample["input_ids"]),
                "tokens_with_images": dataset.total_tokens(sample),
                "answer": dataset.tokenizer.decode(sample["labels"][sample["labels"] >= 0]),
            }
        )
    return rows
