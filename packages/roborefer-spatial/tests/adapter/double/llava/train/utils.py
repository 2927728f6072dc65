"""Finished folders, and the config that a run trains with."""

from pathlib import Path


def get_checkpoint_path(output_dir, checkpoint_prefix="checkpoint"):
    folder = Path(output_dir).absolute()
    if list(folder.glob("config.json")):
        return str(folder), False
    found = sorted(folder.glob(f"{checkpoint_prefix}-*"), key=lambda path: int(path.name.split("-")[1]))
    return (str(found[-1]), True) if found else (None, True)


def prepare_config_for_training(config, model_args, training_args, data_args):
    config.model_dtype = "torch.bfloat16" if training_args.bf16 == "True" else "torch.float16"
