"""A trainer that writes down what it would train on."""

import json
from pathlib import Path


class Trainer:
    """Stands for transformers': it logs with two arguments and seeks one weight file in a checkpoint."""

    def __init__(self, model, args, train_dataset, data_collator):
        self.model, self.args, self.train_dataset, self.data_collator = (
            model,
            args,
            train_dataset,
            data_collator,
        )

    def train(self, resume_from_checkpoint=None):
        if resume_from_checkpoint:
            self._load_from_checkpoint(resume_from_checkpoint)
        order = list(self._get_train_sampler())
        per_step = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        for step in range(self.args.max_steps):
            rows = order[step * per_step : (step + 1) * per_step]
            self.data_collator([self.train_dataset[row] for row in rows])
            self.log({"loss": 1.0, "rows": rows}, 0.0)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        if not (Path(resume_from_checkpoint) / "model.safetensors").is_file():
            raise ValueError(f"Can't find a valid checkpoint at {resume_from_checkpoint}")


class LLaVATrainer(Trainer):
    def _get_train_sampler(self):
        return list(range(len(self.train_dataset))) * self.args.max_steps

    def log(self, logs):
        with (Path(self.args.output_dir) / "log.jsonl").open("a") as file:
            file.write(json.dumps(logs) + "\n")
