"""A vision-language model that a CPU trains in a minute, from transformers' own classes and random weights.

LLaVA (a SigLIP tower, a projector, a Llama decoder) of 0.2 M parameters for Task 2B. The two images of a
question enter as one: luminance of the original, luminance of the inpainted view and their colour difference
are the three channels (early fusion, as in change detection: Daudt et al., ICIP 2018, "FC-EF"). So one set of
image tokens is enough, and what changed is visible to the first layer. All else, the chat template, the
greedy decoding and the answer as text, is what a large model has too, and `predict --backend transformers`
runs it unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import (
    AutoImageProcessor,
    AutoProcessor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
)
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.image_utils import make_flat_list_of_images

from roborefer_spatial.images import read_rgb
from roborefer_spatial.sample import Sample

IMAGE_PX, PATCH_PX, WIDTH = 72, 12, 64
_SPECIAL = ["<pad>", "<eos>", "<image>", "<user>", "<assistant>"]
_TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% elif loop.first %}<image>{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
_DIFFERENCE_GAIN = 4.0


class FusedImageProcessor(BaseImageProcessor):
    """Hands on images that `PairProcessor` has made already."""

    model_input_names = ["pixel_values"]

    def preprocess(self, images: Any, return_tensors: str | None = None, **_: Any) -> BatchFeature:
        """Return `pixel_values`, the (3, IMAGE_PX, IMAGE_PX) float32 arrays that were given."""
        return BatchFeature({"pixel_values": make_flat_list_of_images(images)}, tensor_type=return_tensors)


class PairProcessor(LlavaProcessor):
    """LLaVA's processor with every two images fused into one, before it counts images and image tokens."""

    def __call__(self, images: Any = None, text: Any = None, **options: Any) -> BatchFeature:
        """Return the model's inputs; `images` come in pairs, `text` has one `<image>` for a pair."""
        return super().__call__(images=None if images is None else fuse_pairs(images), text=text, **options)


def fuse_pairs(images: Any) -> list[NDArray[np.float32]]:
    """Turn every two Pillow images into one of three channels: both luminances and the colour difference.

    Returns
    -------
    list of array
        A (3, IMAGE_PX, IMAGE_PX) float32 for each pair.

    Raises
    ------
    ValueError
        An odd number of images.
    """
    flat = make_flat_list_of_images(images)
    if len(flat) % 2:
        raise ValueError(f"images come in pairs (original, inpainted), got {len(flat)}")
    return [_fuse(*flat[start : start + 2]) for start in range(0, len(flat), 2)]


def _fuse(original: Any, inpainted: Any) -> NDArray[np.float32]:
    size = (IMAGE_PX, IMAGE_PX)
    first, second = (np.asarray(image.convert("RGB").resize(size), np.float32) / 255 for image in (original, inpainted))
    difference = np.abs(first - second).mean(axis=-1) * _DIFFERENCE_GAIN
    return np.stack([2 * (first @ _LUMINANCE) - 1, 2 * (second @ _LUMINANCE) - 1, difference])


class _PairConfig(PretrainedConfig):
    """The key under which transformers finds both processors by name."""

    model_type = "roborefer-spatial-demo-pair"


AutoImageProcessor.register(_PairConfig, slow_image_processor_class=FusedImageProcessor, exist_ok=True)
AutoProcessor.register(_PairConfig, PairProcessor, exist_ok=True)


def make_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of the texts; every digit and bracket is a token of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[\d\[\](),.]"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(list(texts) * 2, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        additional_special_tokens=_SPECIAL[2:],
        model_input_names=["input_ids", "attention_mask"],
    )


def build(samples: Sequence[Sample], seed: int) -> tuple[LlavaForConditionalGeneration, PairProcessor]:
    """Return a model with random weights, and its processor, for questions like those of the samples."""
    texts = sorted({text for sample in samples for text in (sample.prompt, sample.answer)})
    tokenizer = make_tokenizer(texts)
    processor = PairProcessor(
        image_processor=FusedImageProcessor(),
        tokenizer=tokenizer,
        patch_size=PATCH_PX,
        vision_feature_select_strategy="full",
        chat_template=_TEMPLATE,
        image_token="<image>",
    )
    vision = SiglipVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=IMAGE_PX,
        patch_size=PATCH_PX,
        vision_use_head=False,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        initializer_range=0.05,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_seq_length=(IMAGE_PX // PATCH_PX) ** 2,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    return LlavaForConditionalGeneration(config), processor


def encode(processor: PairProcessor, samples: Sequence[Sample]) -> dict[str, Tensor]:
    """Return the training tensors of N samples: input_ids, labels (N, L), pixel_values (N, 3, h, w)."""
    from PIL import Image

    conversations = [
        [
            {
                "role": "user",
                "content": [
                    *({"type": "image"} for _ in sample.image),
                    {"type": "text", "text": sample.prompt},
                ],
            },
        ]
        for sample in samples
    ]
    prompts = [processor.apply_chat_template(c, add_generation_prompt=True) for c in conversations]
    images = [[Image.fromarray(read_rgb(Path(path))) for path in sample.image] for sample in samples]
    asked = processor(text=prompts, images=images)
    tokenizer = processor.tokenizer
    answers = tokenizer([sample.answer + tokenizer.eos_token for sample in samples], add_special_tokens=False)
    rows = list(zip(asked["input_ids"], answers["input_ids"]))
    length = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = torch.full((len(rows), length), tokenizer.pad_token_id)
    labels = torch.full((len(rows), length), -100)
    for row, (prompt, answer) in enumerate(rows):
        ids[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        labels[row, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
    pixels = torch.from_numpy(np.stack(asked["pixel_values"]))
    return {"input_ids": ids, "labels": labels, "pixel_values": pixels}


def train(
    model: nn.Module,
    data: dict[str, Tensor],
    pad_token_id: int,
    *,
    steps: int,
    seed: int,
    batch_size: int = 32,
    learning_rate: float = 3e-3,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> list[float]:
    """Train with AdamW on next-token loss of the answers; return the loss of every step.

    Warm-up over 50 steps, then linear decay to a twentieth.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 50) * max(0.05, 1 - step / steps)
    )
    losses = []
    model.train()
    for step in range(steps):
        index = torch.randint(len(data["labels"]), (batch_size,), generator=generator)
        batch = {name: tensor[index] for name, tensor in data.items()}
        loss = model(**batch, attention_mask=(batch["input_ids"] != pad_token_id).long()).loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        on_step(step, losses[-1])
    model.eval()
    return losses


def save(model: LlavaForConditionalGeneration, processor: PairProcessor, folder: Path) -> None:
    """Write a checkpoint that `--backend transformers --model FOLDER` loads once this module is imported."""
    model.save_pretrained(folder, safe_serialization=True)
    processor.save_pretrained(folder)
