"""The model's forward: packing by default."""

from llava.model.llava_arch import LlavaMetaForCausalLM, LlavaMetaModel


class LlavaLlamaModel(LlavaMetaModel, LlavaMetaForCausalLM):
    def forward(self, input_ids=None, media=None, packing: bool = True, **kwargs):
        return {"packing": packing}
