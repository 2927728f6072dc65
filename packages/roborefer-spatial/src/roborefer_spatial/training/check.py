"""`roborefer-spatial check-data`: one batch through RoboRefer's own collator, without loading a model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from roborefer_spatial.host.data.sampler import rows_used

OK = "OK: one-batch dataloader check passed"

_EPILOG = """\
example:
  roborefer-spatial check-data --data x3/t1_train_multi.jsonl --model_name_or_path RoboRefer-2B-SFT

Without --model_name_or_path a byte-level tokenizer and 448-pixel images stand in, nothing is downloaded, and
token
counts are upper bounds. exit status: 0 after the line "OK: one-batch dataloader check passed", otherwise 1.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="FILE", help="JSON or JSONL written by build")
    add("--model_name_or_path", type=Path, metavar="DIR", help="checkpoint for tokenizer and image sizes")
    add("--host", type=Path, metavar="DIR", help="RoboRefer checkout (default: $ROBOREFER_ROOT)")
    add("--image_folder", type=Path, metavar="DIR", help="default: the folder of the file")
    add("--depth_path", type=Path, metavar="DIR", help="folder of depth maps; rows then need `depth`")
    add("--image_aspect_ratio", choices=("resize", "pad", "dynamic", "dynamic_s2"), default="resize")
    add("--model_max_length", type=int, default=8192)
    add("--batch_size", type=int, default=4, help="rows of the batch, from the beginning of the file")
    add("--global_batch_size", type=int, help="processes x batch x accumulation, to hear of dropped rows")


def run(args: argparse.Namespace) -> int:
    """Check one batch; ValueError or AssertionError says what is wrong."""
    if args.batch_size < 1:
        raise ValueError(f"--batch_size must be at least 1, got {args.batch_size}")
    from roborefer_spatial.host.locate import find_host
    from roborefer_spatial.host.options import LaunchOptions
    from roborefer_spatial.host.prepare import prepare

    prepare(find_host(args.host), LaunchOptions())
    dataset = _dataset(args)
    count = min(args.batch_size, len(dataset))
    samples = [dataset[index] for index in range(count)]
    batch = _collated(dataset.tokenizer, samples)
    check_batch(batch, samples, dataset.tokenizer)
    for line in describe(samples, dataset):
        print(line)
    print(f"batch: input_ids {tuple(batch['input_ids'].shape)}, {_media(batch)}")
    if args.global_batch_size is not None:
        used = rows_used(len(dataset), args.global_batch_size)
        print(f"rows: {len(dataset)}, of which RoboRefer's sampler takes {used} an epoch")
        if used == 0:
            raise ValueError(
                f"{args.data}: a global batch of {args.global_batch_size} takes more than the {len(dataset)} "
                "row(s), so that the sampler drops every one"
            )
    print(OK)
    return 0


def _dataset(args: argparse.Namespace) -> Any:
    from roborefer_spatial.host.api import import_host
    from roborefer_spatial.host.data.dataset import LazySupervisedSpatialDataset
    from roborefer_spatial.host.data.preprocessing import checkpoint_tokenizer, image_settings, stand_in_tokenizer
    from roborefer_spatial.host.model_folder import open_model_folder

    depth = args.depth_path is not None
    folder = open_model_folder(args.model_name_or_path) if args.model_name_or_path else None
    if folder is None:
        print("no --model_name_or_path: byte-level tokenizer, 448-pixel images")
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


def describe(samples: list[dict[str, Any]], dataset: Any) -> list[str]:
    """Return one line per sample: images, shapes, tokens, and the answer as the labels hold it."""
    lines = []
    for index, sample in enumerate(samples):
        images = 0 if sample["image"] is None else len(dataset.list_data_dict[index]["image"])
        shape = None if sample["image"] is None else tuple(sample["image"].shape)
        answer = dataset.tokenizer.decode(sample["labels"][sample["labels"] >= 0])
        tokens = len(sample["input_ids"])
        total = dataset.total_tokens(sample)
        size = f"{tokens} tokens" if total is None else f"{tokens} tokens, {total} with the images"
        lines.append(f"row {index}: {images} image(s), tensors {shape}, {size}, answer {answer!r}")
    return lines


def _media(batch: dict[str, Any]) -> str:
    kinds = {name: tensors for name, tensors in batch["media"].items() if tensors}
    return ", ".join(f"{name} {len(tensors)} x {tuple(tensors[0].shape)}" for name, tensors in kinds.items())
