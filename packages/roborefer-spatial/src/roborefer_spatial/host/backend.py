"""RoboRefer itself: `LlavaLlamaModel` in this process, greedy, asked with the prompt that it is trained with.

The host's `generate_content` is not used: it writes the image tokens without the line breaks that training has,
insists on CUDA and float16, and answers one question at a time.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, get_args

from roborefer_spatial.predicting.backends import Reply, Request, Unavailable

Dtype = Literal["auto", "float32", "float16", "bfloat16"]
EXTRA = "host"


def same_answers(options: Options) -> frozenset[str]:
    """Name the options that do not change answers."""
    return frozenset()


def takes_depth(options: Options) -> bool:
    """Whether depth maps reach the model: the checkpoint decides, when it is loaded."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Which checkpoint, and where it runs.

    Attributes
    ----------
    model
        Checkpoint folder in the host's layout (`config.json`, `llm/`, `vision_tower/`, `mm_projector/`).
    device
        torch device; by default this process's GPU, or the CPU where there is none.
    host_dtype
        Of weights and activations: "auto" is bfloat16 on a GPU and float32 on the CPU.
    max_new_tokens
        Longest answer in tokens.
    """

    model: str
    device: str | None = None
    host_dtype: Dtype = "auto"
    max_new_tokens: int = 64

    def __post_init__(self) -> None:
        if self.host_dtype not in get_args(Dtype):
            raise ValueError(f"--host-dtype {self.host_dtype}: known are {', '.join(get_args(Dtype))}")
        if self.max_new_tokens < 1:
            raise ValueError(f"--max-new-tokens is {self.max_new_tokens}: expected at least 1")


def create(options: Options) -> RoboReferBackend:
    """Load the checkpoint."""
    return RoboReferBackend(options)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A question as the model takes it: token ids (T,), and tensors and block sizes of each kind of media."""

    ids: Any
    tensors: dict[str, Any]
    blocks: dict[str, Any]


class RoboReferBackend:
    """Greedy answers of a RoboRefer checkpoint."""

    def __init__(self, options: Options) -> None:
        import torch
        from accelerate import PartialState

        from roborefer_spatial.host.model import load_model

        self.options = options
        self.device = torch.device(options.device) if options.device else PartialState().device
        name = options.host_dtype
        if name == "auto":
            name = "bfloat16" if self.device.type == "cuda" else "float32"
        try:
            self.model: Any = load_model(Path(options.model), device=self.device, dtype=getattr(torch, name))
        except (OSError, ValueError, ImportError) as error:
            raise Unavailable(f"--model {options.model}: cannot be loaded: {error}") from error
        config = self.model.config
        self.images = SimpleNamespace(
            image_aspect_ratio=config.image_aspect_ratio,
            image_processor=self.model.get_vision_tower().image_processor,
            min_tiles=config.min_tiles,
            max_tiles=config.max_tiles,
            s2_scales=_scales(config.s2_scales),
        )
        self.generation = self._greedy()

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """Answer a batch; a request whose images cannot be read has its error in that place."""
        prepared: list[Any] = [self._prepared(request) for request in requests]
        good = [item for item in prepared if not isinstance(item, Exception)]
        texts = iter(self._generated(good) if good else ())
        return [item if isinstance(item, Exception) else next(texts) for item in prepared]

    def _prepared(self, request: Request) -> Any:
        """Return what the model is given for one question, or the error of its images."""
        from roborefer_spatial.host.api import host_functions, import_host
        from roborefer_spatial.host.data.conversation import with_media_tokens
        from roborefer_spatial.host.data.image_modes import processed
        from roborefer_spatial.host.data.open_images import open_depth, open_rgb

        where = f"sample {request.id}"
        media: dict[str, list[Any]] = {}
        try:
            media["image"] = [open_rgb(Path(path), where) for path in request.images]
            if request.depth is not None:
                self._check_takes_depth(request)
                pairs = zip(request.depth, media["image"], strict=True)
                media["depth"] = [open_depth(Path(path), image.size, where) for path, image in pairs]
        except ValueError as error:
            return error
        prompt = with_media_tokens(request.prompt, len(request.images), with_depth="depth" in media)
        tensors, blocks = {}, {}
        for kind, pictures in media.items():
            tensors[kind], prompt, blocks[kind] = processed(host_functions(), pictures, prompt, self.images, kind)
        tokenize = import_host("llava.utils.tokenizer").tokenize_conversation
        turn = [{"from": "human", "value": prompt}]
        return _Prepared(tokenize(turn, self.model.tokenizer, add_generation_prompt=True), tensors, blocks)

    def _check_takes_depth(self, request: Request) -> None:
        if not getattr(self.model.config, "enable_depth", False):
            raise Unavailable(
                f"sample {request.id} brings depth images and --model {self.options.model} takes none "
                "(enable_depth in its config): --depth ignore asks with the images alone"
            )

    def _generated(self, prepared: Sequence[_Prepared]) -> list[str]:
        import torch

        tokenizer = self.model.tokenizer
        ids = [item.ids for item in prepared]
        tokens = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=tokenizer.pad_token_id)
        lengths = torch.tensor([len(one) for one in ids])
        mask = torch.arange(tokens.shape[1]) < lengths[:, None]
        media: dict[str, list[Any]] = {}
        config: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        for kind in dict.fromkeys(kind for item in prepared for kind in item.tensors):
            mine = [item for item in prepared if kind in item.tensors]
            media[kind] = [t.to(self.device, self.model.dtype) for item in mine for t in item.tensors[kind]]
            blocks = [block for item in mine for block in (item.blocks[kind] or [])]
            config[kind] = {"block_sizes": blocks or [None] * len(mine)}
        with torch.inference_mode():
            answers = self.model.generate(
                input_ids=tokens.to(self.device),
                media=media,
                media_config=config,
                attention_mask=mask.to(self.device),
                generation_config=self.generation,
            )
        return [text.strip() for text in tokenizer.batch_decode(answers, skip_special_tokens=True)]

    def _greedy(self) -> Any:
        config = copy.deepcopy(self.model.default_generation_config)
        config.do_sample, config.num_beams = False, 1
        config.temperature = config.top_p = config.top_k = None
        config.max_length, config.max_new_tokens = None, self.options.max_new_tokens
        return config


def _scales(value: Any) -> list[int] | None:
    return [int(scale) for scale in value.split(",")] if isinstance(value, str) else value
