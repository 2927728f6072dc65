"""What the command line takes."""

from dataclasses import dataclass


@dataclass
class DataArguments:
    data_path: str = None
    is_multimodal: bool = False
    image_folder: str = None
    image_aspect_ratio: str = "resize"
    min_tiles: int = 1
    max_tiles: int = 12
    data_mixture: str = "llava_1_5_mm_align"


@dataclass
class ModelArguments:
    model_name_or_path: str = "facebook/opt-125m"


@dataclass
class TrainingArguments:
    output_dir: str = "out"
    max_steps: int = -1
    seed: int = 42
    data_seed: int = None
    bf16: str = "False"
    model_dtype: str = "torch.bfloat16"
    per_device_train_batch_size: int = 1
    train_batch_size: int = 1
    gradient_accumulation_steps: int = 1
    world_size: int = 1
    process_index: int = 0
