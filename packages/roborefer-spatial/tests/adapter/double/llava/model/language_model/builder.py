"""The language model."""


def build_llm_and_tokenizer(model_name_or_path, config, attn_implementation=None, model_max_length=None, **kwargs):
    return {"attn_implementation": attn_implementation}
