"""Tokenizer and image settings of a checkpoint, or stand-ins for them, without loading a model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from roborefer_spatial.files import read_json_object
from roborefer_spatial.host.api import import_host
from roborefer_spatial.host.model_folder import ModelFolder

STAND_IN_SIDE, STAND_IN_PATCH, STAND_IN_SHRINK = 448, 14, 3
_SHRINKS = {"mlp_downsample_3x3": 3, "mlp_downsample": 2}


def checkpoint_tokenizer(folder: ModelFolder, *, model_max_length: int, depth: bool) -> Any:
    """Load a checkpoint's tokenizer and give it what the host gives it: media tokens, template, padding."""
    tokenizer = import_host("transformers").AutoTokenizer.from_pretrained(
        str(folder.part("llm")), padding_side="right", use_fast=True, trust_remote_code=False
    )
    if not folder.has_chat_template():
        tokenizer.chat_template = _host_template()
    return _prepared(tokenizer, model_max_length, depth)


def stand_in_tokenizer(*, model_max_length: int, depth: bool) -> Any:
    """Make a byte-level tokenizer with the host's chat template; its counts are upper bounds."""
    tokenizers = import_host("tokenizers")
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {character: number for number, character in enumerate(sorted(alphabet))}
    core = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = tokenizers.decoders.ByteLevel()
    tokenizer = import_host("transformers").PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        padding_side="right",
    )
    tokenizer.chat_template = _host_template()
    return _prepared(tokenizer, model_max_length, depth)


def _host_template() -> str:
    path = Path(import_host("llava.model.language_model.builder").__file__).parent / "chat_templates/qwen2.jinja"
    return path.read_text(encoding="utf-8").replace("    ", "").replace("\n", "")


def _prepared(tokenizer: Any, model_max_length: int, depth: bool) -> Any:
    constants = import_host("llava.constants")
    tokens = {**constants.MEDIA_TOKENS, **({"depth": constants.DEFAULT_DEPTH_TOKEN} if depth else {})}
    tokenizer.add_tokens(list(tokens.values()), special_tokens=True)
    tokenizer.media_tokens = tokens
    tokenizer.media_token_ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in tokens.items()}
    tokenizer.model_max_length = model_max_length
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def image_settings(folder: ModelFolder | None, mode: str) -> dict[str, Any]:
    """Return what the host's data arguments get from a model, by attribute name.

    Parameters
    ----------
    folder : ModelFolder or None
        A checkpoint; None: RoboRefer's sizes (448 pixels, patches of 14, 3x3 projector).
    mode : str
        Image mode; in `dynamic_s2` the tiles are as large as the smallest scale.
    """
    processor_class = import_host("transformers").SiglipImageProcessor
    if folder is None:
        processor = processor_class(size={"height": STAND_IN_SIDE, "width": STAND_IN_SIDE})
        patches, shrink = STAND_IN_SIDE // STAND_IN_PATCH, STAND_IN_SHRINK
        scales = [STAND_IN_SIDE, 2 * STAND_IN_SIDE, 3 * STAND_IN_SIDE]
    else:
        processor = processor_class.from_pretrained(str(folder.part("vision_tower")))
        vision = _config(folder, "vision_tower")
        patches = vision["image_size"] // vision["patch_size"]
        shrink = _shrink(_config(folder, "mm_projector").get("mm_projector_type", ""))
        scales = _scales(folder.config.get("s2_scales"))
    if mode == "dynamic_s2":
        processor.size = {"height": scales[0], "width": scales[0]}
    return {
        "image_processor": processor,
        "num_image_tokens": math.ceil(patches / shrink) ** 2,
        "s2_scales": scales,
    }


def _config(folder: ModelFolder, part: str) -> dict[str, Any]:
    return read_json_object(folder.part(part) / "config.json")


def _shrink(projector: str) -> int:
    return next((factor for prefix, factor in _SHRINKS.items() if projector.startswith(prefix)), 1)


def _scales(value: Any) -> list[int]:
    if value is None:
        return [336, 672, 1008]
    return [int(scale) for scale in (value.split(",") if isinstance(value, str) else value)]
