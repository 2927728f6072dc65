"""The training: everything is bound by name, as in the host."""

import argparse
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

from llava.data import make_supervised_data_module
from llava.train.args import DataArguments, ModelArguments, TrainingArguments
from llava.train.llava_trainer import LLaVATrainer
from llava.train.utils import get_checkpoint_path, prepare_config_for_training


class Tokenizer:
    """One token per character, media tokens whole."""

    pad_token_id, model_max_length = 0, 4096
    media_tokens = {"image": "<image>"}
    media_token_ids = {"image": 1}

    def __call__(self, text, add_special_tokens=True):
        ids = []
        for index, piece in enumerate(text.split("<image>")):
            ids += ([1] if index else []) + [ord(character) + 10 for character in piece]
        return SimpleNamespace(input_ids=ids)

    def decode(self, ids):
        return "".join("<image>" if i == 1 else chr(i - 10) for i in map(int, ids))


def _parsed():
    classes = (ModelArguments, DataArguments, TrainingArguments)
    parser = argparse.ArgumentParser()
    for name, field in {f.name: f for c in classes for f in dataclasses.fields(c)}.items():
        kind = str if field.default is None or isinstance(field.default, bool) else type(field.default)
        parser.add_argument(f"--{name}", type=kind, default=field.default)
    given = vars(parser.parse_known_args()[0])  # the host has many more
    return [c(**{f.name: given[f.name] for f in dataclasses.fields(c)}) for c in classes]


def train():
    model_args, data_args, training_args = _parsed()
    resume_path, continue_training = get_checkpoint_path(training_args.output_dir)
    if not continue_training:
        print(f"Models has been ready under {training_args.output_dir}. Skip training")
        raise SystemExit(0)
    config = SimpleNamespace(resume_path=resume_path)
    prepare_config_for_training(config, model_args, training_args, data_args)
    data_args.image_processor = SimpleNamespace(size={"height": 8, "width": 8})
    data_args.s2_scales = [8, 16]
    training_args.train_batch_size = training_args.per_device_train_batch_size
    module = make_supervised_data_module(tokenizer=Tokenizer(), data_args=data_args, training_args=training_args)
    trainer = LLaVATrainer(model=SimpleNamespace(config=config), args=training_args, **module)
    Path(training_args.output_dir).mkdir(parents=True, exist_ok=True)
    trainer.train(resume_from_checkpoint=resume_path)
    state = {"global_step": training_args.max_steps, "model_dtype": config.model_dtype}
    (Path(training_args.output_dir) / "trainer_state.json").write_text(json.dumps(state))
    (Path(training_args.output_dir) / "config.json").write_text("{}")
