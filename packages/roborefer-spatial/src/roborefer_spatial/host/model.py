"""Load a RoboRefer checkpoint for prediction, on any device and in any float type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from roborefer_spatial.host.api import import_host
from roborefer_spatial.host.data.image_modes import check_mode
from roborefer_spatial.host.locate import find_host
from roborefer_spatial.host.model_folder import open_model_folder
from roborefer_spatial.host.options import LaunchOptions
from roborefer_spatial.host.prepare import prepare
from roborefer_spatial.host.repairs.inspection import installed


def load_model(path: Path, *, device: torch.device, dtype: torch.dtype) -> Any:
    """Build the host's `LlavaLlamaModel` from a checkpoint folder.

    The host's own `llava.load` puts the vision tower through float16 whatever the checkpoint holds, and
    chooses the
    conversation by the words in the folder's path; neither happens here.

    Parameters
    ----------
    path : Path
        Checkpoint folder.
    device : torch.device
        Where the model goes.
    dtype : torch.dtype
        Of all weights.

    Returns
    -------
    LlavaLlamaModel
        In evaluation mode; its tokenizer pads generated batches on the left.

    Raises
    ------
    ValueError
        If the folder is no RoboRefer checkpoint, or RoboRefer is not found.
    ImportError
        If the host cannot be imported, naming the module.
    """
    folder = open_model_folder(path)
    check_mode(folder.config.get("image_aspect_ratio"))
    prepare(find_host(), LaunchOptions(), training=False)
    auto_config = import_host("transformers").AutoConfig
    model_class = import_host("llava.model").LlavaLlamaModel
    config = auto_config.from_pretrained(str(folder.path))
    config.resume_path = str(folder.path)
    config.model_dtype = str(dtype)
    flash = installed("flash_attn") and device.type == "cuda" and dtype != torch.float32
    attention = "flash_attention_2" if flash else "sdpa"
    model = model_class(config=config, attn_implementation=attention, low_cpu_mem_usage=True)
    _add_depth_token(model)
    model.tokenizer.padding_side = "left"
    if model.tokenizer.pad_token_id is None:
        model.tokenizer.pad_token = model.tokenizer.eos_token
    return model.to(device=device, dtype=dtype).eval()


def _add_depth_token(model: Any) -> None:
    """Give a depth model's tokenizer the token that the host adds when it loads one."""
    tokenizer = model.tokenizer
    if getattr(model.config, "enable_depth", False):
        token = import_host("llava.constants").DEFAULT_DEPTH_TOKEN
        tokenizer.add_tokens([token], special_tokens=True)
        tokenizer.media_token_ids["depth"] = tokenizer.convert_tokens_to_ids(token)
        tokenizer.media_tokens["depth"] = token
    model.resize_token_embeddings(len(tokenizer))
