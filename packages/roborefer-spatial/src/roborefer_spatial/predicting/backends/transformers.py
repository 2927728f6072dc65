"""Any vision-language model of the transformers library: `AutoModelForImageTextToText` and its processor.

Nothing that a checkpoint carries is executed: safetensors weights only, no remote code.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from roborefer_spatial import torchvision_cpu
from roborefer_spatial.images import read_rgb
from roborefer_spatial.predicting.backends import Answer, Request, Unavailable
from roborefer_spatial.predictions import Sizes

Dtype = Literal["auto", "float32", "float16", "bfloat16"]
EXTRA = "predict"


def same_answers(options: Options) -> frozenset[str]:
    """Name the options that do not change answers."""
    return frozenset({"device"})


def takes_depth(options: Options) -> bool:
    """Whether depth maps reach the model."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Which model, and where it runs.

    Attributes
    ----------
    model
        Checkpoint folder, or a name on the hub.
    device
        torch device; by default this process's GPU, or the CPU where there is none.
    dtype
        Of the weights: "auto" as stored.
    max_new_tokens
        Longest answer in tokens.
    """

    model: str
    device: str | None = None
    dtype: Dtype = "auto"
    max_new_tokens: int = 64

    def __post_init__(self) -> None:
        if self.dtype not in get_args(Dtype):
            raise ValueError(f"--dtype {self.dtype}: known are {', '.join(get_args(Dtype))}")
        if self.max_new_tokens < 1:
            raise ValueError(f"--max-new-tokens is {self.max_new_tokens}: expected at least 1")


def create(options: Options) -> TransformersBackend:
    """Load the model."""
    return TransformersBackend(options)


class TransformersBackend:
    """Greedy answers of one model, through its own chat template."""

    def __init__(self, options: Options) -> None:
        torchvision_cpu.make_importable()
        import torch
        import transformers
        from accelerate import PartialState
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.options = options
        self.device = torch.device(options.device) if options.device else PartialState().device
        if not sys.stderr.isatty():
            transformers.utils.logging.disable_progress_bar()  # a log gets lines, not bars
        dtype = "auto" if options.dtype == "auto" else getattr(torch, options.dtype)
        renamed = tuple(map(int, transformers.__version__.split(".")[:2])) >= (4, 56)
        name = "dtype" if renamed else "torch_dtype"
        try:
            self.processor: Any = AutoProcessor.from_pretrained(options.model, trust_remote_code=False)
            self.model: Any = AutoModelForImageTextToText.from_pretrained(
                options.model, use_safetensors=True, trust_remote_code=False, **{name: dtype}
            )
        except (OSError, ValueError) as error:
            raise Unavailable(f"--model {options.model}: cannot be loaded: {error}") from error
        if self.processor.chat_template is None:
            raise Unavailable(f"--model {options.model}: its processor has no chat template")
        self.model.to(self.device).eval()
        self.processor.tokenizer.padding_side = "left"  # generation goes on from the last token
        if self.processor.tokenizer.pad_token is None:
            self.processor.tokenizer.pad_token = self.processor.tokenizer.eos_token

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer a batch."""
        import torch

        inputs = self.inputs(requests)
        seen = seen_sizes(inputs, self.processor, [len(request.images) for request in requests])
        inputs = inputs.to(self.device, dtype=self.model.dtype)
        with torch.inference_mode():
            tokens = self.model.generate(
                **inputs,
                max_new_tokens=self.options.max_new_tokens,
                do_sample=False,
                num_beams=1,
                # what follows a shorter answer of the batch must be a token that decoding leaves out
                pad_token_id=self.processor.tokenizer.pad_token_id,
            )
        answers = tokens[:, inputs["input_ids"].shape[1] :]
        texts: list[str] = self.processor.batch_decode(answers, skip_special_tokens=True)
        return [Answer(text.strip(), None, sizes) for text, sizes in zip(texts, seen)]

    def inputs(self, requests: Sequence[Request]) -> Any:
        """Return the model's inputs: images first, then the prompt, as one user turn."""
        from PIL import Image

        conversations = [
            [
                {
                    "role": "user",
                    "content": [
                        *({"type": "image", "image": Image.fromarray(read_rgb(Path(path)))} for path in request.images),
                        {"type": "text", "text": request.prompt},
                    ],
                }
            ]
            for request in requests
        ]
        apply = self.processor.apply_chat_template
        padding: dict[str, Any] = {"padding": True}
        if "processor_kwargs" in inspect.signature(apply).parameters:  # transformers 5
            padding = {"processor_kwargs": padding}
        return apply(
            conversations,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            **padding,
        )


def seen_sizes(inputs: Any, processor: Any, counts: Sequence[int]) -> list[Sizes | None]:
    """Return, for each question, the (width, height) in pixels at which the processor gave its images.

    Known for processors that say the grid of patches of each image (Qwen), and for those that make one picture
    of one size of each (SigLIP, CLIP). None for others, such as tiled ones.
    """
    total = sum(counts)
    grid, pixels = inputs.get("image_grid_thw"), inputs.get("pixel_values")
    patch = getattr(processor.image_processor, "patch_size", None)
    sizes: list[tuple[int, int]]
    if grid is not None and isinstance(patch, int) and len(grid) == total:
        sizes = [(int(columns) * patch, int(rows) * patch) for _, rows, columns in grid.tolist()]
    elif pixels is not None and pixels.ndim == 4 and len(pixels) == total:
        sizes = [(int(pixels.shape[3]), int(pixels.shape[2]))] * total
    else:
        return [None] * len(counts)
    found: list[Sizes | None] = []
    for count in counts:
        found.append(tuple(sizes[:count]))
        sizes = sizes[count:]
    return found
