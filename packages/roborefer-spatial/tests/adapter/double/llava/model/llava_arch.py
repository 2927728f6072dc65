"""Building the parts, and `generate_content`, which sets the image processor in the tiled modes only."""

from llava.model.language_model.builder import build_llm_and_tokenizer
from llava.model.multimodal_encoder.siglip_encoder import SiglipVisionTower


class LlavaMetaModel:
    def __init__(self, config, **kwargs):
        self.config = config
        self.llm = build_llm_and_tokenizer("llm", config, **kwargs)
        self.vision_tower = SiglipVisionTower("vision_tower", config)

    def get_vision_tower(self):
        return self.vision_tower


class LlavaMetaForCausalLM:
    def generate_content(self, prompt, generation_config=None, response_format=None):
        if self.config.image_aspect_ratio in ["dynamic", "dynamic_s2"]:
            self.config.image_processor = self.vision_tower.image_processor
        return self.config.image_processor.name
