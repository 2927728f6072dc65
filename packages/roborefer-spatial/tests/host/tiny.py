"""A RoboRefer checkpoint of about 300,000 random parameters: Qwen2, SigLIP, projector."""

from __future__ import annotations

import json
from pathlib import Path

IMAGE_SIDE, PATCH = 56, 14
HIDDEN, VISION_HIDDEN = 64, 48

CORPUS = [
    "You are a helpful assistant", "system user assistant", "NOT_VISIBLE",
    "Point to the object that is marked in the first image.", "[(0.123456, 0.789012)]",
    "Which object was removed? Answer with normalised coordinates [(x, y)].",
]  # fmt: skip


def make_tokenizer(folder: Path, template: str | None):
    """Byte-level BPE with Qwen2's special tokens; `template` is the host's own chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import Qwen2TokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    )  # fmt: skip
    tokenizer.train_from_iterator(CORPUS, trainer)
    fast = Qwen2TokenizerFast(
        tokenizer_object=tokenizer, unk_token="<|endoftext|>", eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )  # fmt: skip
    fast.chat_template = template
    fast.save_pretrained(folder)
    return fast


def make_checkpoint(folder: Path, host_root: Path, *, seed: int = 0) -> int:
    """Write the checkpoint in the host's layout; return its number of parameters."""
    import torch
    from transformers import (
        Qwen2Config,
        Qwen2ForCausalLM,
        SiglipImageProcessor,
        SiglipVisionConfig,
        SiglipVisionModel,
    )

    torch.manual_seed(seed)
    jinja = host_root / "llava/model/language_model/chat_templates/qwen2.jinja"
    template = jinja.read_text().replace("    ", "").replace("\n", "")
    tokenizer = make_tokenizer(folder / "llm", template)

    llm = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=HIDDEN,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=16384,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    llm.save_pretrained(folder / "llm")
    vision = SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=VISION_HIDDEN,
            intermediate_size=96,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=IMAGE_SIDE,
            patch_size=PATCH,
        )
    )
    vision.save_pretrained(folder / "vision_tower")
    SiglipImageProcessor(size={"height": IMAGE_SIDE, "width": IMAGE_SIDE}).save_pretrained(folder / "vision_tower")
    projector = make_projector(folder / "mm_projector")
    (folder / "config.json").write_text(json.dumps(make_config(folder), indent=2))
    return sum(p.numel() for model in (llm, vision, projector) for p in model.parameters())


def make_projector(folder: Path):
    """Write the projector with the host's own class, so that its names are the host's."""
    from llava.model.multimodal_projector.base_projector import MultimodalProjector, MultimodalProjectorConfig
    from transformers import PretrainedConfig

    sizes = PretrainedConfig(mm_hidden_size=VISION_HIDDEN, hidden_size=HIDDEN)
    projector = MultimodalProjector(MultimodalProjectorConfig("mlp_downsample_3x3_fix"), sizes)
    projector.save_pretrained(folder)
    return projector


def make_config(folder: Path) -> dict:
    part = lambda name: json.loads((folder / name / "config.json").read_text())  # noqa: E731
    return {
        "model_type": "llava_llama",
        "architectures": ["LlavaLlamaModel"],
        "llm_cfg": part("llm"),
        "vision_tower_cfg": part("vision_tower"),
        "mm_projector_cfg": part("mm_projector"),
        "resume_path": str(folder),
        "enable_depth": False,
        "use_depth_tower": False,
        "image_aspect_ratio": "resize",
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "cls_patch",
        "hidden_size": HIDDEN,
        "mm_hidden_size": VISION_HIDDEN,
        "num_video_frames": 8,
        "fps": 0.0,
    }


if __name__ == "__main__":
    import sys

    from roborefer_spatial.host.locate import find_host
    from roborefer_spatial.host.options import LaunchOptions
    from roborefer_spatial.host.prepare import prepare

    host = find_host()
    prepare(host, LaunchOptions(), training=False)
    print(make_checkpoint(Path(sys.argv[1]), host.root))
