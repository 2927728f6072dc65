"""`LazySupervisedSpatialDataset`: the host's data module for x3 files, in every image mode.

Shapes: N images or tiles, T tokens; `image` is (N, 3, H, W) float32 as the checkpoint's processor makes it.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from PIL import Image
from torch.utils.data import Dataset

from roborefer_spatial.host.api import HostFunctions, host_functions
from roborefer_spatial.host.data.conversation import Turn, check_opening, media_opening, opened_conversation
from roborefer_spatial.host.data.image_modes import check_mode, processed
from roborefer_spatial.host.data.open_images import open_depth, open_rgb
from roborefer_spatial.host.data.rows import Row, read_rows
from roborefer_spatial.host.data.sampler import warn_of_dropped_rows

logger = logging.getLogger(__name__)

IGNORE_INDEX = -100
BLOCK_SIZES = {"image": "block_sizes", "depth": "depth_block_sizes"}
"""Key of the block sizes in a sample, as the host's collator reads it."""


class LazySupervisedSpatialDataset(Dataset):
    """x3 rows as RoboRefer trains on them.

    Takes the place of the host's class of the same name (same constructor) and works where that one stops:
    every `image_aspect_ratio` (`resize`, `pad`, `dynamic`, `dynamic_s2`), JSON and JSONL, several images a
    row, and no `depth_path` attribute needed.

    Parameters
    ----------
    data_path : path
        JSON or JSONL; rows as in `rows.read_rows`.
    image_folder : path or None
        What relative image paths start from; None: the folder of `data_path`.
    tokenizer : PreTrainedTokenizer
        The checkpoint's, with the host's `media_token_ids`.
    data_args : DataArguments
        The host's; read: `image_aspect_ratio`, `image_processor`, `min_tiles`, `max_tiles`, `s2_scales`.
    training_args : TrainingArguments or None
        Only the host's legacy constructor passes it. With it, `data_args.depth_path` counts, as in the host;
        without it only the argument `depth_path` does, because the host leaves another set's value there.
    depth_path : path or None
        Folder of depth maps, which switches depth on: every row then needs `depth`, one 3-channel file per
        image and of its size.
    global_batch_size : int or None
        Rows that one optimizer step takes (world x batch x accumulation), passed by the host's registry; used
        to warn of rows that its sampler drops.
    warn_dropped : bool
        Whether to; False where another sampler takes every row.

    Raises
    ------
    ValueError
        For a bad file, and for depth without a `<depth>` token in the tokenizer.
    AssertionError
        If the first row's prompt does not begin with exactly one image token per image.
    """

    def __init__(
        self,
        data_path: str | os.PathLike[str],
        image_folder: str | os.PathLike[str] | None = None,
        tokenizer: Any = None,
        data_args: Any = None,
        training_args: Any = None,
        *,
        depth_path: str | os.PathLike[str] | None = None,
        global_batch_size: int | None = None,
        warn_dropped: bool = True,
    ) -> None:
        super().__init__()
        if tokenizer is None or data_args is None:
            raise ValueError("LazySupervisedSpatialDataset needs tokenizer and data_args, as the host passes them")
        check_mode(data_args.image_aspect_ratio)
        if depth_path is None and training_args is not None:
            depth_path = getattr(data_args, "depth_path", None)
        self.data_path = Path(data_path)
        self.image_folder = Path(image_folder) if image_folder is not None else self.data_path.resolve().parent
        self.depth_folder = Path(depth_path) if depth_path is not None else None
        self.tokenizer = tokenizer
        self.data_args = data_args
        self.host: HostFunctions = host_functions()
        self.list_data_dict: list[Row] = read_rows(self.data_path)
        if self.enable_depth and "depth" not in tokenizer.media_token_ids:
            raise ValueError(
                f"{self.data_path}: depth_path is {self.depth_folder}, but the tokenizer has no <depth> "
                "token: train with --enable_depth True, or leave depth_path out"
            )
        self._check_first_row()
        if warn_dropped and global_batch_size is not None:
            warn_of_dropped_rows(len(self), global_batch_size, str(self.data_path))
        logger.info("%s: %d rows, image mode %s", self.data_path, len(self), data_args.image_aspect_ratio)

    @property
    def enable_depth(self) -> bool:
        """Whether rows bring depth maps."""
        return self.depth_folder is not None

    def __len__(self) -> int:
        return len(self.list_data_dict)

    @property
    def lengths(self) -> list[int]:
        """Rough token count of each row, as the host's group samplers want it."""
        tokens = getattr(self.data_args, "num_image_tokens", 128)
        return [_words(row) + tokens * len(row.get("image", [])) for row in self.list_data_dict]

    @property
    def modality_lengths(self) -> list[int]:
        """Words of each row, negative for rows without an image."""
        return [_words(row) if "image" in row else -_words(row) for row in self.list_data_dict]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return `input_ids` (T,), `labels` (T,), `image` (N, 3, H, W); by mode `depth`, `block_sizes`."""
        return self._encoded(index)[0]

    def _encoded(self, index: int) -> tuple[dict[str, Any], str]:
        """Return a sample, and its first turn as the tokenizer got it (tiled, in `dynamic` mode)."""
        turns, paths = self._turns(index), self._images(index)
        where = f"{self.data_path}, row {index}"
        extra: dict[str, Any] = {"image": None}
        if paths:
            images = [open_rgb(path, f"{where}, image") for path in paths]
            extra = self._processed(turns, images, "image")
            if self.enable_depth:
                extra |= self._processed(turns, self._depths(index, images, where), "depth")
        prompt = turns[0]["value"]
        encoded = self.host.preprocess([turns], self.tokenizer, has_image=bool(paths))
        sample = {"input_ids": encoded["input_ids"][0], "labels": encoded["labels"][0], **extra}
        self._check_media(sample, where)
        return sample, prompt

    def _check_first_row(self) -> None:
        """Assert that the first prompt opens with its images' tokens, as text and as the tokenizer has it."""
        images = len(self._images(0))
        check_opening(self._turns(0)[0]["value"], images, with_depth=self.enable_depth and images > 0)
        sample, prompt = self._encoded(0)
        opening = media_opening(prompt)
        wanted = self.tokenizer(opening, add_special_tokens=False).input_ids
        ids = sample["input_ids"].tolist()
        if not any(ids[start : start + len(wanted)] == wanted for start in range(len(ids))):
            raise AssertionError(
                f"{self.data_path}, row 0: the prompt must begin with {opening!r} ({images} image(s)), "
                f"but the tokens say {self.tokenizer.decode(ids)!r}"
            )
        if not (sample["labels"] != IGNORE_INDEX).any():
            raise AssertionError(
                f"{self.data_path}, row 0: no token of the answer is trained on; the chat template does "
                "not fit: "
                f"{self.tokenizer.decode(ids)!r}"
            )

    def _turns(self, index: int) -> list[Turn]:
        row = self.list_data_dict[index]
        images = len(row.get("image", []))
        return opened_conversation(row["conversations"], images, with_depth=self.enable_depth and images > 0)

    def _images(self, index: int) -> list[Path]:
        return [self.image_folder / path for path in self.list_data_dict[index].get("image", [])]

    def _depths(self, index: int, images: list[Image.Image], where: str) -> list[Image.Image]:
        assert self.depth_folder is not None
        names = self.list_data_dict[index].get("depth")
        if names is None:
            raise ValueError(f"{where}: no `depth`, but depth_path is {self.depth_folder}; every row needs one")
        return [
            open_depth(self.depth_folder / name, image.size, f"{where}, depth")
            for name, image in zip(names, images, strict=True)
        ]

    def _processed(self, turns: list[Turn], images: list[Image.Image], kind: str) -> dict[str, Any]:
        prompt = turns[0]["value"]
        tensors, turns[0]["value"], blocks = processed(self.host, images, prompt, self.data_args, kind)
        return {kind: tensors} if blocks is None else {kind: tensors, BLOCK_SIZES[kind]: blocks}

    def _check_media(self, sample: dict[str, Any], where: str) -> None:
        """Compare media tokens with media tensors; the host's collator no longer does."""
        for kind in ("image", "depth") if self.enable_depth else ("image",):
            tensors = sample.get(kind)
            blocks = sample.get(BLOCK_SIZES[kind])
            expected = 0 if tensors is None else len(tensors) if blocks is None else len(blocks)
            found = int((sample["input_ids"] == self.tokenizer.media_token_ids[kind]).sum())
            if found != expected:
                raise ValueError(
                    f"{where}: {found} {kind} token(s) for {expected} {kind}(s) in mode "
                    f"{self.data_args.image_aspect_ratio}"
                )
        tokens, limit = self.total_tokens(sample), self.tokenizer.model_max_length
        if tokens is not None and tokens > limit:
            raise ValueError(
                f"{where}: {tokens} tokens with its images, over model_max_length {limit}; the host "
                "would cut the answer off. Raise --model_max_length or choose image_aspect_ratio resize"
            )

    def total_tokens(self, sample: dict[str, Any]) -> int | None:
        """Count what the model will see: a media token becomes an image's tokens and a line break.

        None in `dynamic_s2` mode, where it depends on the model, and without `data_args.num_image_tokens`.
        """
        per_image = getattr(self.data_args, "num_image_tokens", None)
        if per_image is None or self.data_args.image_aspect_ratio == "dynamic_s2":
            return None
        media = [sample[kind] for kind in ("image", "depth") if sample.get(kind) is not None]
        return int(len(sample["input_ids"]) + per_image * sum(map(len, media)))


def _words(row: Row) -> int:
    return sum(len(turn["value"].split()) for turn in row["conversations"])
