"""Repairs of the model code, made after its import: attention, packing, `generate_content`."""

from __future__ import annotations

import functools
from typing import Any

from roborefer_spatial.host.api import import_host
from roborefer_spatial.host.locate import Host
from roborefer_spatial.host.options import LaunchOptions

_FLASH = "flash_attention_2"


def repair_attention(host: Host, options: LaunchOptions) -> None:
    """Ask for sdpa wherever the host hard-codes flash_attention_2."""
    tower = import_host("llava.model.multimodal_encoder.siglip_encoder").SiglipVisionModel
    load = tower.from_pretrained.__func__

    @functools.wraps(load)
    def from_pretrained(cls: Any, *args: Any, **kwargs: Any) -> Any:
        return load(cls, *args, **_without_flash(kwargs))

    tower.from_pretrained = classmethod(from_pretrained)

    architecture = import_host("llava.model.llava_arch")
    build = architecture.build_llm_and_tokenizer

    @functools.wraps(build)
    def build_llm_and_tokenizer(*args: Any, **kwargs: Any) -> Any:
        return build(*args, **_without_flash(kwargs))

    architecture.build_llm_and_tokenizer = build_llm_and_tokenizer


def _without_flash(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {**kwargs, "attn_implementation": "sdpa"} if kwargs.get("attn_implementation") == _FLASH else kwargs


def repair_packing(host: Host, options: LaunchOptions) -> None:
    """Leave packing off unless a caller asks for it."""
    model = import_host("llava.model.language_model.llava_llama").LlavaLlamaModel
    forward = model.forward

    @functools.wraps(forward)
    def unpacked(self: Any, *args: Any, packing: bool = False, **kwargs: Any) -> Any:
        return forward(self, *args, packing=packing, **kwargs)

    model.forward = unpacked


def repair_generate_content(host: Host, options: LaunchOptions) -> None:
    """Give `generate_content` the vision tower's image processor in every image mode."""
    owner = import_host("llava.model.llava_arch").LlavaMetaForCausalLM
    generate = owner.generate_content

    @functools.wraps(generate)
    def generate_content(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.config.image_processor = self.get_vision_tower().image_processor
        try:
            return generate(self, *args, **kwargs)
        finally:
            del self.config.image_processor  # a processor in the config cannot be saved as JSON

    owner.generate_content = generate_content
