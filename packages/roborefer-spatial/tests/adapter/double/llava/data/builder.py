"""The registries, and mixtures `a+b` of registered sets."""

import os

import torch
import yaml
from hydra.utils import instantiate
from torch.utils.data import ConcatDataset

from llava.data.datasets_mixture import DATASETS_LEGACY

DATASETS, MIXTURES = {}, {"all_of_it": ["a", "b"]}
for _name in os.environ.get("VILA_DATASETS", "default").split(","):
    if _name != "default":
        with open(_name) as _file:  # noqa: PTH123
            DATASETS.update(yaml.safe_load(_file))


def parse_mixture(mixture):
    return sorted(mixture.split("+"))


def build_dataset(mixture, data_args, training_args, tokenizer):
    world_size = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    rows = training_args.per_device_train_batch_size * world_size * training_args.gradient_accumulation_steps
    datasets = []
    for name in parse_mixture(mixture):
        if name in DATASETS:
            build = instantiate(DATASETS[name], _partial_=True)
            datasets.append(build(tokenizer=tokenizer, data_args=data_args, global_batch_size=rows))
        elif name in DATASETS_LEGACY:
            datasets.append(build_dataset_legacy(name, data_args, training_args, tokenizer))
        else:
            raise ValueError(f"Dataset '{name}' is not found in the registries.")
    return ConcatDataset(datasets)


def build_dataset_legacy(name, data_args, training_args, tokenizer):
    from llava.data.dataset import LazySupervisedSpatialDataset

    dataset = DATASETS_LEGACY[name]
    data_args.depth_path = dataset.depth_path
    return LazySupervisedSpatialDataset(
        tokenizer=tokenizer,
        data_path=dataset.data_path,
        image_folder=dataset.image_path,
        data_args=data_args,
        training_args=training_args,
    )
