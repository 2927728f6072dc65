"""The data module's functions, and the host's own spatial set, which wants tiles."""

import json

import torch
from torch.utils.data import Dataset

from llava.constants import IGNORE_INDEX
from llava.data import datasets_mixture
from llava.data.collate import DataCollator
from llava.utils.tokenizer import tokenize_conversation


def preprocess(sources, tokenizer, has_image=False, no_system_prompt=False):
    """(1, T) each; what the first turns of the conversation say is not trained on."""
    (turns,) = sources
    ids = tokenize_conversation(turns, tokenizer)
    asked = len(tokenize_conversation(turns[:-1], tokenizer, add_generation_prompt=True))
    labels = torch.where(torch.arange(len(ids)) < asked, IGNORE_INDEX, ids)
    return {"input_ids": ids[None], "labels": labels[None]}


class LazySupervisedSpatialDataset(Dataset):
    def __init__(self, data_path, image_folder, tokenizer, data_args, training_args):
        with open(data_path) as file:  # noqa: PTH123
            self.list_data_dict = json.load(file)
        self.data_args = data_args

    def __len__(self):
        return len(self.list_data_dict)

    def __getitem__(self, i):
        assert self.data_args.image_aspect_ratio in ("dynamic", "dynamic_s2"), "no need to resize"


def make_supervised_data_module(tokenizer, data_args, training_args):
    datasets_mixture.register_datasets_mixtures()
    from llava.data.builder import build_dataset

    train_dataset = build_dataset(data_args.data_mixture, data_args, training_args, tokenizer)
    training_args.sample_lens = [len(dataset) for dataset in train_dataset.datasets]
    return {"train_dataset": train_dataset, "data_collator": DataCollator(tokenizer=tokenizer)}
