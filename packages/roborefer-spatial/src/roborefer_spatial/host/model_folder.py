"""A RoboRefer checkpoint folder: is it one, and which model arguments it was made with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roborefer_spatial.files import decode_json, read_json, read_json_object

PARTS = ("llm", "vision_tower", "mm_projector")

# The host's ModelArguments write over the checkpoint's config on every start, with defaults that are not
# RoboRefer's; so what the config says is passed on, and what it lacks is RoboRefer's own training recipe.
_CARRIED: dict[str, Any] = {
    "enable_depth": True,
    "use_depth_tower": True,
    "mm_vision_select_layer": -2,
    "mm_vision_select_feature": "cls_patch",
    "mm_use_im_start_end": False,
    "vision_resolution": -1,
    "interpolate_mode": "linear",
    "s2": False,
    "dynamic_s2": False,
    "s2_scales": "336,672,1008",
    "s2_max_split_size": 336,
    "s2_resize_output_to_scale_idx": 0,
    "num_time_tokens": 0,
    "time_token_format": "<t{t}>",
}
_TEMPLATE = "qwen2"


_MODEL_CLASS = "LlavaLlamaModel"
_ENCODERS = "llava.model.encoders."


@dataclass(frozen=True)
class ModelFolder:
    """A checkpoint in the host's layout.

    Attributes
    ----------
    path : Path
        The folder with `config.json`.
    config : mapping
        Its content.
    """

    path: Path
    config: Mapping[str, Any]

    def part(self, name: str) -> Path:
        """Return the folder of a part: `llm`, `vision_tower`, `mm_projector`, ..."""
        return self.path / name

    def arguments(self) -> list[str]:
        """Return the host's model arguments that keep this checkpoint as it is."""
        words = []
        for name, default in _CARRIED.items():
            value = self.config.get(name)
            value = default if value is None else value
            words += [f"--{name}", ",".join(map(str, value)) if isinstance(value, list) else str(value)]
        if not self.has_chat_template():
            words += ["--chat_template", _TEMPLATE]
        return words

    def has_chat_template(self) -> bool:
        """Say whether the tokenizer brings its own chat template (config.json loses the template's name)."""
        path = self.part("llm") / "tokenizer_config.json"
        return path.is_file() and bool(read_json_object(path).get("chat_template"))


def open_model_folder(path: Path) -> ModelFolder:
    """Check a checkpoint folder; a folder with `model/` in it means that one, as the host reads it.

    Raises
    ------
    ValueError
        If it is no RoboRefer checkpoint, or an adapter that has not been merged.
    """
    if not path.is_dir():
        what = "is a file" if path.exists() else "no such folder"
        raise ValueError(f"{path}: {what}; a RoboRefer checkpoint folder is wanted, such as RoboRefer-2B-SFT")
    folder = path / "model" if (path / "model" / "config.json").is_file() else path
    if (folder / "adapter_config.json").is_file():
        raise ValueError(
            f"{folder} is a LoRA adapter: merge it into its base model first, with the host's "
            "llava/utils/merge_lora_weights_and_save_hf_model.py"
        )
    file = folder / "config.json"
    if not file.is_file():
        raise ValueError(f"{folder}: no config.json; a RoboRefer checkpoint folder is wanted, such as RoboRefer-2B-SFT")
    config = read_json(file)
    _check_harmless(folder, config)
    missing = [name for name in PARTS if not (folder / name).is_dir()]
    if not isinstance(config, dict) or "llm_cfg" not in config or missing:
        what = f"no {', '.join(missing)} in it" if missing else "config.json has no llm_cfg"
        raise ValueError(f"{folder}: not a RoboRefer checkpoint ({what})")
    return ModelFolder(folder, config)


def _check_harmless(folder: Path, config: Any) -> None:
    """Refuse a checkpoint whose configs name code: the host evaluates and instantiates what they say."""
    if not isinstance(config, dict):
        return
    architectures = config.get("architectures") or [_MODEL_CLASS]
    if architectures != [_MODEL_CLASS]:
        raise ValueError(f"{folder}/config.json, architectures: only {_MODEL_CLASS} is known, got {architectures!r}")
    for kind in ("image_encoder", "video_encoder", "depth_encoder"):
        encoder = config.get(kind)
        encoder = decode_json(encoder, f"{folder}/config.json, {kind}") if isinstance(encoder, str) else encoder
        target = encoder.get("_target_") if isinstance(encoder, dict) else None
        if encoder is not None and not str(target).startswith(_ENCODERS):
            raise ValueError(f"{folder}/config.json, {kind}: must be a class of {_ENCODERS[:-1]}, got {target!r}")
    for file in sorted(folder.glob("*/config.json")):
        if "auto_map" in read_json_object(file):
            raise ValueError(f"{file}: auto_map asks to run Python files of the checkpoint, which is refused")
