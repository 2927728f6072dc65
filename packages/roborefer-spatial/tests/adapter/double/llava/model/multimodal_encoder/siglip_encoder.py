"""The vision tower: flash attention whatever is installed."""

from types import SimpleNamespace

from llava.model.multimodal_encoder.intern.flash_attention import FlashAttention  # noqa: F401
from llava.model.multimodal_encoder.vision_encoder import VisionTower


class SiglipVisionModel:
    def __init__(self, attn_implementation):
        self.attn_implementation = attn_implementation

    @classmethod
    def from_pretrained(cls, name, attn_implementation=None, torch_dtype=None):
        return cls(attn_implementation)


class SiglipVisionTower(VisionTower):
    def __init__(self, name, config):
        self.vision_tower = SiglipVisionModel.from_pretrained(name, attn_implementation="flash_attention_2")
        self.image_processor = SimpleNamespace(name="the tower's")
